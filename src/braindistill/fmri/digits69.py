"""Real responses of one subject (V1 to V3) to 100 handwritten sixes and nines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import find_data

LABELS = {1: "6", 2: "9"}


def load_digits69(workspace: Path | None = None, *, path: Path | None = None) -> Responses:
    """Read the 6/9 data set (van Gerven, de Lange & Heskes 2010, Neural Computation 22(12), 3127–3142).

    90 training and 10 test pairs of a 28 × 28 image and its response in 3,092 voxels; one trial a stimulus and no run
    labels, so there is no noise ceiling.

    Parameters
    ----------
    path : the file ``digit69.mat``; None looks in ``$BRAINDISTILL_DATA``, ``data/`` and ``../shared/data/``.

    Raises
    ------
    UserError
        The file is missing, is no MATLAB file, or holds other arrays than the published ones.
    """
    file = path or find_data("digits69/digit69.mat")
    if file is None or not file.is_file():
        looked = f"fmri.path={path}" if path else "$BRAINDISTILL_DATA, data/ and ../shared/data/"
        raise UserError(
            f"digits69/digit69.mat not found in {looked}; get the 6/9 fMRI data of van Gerven et al. (2010, "
            "Neural Computation), passed on as digit69_28x28.mat with the code of later papers, and set fmri.path=FILE"
        )
    content = _read(file)
    parts = {split: _part(content, split, file) for split in ("train", "test")}
    joined = [np.concatenate(arrays) for arrays in zip(*parts.values(), strict=True)]
    responses = Responses(joined[0], joined[1], label=joined[2], split=joined[3], images=joined[4], image_id=joined[1])
    responses.check(str(file))
    return responses


def _read(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return loadmat(file)
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise UserError(f"{file}: not a readable MATLAB file ({error}); copy it again") from error


def _part(content: dict[str, Any], split: str, file: Path) -> tuple[np.ndarray, ...]:
    suffix = {"train": "Trn", "test": "Test"}[split]
    stim, fmri, label = f"stim{suffix}", f"fmri{suffix}", f"label{suffix}"
    missing = [key for key in (stim, fmri, label) if key not in content]
    if missing:
        found = ", ".join(key for key in content if not key.startswith("__"))
        raise UserError(f"{file}: no array {', '.join(missing)}; found {found or 'none'}")
    count = len(content[fmri])
    codes = np.ravel(content[label]).astype(int)
    if content[stim].shape != (count, 784) or len(codes) != count or not set(codes) <= set(LABELS):
        found = f"{stim} {content[stim].shape}, {len(codes)} labels out of {sorted(set(codes.tolist()))}"
        raise UserError(f"{file}: {found} for {count} responses; expected {count} × 784 pixels and labels 1 or 2")
    # the file stores each image column by column, as MATLAB does
    images = content[stim].astype(np.uint8).reshape(count, 1, 28, 28).swapaxes(2, 3)
    ids = np.array([f"digits69-{split}-{index:03d}" for index in range(1, count + 1)])
    labels = np.array([LABELS[code] for code in codes.tolist()])
    return content[fmri].astype(np.float32), ids, labels, np.full(count, split), np.ascontiguousarray(images)
