"""What must be true of `Responses`, each broken rule told in one line."""

from __future__ import annotations

from collections import Counter

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.storage import row_blocks


def check_responses(responses: np.ndarray, name: str) -> None:
    if responses.ndim != 2 or responses.dtype != np.float32:
        found = f"{responses.dtype} {responses.shape}"
        raise UserError(f"{name}: responses are {found}; expected a float32 array of trials × voxels")
    if 0 in responses.shape:
        raise UserError(
            f"{name}: {responses.shape[0]} trials × {responses.shape[1]} voxels; expected at least one each"
        )


def check_strings(values: np.ndarray | None, name: str, count: int, what: str) -> None:
    if values is None:
        return
    if values.ndim != 1 or values.dtype.kind != "U":
        raise UserError(f"{name} is {values.dtype} {values.shape}; expected a string for each of the {count} {what}")
    if len(values) != count:
        raise UserError(f"{name} has {len(values)} entries, but there are {count} {what}; expected one each")


def find_absent(responses: np.ndarray, suspect: np.ndarray, stimulus_id: np.ndarray, name: str) -> np.ndarray:
    """Which of the voxels that hold a NaN or an infinite value hold nothing but NaN; any other is an error."""
    absent = np.ones(len(suspect), dtype=bool)
    wrong = np.zeros(len(suspect), dtype=int)
    first = np.full(len(suspect), len(responses))
    for rows in row_blocks(*responses.shape):
        block = np.asarray(responses[rows])[:, suspect]
        absent &= np.isnan(block).all(axis=0)
        bad = ~np.isfinite(block)
        first = np.where(bad.any(axis=0), np.minimum(first, rows.start + bad.argmax(axis=0)), first)
        wrong += bad.sum(axis=0)
    if not absent.all():
        trial = int(first[~absent].min())
        voxel = int(suspect[~absent & (first == trial)][0])
        raise UserError(
            f"{name}: {wrong[~absent].sum()} of {responses.size} responses are NaN or infinite, the first in trial "
            f"{trial} (stimulus {stimulus_id[trial]}), voxel {voxel}; mask those voxels or leave out those trials"
        )
    return absent


def check_labels(stimulus_id: np.ndarray, label: np.ndarray | None, name: str) -> None:
    if label is None:
        return
    known: dict[str, str] = {}
    for trial, (stimulus, found) in enumerate(zip(stimulus_id.tolist(), label.tolist(), strict=True)):
        if known.setdefault(stimulus, found) != found:
            raise UserError(
                f"{name}: stimulus {stimulus} has the label '{known[stimulus]}' in one trial and '{found}' in trial "
                f"{trial}; expected one label a stimulus"
            )


def check_images(images: np.ndarray | None, image_id: np.ndarray | None, stimulus_id: np.ndarray, name: str) -> None:
    if images is None and image_id is None:
        return
    if images is None or image_id is None:
        raise UserError(f"{name}: images and image_id come together, and one of them is missing")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        found = f"{images.dtype} {images.shape}"
        raise UserError(f"{name}: images are {found}; expected uint8, stimuli × channels (1 or 3) × height × width")
    check_strings(image_id, f"{name}: image_id", len(images), "images")
    twice = [identifier for identifier, count in Counter(image_id.tolist()).items() if count > 1]
    if twice:
        raise UserError(f"{name}: {len(twice)} image ids occur more than once: {', '.join(twice[:5])}")
    lacking = sorted(set(stimulus_id.tolist()) - set(image_id.tolist()))
    if lacking:
        raise UserError(
            f"{name}: {len(lacking)} stimuli have no image: {', '.join(lacking[:5])}; "
            "expected an image for each stimulus (or no images at all)"
        )
