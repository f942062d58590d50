"""A fitted brain teacher: encoders and decoders a fold, and what they say about images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.joining import find_rows
from braindistill.runtime import progress
from braindistill.teachers.answer import SEVERAL, UNSEEN, Answer
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.encoder import Ridge
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.linear_decoder import LinearDecoder

_BATCH = 2048
#: the temperature at which the project of 2021 passed probabilities through a softmax once more
_ORIGINAL_TEMPERATURE = 0.1


@dataclass
class Member:
    """The decoders of an ROI, one a fold; a teacher has one member unless it is an ensemble.

    Attributes
    ----------
    roi : its name; '' for all of the teacher's voxels
    columns : (voxels of the ROI) index into the teacher's voxels
    decoders : one a fold
    measured : (stimuli × classes) log-probabilities of measured responses, from folds that did not see the stimulus
    """

    roi: str
    columns: np.ndarray
    decoders: list[Any]
    measured: np.ndarray


@dataclass
class BrainTeacher:
    """A teacher fitted on responses (or on features in their place).

    Attributes
    ----------
    name : encoder | decoder | brain | features
    classes : class names; empty for an encoder
    reader : what it reads from a picture; None for a decoder alone
    stimulus_id : (stimuli) the stimuli that have measured responses, sorted
    averaged : (stimuli × voxels) float32, measured responses, averaged over repeats
    encoders : one a fold, or none
    members : decoders of one ROI, or of each ROI of an ensemble, whose log-probabilities are averaged
    held : (stimuli) the fold that holds a stimulus out, `SEVERAL` where folds are by run
    roles : (folds × stimuli) ``e`` for the encoder, ``d`` for the decoder, ``b`` for both, ``-`` for neither
    spoken : (stimuli) fold that each row of ``measured`` comes from, or `UNSEEN`
    in_sample : (stimuli) bool, rows of ``measured`` that the decoder was fitted on
    rois : name → index into the voxels
    support : (stimuli × features) that encoders in kernel form refer to, or None
    scores : ``scores.json``: out-of-fold scores
    voxel_scores : arrays a voxel, see `score_encoder`
    temperature : what log-probabilities are divided by, for ``measured`` and ``predicted`` responses
    labelled : stimuli whose labels the decoder was given
    original_protocol : probabilities pass through a softmax once more, at 0.1, as in the project of 2021
    before : stimuli that only the teachers it continues were fitted on → (the fold that held it out, its role a fold)
    """

    name: str
    classes: list[str]
    reader: ImageFeatures | None
    stimulus_id: np.ndarray
    averaged: np.ndarray
    encoders: list[Any] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    roles: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), "<U1"))
    spoken: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    in_sample: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    rois: dict[str, np.ndarray] = field(default_factory=dict)
    support: np.ndarray | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    voxel_scores: dict[str, np.ndarray] = field(default_factory=dict)
    temperature: dict[str, float] = field(default_factory=lambda: {"measured": 1.0, "predicted": 1.0})
    labelled: list[str] = field(default_factory=list)
    original_protocol: bool = False
    before: dict[str, tuple[int, str]] = field(default_factory=dict)
    _products: dict[tuple[int, int], Ridge] = field(default_factory=dict, repr=False)

    @property
    def voxel_r(self) -> np.ndarray | None:
        """Out-of-fold r of each voxel, where there is an encoder that was scored."""
        return self.voxel_scores.get("r")

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        """Log-probabilities of a row of images, calibrated.

        Parameters
        ----------
        image_id : (images) str; an id among the stimuli is answered from its measured responses
        images : (images × channels × height × width) uint8

        Raises
        ------
        UserError
            An encoder was asked for soft labels; a decoder was asked about images that were never shown.
        """
        if not self.members:
            raise UserError(
                f"teacher={self.name} has no decoder, so it gives no soft labels; take teacher=brain, or "
                "target=voxels, relations or mask"
            )
        row_of = self._rows(image_id)
        shown = row_of >= 0
        rows = np.empty((len(image_id), len(self.classes)), np.float32)
        source = np.where(shown, "measured", "predicted").astype("<U9")
        fold = np.full(len(image_id), UNSEEN, np.int16)
        rows[shown] = self._finish(self.measured()[row_of[shown]], "measured")
        source[shown] = np.where(self.in_sample[row_of[shown]], "in_sample", "measured")
        fold[shown] = self.spoken[row_of[shown]]
        others = np.flatnonzero(~shown)
        if len(others) and self.reader is None:
            raise UserError(
                f"teacher={self.name}: {len(others)} of {len(image_id)} images were never shown in the scanner "
                f"(first: {image_id[others[0]]}), and a decoder alone can't predict responses; take teacher=brain"
            )
        fold[others] = self._held_out(image_id[others])
        for k in np.unique(fold[others]).tolist():
            for index, inputs in self._read(images, others[fold[others] == k], device):
                rows[index] = self._finish(self.decode(inputs, k if k >= 0 else None), "predicted")
        if len(self.members[0].decoders) == 1:
            source[others[fold[others] >= 0]] = "in_sample"
        return Answer(rows, source, fold)

    def voxels(self, image_id: np.ndarray, images: np.ndarray, device: str, measured: bool) -> Answer:
        """Responses (images × voxels): measured ones where the image was shown, if asked for, else predicted ones.

        A stimulus is predicted by the fold that held it out, any other image by the mean over folds.
        """
        rows = np.empty((len(image_id), self.averaged.shape[1]), np.float32)
        source = np.full(len(image_id), "predicted", "<U9")
        fold = np.full(len(image_id), UNSEEN, np.int16)
        row_of = self._rows(image_id)
        shown = (row_of >= 0) & measured
        rows[shown], source[shown] = self.averaged[row_of[shown]], "measured"
        for group, encoders, k in self.encoder_views(image_id):
            asked = group[~shown[group]]
            fold[asked] = k
            for index, inputs in self._read(images, asked, device):
                rows[index] = np.mean([_respond(encoder, inputs, device) for encoder in encoders], axis=0)
        if len(self.encoders) == 1:
            source[fold >= 0] = "in_sample"
        if not self.encoders and not shown.all():
            first = image_id[np.flatnonzero(~shown)[0]]
            raise UserError(
                f"teacher={self.name} has no encoder, and {(~shown).sum()} of {len(image_id)} images have no measured "
                f"response to take (first: {first}); take teacher=brain or teacher=encoder"
            )
        return Answer(rows, source, fold)

    def encoder_views(self, image_id: np.ndarray) -> list[tuple[np.ndarray, list[Any], int]]:
        """Images by who may speak about them: (their indices, the encoders, the fold that held them out)."""
        if not self.encoders:
            return []
        fold = self._held_out(image_id)
        groups = [(np.flatnonzero(fold == k), [self.encoders[k]], k) for k in range(len(self.encoders))]
        groups.append((np.flatnonzero(fold < 0), self.encoders, UNSEEN))
        return [group for group in groups if len(group[0])]

    def decode(self, inputs: np.ndarray, fold: int | None = None) -> np.ndarray:
        """Uncalibrated log-probabilities of what the reader gives, averaged over folds and members (images × classes).

        With ``fold`` that one speaks alone.
        """
        total = np.zeros((len(inputs), len(self.classes)))
        folds = range(len(self.members[0].decoders)) if fold is None else [fold]
        for k in folds:
            encoder, responses = self.encoders[k] if self.encoders else None, None
            for m, member in enumerate(self.members):
                decoder = member.decoders[k]
                if isinstance(encoder, Ridge) and isinstance(decoder, LinearDecoder):
                    # both are linear: their product goes from features to classes, past thousands of voxels
                    if (k, m) not in self._products:
                        own = encoder.columns(member.columns)
                        self._products[k, m] = own.compose(decoder.weights, decoder.bias)
                    total += log_softmax(self._products[k, m].predict(inputs))
                    continue
                if responses is None:
                    responses = inputs if encoder is None else encoder.predict(inputs)
                total += decoder.predict(responses[:, member.columns])
        return log_softmax(total / (len(self.members) * len(folds)))

    def measured(self) -> np.ndarray:
        """Uncalibrated log-probabilities of the stimuli, averaged over members."""
        return log_softmax(np.mean([member.measured for member in self.members], axis=0))

    def roi_index(self, roi: str | None) -> np.ndarray:
        """The voxels of an ROI, as an index; of all for None."""
        if roi is None:
            return np.arange(self.averaged.shape[1])
        if roi not in self.rois:
            raise UserError(f"target.roi={roi}: the teacher has no such ROI; {nearest(roi, self.rois)}")
        return self.rois[roi]

    def fitted_on(self) -> dict[str, tuple[int, str]]:
        """Every stimulus that it, or a teacher that it continues, was fitted on, as in ``before``."""
        # of folds by run none holds out a stimulus that another session may show in other runs
        held = self.held if (self.held >= 0).all() else np.full_like(self.held, SEVERAL)
        own = zip(held.tolist(), map("".join, self.roles.T), strict=True)
        return self.before | dict(zip(self.stimulus_id.tolist(), own, strict=True))

    def _held_out(self, image_id: np.ndarray) -> np.ndarray:
        """The fold that held each image out, `UNSEEN` where none was fitted on it."""
        row_of = self._rows(image_id)
        earlier = np.array([self.before.get(name, (UNSEEN, ""))[0] for name in image_id.tolist()], np.int16)
        return np.where(row_of >= 0, self.held[row_of], earlier) if len(self.held) else earlier

    def _rows(self, image_id: np.ndarray) -> np.ndarray:
        """Row of each image among the stimuli, −1 where it is none."""
        row, found = find_rows(self.stimulus_id, image_id)
        return np.where(found, row, -1)

    def _read(self, images: np.ndarray, rows: np.ndarray, device: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, what the reader gives for them), a batch at a time."""
        assert self.reader is not None
        for start in progress(range(0, len(rows), _BATCH), "reading pictures"):
            index = rows[start : start + _BATCH]
            yield index, self.reader.extract(np.asarray(images[index]), device)

    def _finish(self, log_probabilities: np.ndarray, kind: str) -> np.ndarray:
        rows = log_softmax(log_probabilities / self.temperature[kind])
        return log_softmax(np.exp(rows) / _ORIGINAL_TEMPERATURE) if self.original_protocol else rows

    def save(self, folder: Path) -> None:
        """Write the teacher into a folder, from which `load_teacher` gives it back."""
        from braindistill.teachers.brain_storage import save_brain

        save_brain(self, folder)


def _respond(encoder: Any, inputs: np.ndarray, device: str) -> np.ndarray:
    """Predicted responses; a fine-tuned network works on the device."""
    return encoder.predict(inputs) if isinstance(encoder, Ridge) else encoder.predict(inputs, device)
