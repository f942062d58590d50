"""Joining on ids: never on positions."""

from __future__ import annotations

import numpy as np


def find_rows(image_id: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join on ids, in any order: for each id asked for its row (int64; 0 where there is none), and whether it has one."""
    image_id, asked = np.asarray(image_id, str), np.asarray(asked, str)
    if not len(image_id):
        return np.zeros(len(asked), np.int64), np.zeros(len(asked), bool)
    order = np.argsort(image_id)
    place = np.minimum(np.searchsorted(image_id, asked, sorter=order), len(image_id) - 1)
    found = image_id[order[place]] == asked
    return np.where(found, order[place], 0), found
