"""Pictures of stimuli, from files or arrays, as one uint8 array."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from braindistill.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def read_pictures(paths: Sequence[Path], size: int | None = None) -> np.ndarray:
    """Read pictures, decoding several at once.

    Parameters
    ----------
    paths : a file for each stimulus
    size : side in pixels that each picture is brought to: its short side is resized (bicubic), then the centre is
        cropped. None takes the pictures as they are, all of one size.

    Returns
    -------
    (pictures, C, H, W) uint8 in the order of ``paths``; C = 1 where every picture is grey, else 3.

    Raises
    ------
    UserError
        Files are missing (says how many, lists the first five), unreadable or of different sizes, or there is none.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise UserError("no pictures to read: the data set names no stimulus")
    lacking = [path for path in paths if not path.is_file()]
    if lacking:
        names = ", ".join(path.name for path in lacking[:5])
        raise UserError(f"{lacking[0].parent}: {len(lacking)} stimuli have no picture: {names}; add the files")
    first, grey = _read(paths[0], size)
    pixels = np.empty((len(paths), *first.shape), dtype=np.uint8)  # grey pictures as three equal channels, at first
    pixels[0] = first
    with ThreadPoolExecutor(4) as pool:
        for row, (found, is_grey) in enumerate(pool.map(lambda path: _read(path, size), paths[1:]), start=1):
            if found.shape != first.shape:
                sizes = [f"{shape[2]} × {shape[1]}" for shape in (first.shape, found.shape)]
                raise UserError(
                    f"{paths[row].parent}: {paths[0].name} is {sizes[0]}, but {paths[row].name} is {sizes[1]} pixels; "
                    "bring all pictures to one size (where the data set has it, fmri.image_size=SIDE does)"
                )
            pixels[row] = found
            grey &= is_grey
    return np.ascontiguousarray(pixels[:, :1]) if grey else pixels


def resize_pictures(pictures: np.ndarray, size: int | None) -> np.ndarray:
    """Bring pictures in memory to a size, one at a time (an h5py data set is never read as a whole).

    Parameters
    ----------
    pictures : (pictures, H, W, 3) or (pictures, H, W) uint8
    size : side in pixels, as in `read_pictures`; None keeps them.

    Returns
    -------
    (pictures, C, side, side) uint8
    """
    from PIL import Image

    resized = []
    for row in range(len(pictures)):
        picture = Image.fromarray(np.asarray(pictures[row]))
        pixels = np.asarray(picture if size is None else _resize(picture, size))
        resized.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    return np.stack(resized)


def _read(path: Path, size: int | None) -> tuple[np.ndarray, bool]:
    """(3, H, W) uint8, and whether the file is grey."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            grey = picture.mode in ("L", "1", "LA")
            colour = picture.convert("L").convert("RGB") if grey else picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a readable picture ({error}); copy it again") from error
    return np.asarray(colour if size is None else _resize(colour, size)).transpose(2, 0, 1), grey


def _resize(picture: Picture, size: int) -> Picture:
    from PIL import Image

    width, height = picture.size
    if size < 1:
        raise UserError(f"fmri.image_size={size}: expected a side of 1 pixel or more")
    scale = size / min(width, height)
    across, down = max(size, round(width * scale)), max(size, round(height * scale))
    if (across, down) != (width, height):
        picture = picture.resize((across, down), Image.Resampling.BICUBIC)
    left, top = (across - size) // 2, (down - size) // 2
    return picture.crop((left, top, left + size, top + size))
