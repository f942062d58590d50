"""A folder of pictures, one sub-folder a class."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.images.image_set import ImageSet
from braindistill.runtime import progress

_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def load_folder(*, root: Path, size: int | None = None) -> ImageSet:
    """Read ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``).

    An image's id is its path under ``root`` without the ending: ``train/cat/0001``. Grey pictures stay grey if all are.

    Parameters
    ----------
    root
        The folder.
    size
        Resize the short side to this many pixels and crop the centre square; needed if the pictures differ in size.

    Raises
    ------
    UserError
        If a folder is missing or empty, a test class has no training images, a picture can't be read, or sizes differ.
    """
    root = Path(root)
    train_files, names = _list_pictures(root, "train")
    test_files, test_names = _list_pictures(root, "test" if (root / "test").is_dir() else "val")
    without = sorted(set(test_names) - set(names))
    if without:
        raise UserError(
            f"images.root={root}: class without training images: {', '.join(without[:5])} "
            f"({len(without)} in all); add them to train/ or remove them from test"
        )
    classes = sorted(set(names))
    files = train_files + test_files
    images = _stack(files, _decode(files, size), root)
    ids = np.array([file.relative_to(root).with_suffix("").as_posix() for file in files], dtype=str)
    index = {name: position for position, name in enumerate(classes)}
    labels = np.array([index[name] for name in names + test_names], dtype=np.int64)
    train, test = slice(None, len(train_files)), slice(len(train_files), None)
    return ImageSet(images[train], ids[train], labels[train], images[test], ids[test], labels[test], classes).check(
        f"images.root={root}"
    )


def _list_pictures(root: Path, part: str) -> tuple[list[Path], list[str]]:
    """Picture files of one part in a fixed order, and the class of each."""
    folder = root / part
    if not folder.is_dir():
        expected = "train" if part == "train" else "test or val"
        raise UserError(f"images.root={root}: no folder {expected} in it; expected train/<class>/* and test/<class>/*")
    files = [
        file
        for group in sorted(path for path in folder.iterdir() if path.is_dir())
        for file in sorted(group.iterdir())
        if file.suffix.lower() in _ENDINGS and not file.name.startswith(".")
    ]
    if not files:
        raise UserError(
            f"images.root={root}: no pictures in {part}/<class>/; known endings: {' '.join(sorted(_ENDINGS))}"
        )
    return files, [file.parent.name for file in files]


def _decode(files: list[Path], size: int | None) -> list[np.ndarray]:
    """Every picture as H × W or H × W × 3 uint8, in order."""
    from PIL import Image, ImageOps

    def read(file: Path) -> np.ndarray:
        try:
            with Image.open(file) as stored:
                picture = stored.convert("L" if stored.mode in ("L", "1", "LA") else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{file}: not a picture that can be read ({error}); replace or remove it") from error
        if size is not None:
            picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(picture)

    # Threads are enough: PIL releases the interpreter lock while it decodes.
    with ThreadPoolExecutor() as pool:
        return list(progress(pool.map(read, files), "reading pictures", total=len(files)))


def _stack(files: list[Path], pictures: list[np.ndarray], root: Path) -> np.ndarray:
    """N × C × H × W; three channels if any picture has them."""
    height, width = pictures[0].shape[:2]
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape[:2] != (height, width):
            raise UserError(
                f"images.root={root}: pictures differ in size: {files[0].relative_to(root)} is {height} × {width}, "
                f"{file.relative_to(root)} is {picture.shape[0]} × {picture.shape[1]}; set images.size"
            )
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    images = np.empty((len(pictures), channels, height, width), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        images[row] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return images
