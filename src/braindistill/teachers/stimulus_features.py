"""The features of every stimulus, and their inner products: read once, shared by all folds, ROIs and subjects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.joining import find_rows
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.folds import stimuli_of
from braindistill.teachers.options import FeatureOptions

_FILE = "features.json"
_LEAST_COLUMNS = 64


@dataclass
class StimulusFeatures:
    """Features of the stimuli of a data set.

    Attributes
    ----------
    reader : how they were read; None where they were not read from pictures
    stimulus_id : (stimuli) str, sorted
    values : (stimuli × features) float32, may be a memory map; of ``images`` the uint8 pictures (stimuli × C × H × W)
    bands : name and width of each layer's block of features
    gram : (bands × stimuli × stimuli) float32 inner products of features less their mean over all stimuli, or None where
        the features are so narrow that a fold would not use them: up to half as many as there are stimuli
    """

    reader: ImageFeatures | None
    stimulus_id: np.ndarray
    values: np.ndarray
    bands: list[tuple[str, int]]
    gram: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        bands: list[tuple[str, int]] | None = None,
        stimulus_id: np.ndarray | None = None,
        reader: ImageFeatures | None = None,
    ) -> StimulusFeatures:
        """Features that are at hand (stimuli × features); without ids they are called by their row.

        Raises
        ------
        UserError
            The bands do not add up to the features; an id too many or too few.
        """
        if stimulus_id is None:
            stimulus_id = np.array([f"{row:0{len(str(len(values)))}d}" for row in range(len(values))], str)
        bands = bands or [("features", int(np.prod(values.shape[1:])))]
        if sum(width for _, width in bands) != np.prod(values.shape[1:]) or len(stimulus_id) != len(values):
            raise UserError(
                f"features are {values.shape}, with {len(stimulus_id)} stimulus ids and bands of "
                f"{[width for _, width in bands]}; expected an id a row, and bands that add up to the columns"
            )
        gram = None
        if values.ndim == 2 and values.shape[1] > len(values) / 2:
            gram = np.stack([_inner_products(values, columns) for columns in band_columns(bands)])
        return cls(reader, stimulus_id, values, bands, gram)

    def rows_of(self, names: np.ndarray) -> np.ndarray:
        """Row of each of some stimuli."""
        rows, found = find_rows(self.stimulus_id, names)
        absent = names[~found]
        if len(absent):
            raise UserError(f"{len(absent)} stimuli have no features (first: {absent[0]}); read them of the same data")
        return rows

    def save(self, folder: Path) -> None:
        """Write ``values.npy``, ``gram.npy`` (where there is one) and ``features.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "values.npy", self.values, allow_pickle=False)
        if self.gram is not None:
            np.save(folder / "gram.npy", self.gram, allow_pickle=False)
        record = {
            "reader": self.reader.describe() if self.reader else None,
            "bands": self.bands,
            "stimulus_id": self.stimulus_id.tolist(),
        }
        (folder / _FILE).write_text(json.dumps(record), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> StimulusFeatures:
        """Read back what `save` wrote; the arrays are memory maps."""
        folder = Path(folder)
        if not (folder / _FILE).is_file():
            raise UserError(f"{folder}: holds no features of stimuli ({_FILE} is missing); build them again")
        record = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        gram = folder / "gram.npy"
        return cls(
            ImageFeatures(**record["reader"]) if record["reader"] else None,
            np.array(record["stimulus_id"], str),
            np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False),
            [(name, width) for name, width in record["bands"]],
            np.load(gram, mmap_mode="r", allow_pickle=False) if gram.is_file() else None,
        )


def extract_stimuli(responses: Responses, options: FeatureOptions, device: str = "cpu") -> StimulusFeatures:
    """Read the features of every stimulus that has responses, sorted by its id.

    Raises
    ------
    UserError
        As of `picture_rows`.
    """
    rows = picture_rows(responses)
    assert responses.images is not None
    reader = ImageFeatures.of(options, tuple(responses.images.shape[1:]))  # type: ignore[arg-type]
    values = reader.extract(responses.images, device, rows)
    return StimulusFeatures.of(values, reader.bands(device), stimuli_of(responses)[0], reader)


def picture_rows(responses: Responses) -> np.ndarray:
    """Which picture each stimulus has, in the order of `stimuli_of`.

    Raises
    ------
    UserError
        The data have no pictures, or none of some stimulus.
    """
    if responses.images is None or responses.image_id is None:
        raise UserError(
            "this teacher needs the pictures of the stimuli, and the fMRI data have none; take teacher=decoder"
        )
    names, _ = stimuli_of(responses)
    place = {name: row for row, name in enumerate(responses.image_id.tolist())}
    missing = [name for name in names.tolist() if name not in place]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} stimuli have no picture (first: {missing[0]}), and encoders read pictures; "
            "leave their trials out, or take teacher=decoder"
        )
    return np.array([place[name] for name in names.tolist()])


def band_columns(bands: list[tuple[str, int]]) -> Iterator[slice]:
    """The columns of each band."""
    start = 0
    for _, width in bands:
        yield slice(start, start + width)
        start += width


def _inner_products(values: np.ndarray, columns: slice) -> np.ndarray:
    """Centred, a block of columns at a time, so that memory stays near the size of the result."""
    n = len(values)
    total = np.zeros((n, n), np.float32)
    for block in column_blocks(columns, max(_LEAST_COLUMNS, n // 2)):
        centred = values[:, block] - values[:, block].mean(0, dtype=np.float64).astype(np.float32)
        total += centred @ centred.T
    return total


def column_blocks(columns: slice, width: int) -> Iterator[slice]:
    """A range of columns in blocks of at most ``width``."""
    for start in range(columns.start, columns.stop, width):
        yield slice(start, min(start + width, columns.stop))
