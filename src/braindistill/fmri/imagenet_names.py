"""ImageNet names such as n01518878_10042, and the numbers 1518878.010042 that stand for them in Kamitani lab files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from braindistill.errors import UserError

ENDINGS = {".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"}


class Name(NamedTuple):
    """A WordNet id and the number of an image in it; image 0 is the category itself."""

    wnid: int
    image: int

    @classmethod
    def from_number(cls, value: float) -> Name:
        """From a float64: the integer part is the category, six decimals are the image.

        Formatting brings back the zeros that were lost from the text of a number: 1518878.01491 is image 14910.
        """
        wnid, image = f"{value:.6f}".split(".")
        return cls(int(wnid), int(image))

    @property
    def category(self) -> str:
        return f"n{self.wnid:08d}"

    def __str__(self) -> str:
        return f"{self.category}_{self.image}" if self.image else self.category


def find_names(source: Path) -> dict[Name, Path]:
    """Find the pictures in a folder and the folders inside it, or the names in a text file, by their ImageNet name.

    Raises
    ------
    UserError
        There is no such file or folder, nothing in it has an ImageNet name, or two pictures have the same.
    """
    expected = "pictures named like n01518878_10042.JPEG or 1518878.010042.jpg"
    found: dict[Name, Path] = {}
    if source.is_file():
        try:
            text = source.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(
                f"fmri.stimuli={source}: no text ({error}); expected a folder or a table of names"
            ) from error
        found = {Name(int(wnid), int(image)): source for wnid, image in re.findall(r"\bn(\d{8})_(\d+)", text)}
    elif not source.is_dir():
        raise UserError(f"fmri.stimuli={source}: no such folder; expected {expected}")
    else:
        for file in sorted(source.rglob("*")):
            name = _parse(file.stem) if file.suffix.lower() in ENDINGS else None
            if name and found.setdefault(name, file) != file:
                raise UserError(f"fmri.stimuli={source}: {found[name]} and {file} are both {name}; remove one")
    if not found:
        raise UserError(f"fmri.stimuli={source}: nothing there has an ImageNet name; expected {expected}")
    return found


def match_names(wanted: Iterable[Name], known: list[Name], source: Path) -> dict[Name, Name]:
    """Give each stimulus its name among the known ones.

    The same name is taken first. Else the nearest: an image of the same category with the same digits, had one of them
    not lost its last zeros (1491 for 14910), when there is just one and nothing else claims it.

    Raises
    ------
    UserError
        A stimulus could be several images, two stimuli the same one, or stimuli have none (counted, five listed).
    """
    exact = set(known)
    by_digits: dict[tuple[int, str], list[Name]] = {}
    for name in known:
        by_digits.setdefault(_digits(name), []).append(name)
    matched: dict[Name, Name] = {}
    missing = []
    for name in wanted:
        near = [name] if name in exact else by_digits.get(_digits(name), [])
        if len(near) > 1:
            raise UserError(
                f"fmri.stimuli={source}: stimulus {name} is ambiguous, it could be {' or '.join(map(str, near))}; "
                "rename the pictures to their full image numbers"
            )
        if near:
            matched[name] = near[0]
        else:
            missing.append(str(name))
    if missing:
        listed = ", ".join(missing[:5])
        raise UserError(f"fmri.stimuli={source}: {len(missing)} stimuli have no picture: {listed}; add the files")
    claims: dict[Name, Name] = {}
    for name, chosen in matched.items():
        if claims.setdefault(chosen, name) != name:
            both = f"{claims[chosen]} and {name}"
            raise UserError(f"fmri.stimuli={source}: {both} are both nearest to {chosen}; add the missing picture")
    return matched


def _parse(stem: str) -> Name | None:
    if match := re.fullmatch(r"n(\d{8})_(\d+)", stem):
        return Name(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"(\d{6,8})\.(\d{1,6})", stem):
        return Name(int(match[1]), int(match[2].ljust(6, "0")))
    return None


def _digits(name: Name) -> tuple[int, str]:
    return name.wnid, str(name.image).rstrip("0")
