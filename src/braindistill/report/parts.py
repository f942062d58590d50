"""What the report is made of: sections, and the figures, tables, boxes and passages inside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Results = dict[str, Any]


@dataclass(frozen=True)
class Upstream:
    """What the manifests behind an evaluation say; empty where they are out of reach.

    Attributes
    ----------
    settings : arm → stage (``distill``, ``export``, ``train-teacher``, ``prepare``, ``images``) → its options
    commands : arm → stage → the command that makes its first seed
    folders : arm → stage → the folder of its first seed
    steps : ``stage``, ``title``, ``state``, ``seconds`` of every artifact behind the arms
    """

    settings: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    commands: dict[str, dict[str, str]] = field(default_factory=dict)
    folders: dict[str, dict[str, Path]] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    """Everything that a section may show: the results, the folder that holds files beside them, and the manifests behind."""

    results: Results
    folder: Path | None = None
    upstream: Upstream = field(default_factory=Upstream)

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        return self.results.get("arms") or {}

    @property
    def main_arms(self) -> list[str]:
        """The arms that pictures of lines show: of more than twelve, not those of ROIs, which have pictures of their own."""
        named = self.results.get("rois") or {}
        extra = {arm for kind in ("single", "without") for arm in (named.get(kind) or {}).values()}
        return [arm for arm in self.arms if arm not in extra or len(self.arms) <= 12]

    def measured(self, name: str) -> dict[str, Any]:
        """Arm → its entry of a measure, for the arms that have one."""
        found = {arm: (entry.get("measures") or {}).get(name) for arm, entry in self.arms.items()}
        return {arm: entry for arm, entry in found.items() if entry}


@dataclass(frozen=True)
class Figure:
    """A picture: how to draw it, what it says in words, and the numbers behind it.

    ``data`` is a table whose first row is the heading; ``height`` and ``width`` are inches.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[Canvas], None]
    data: list[list[Any]]
    height: float = 3.0
    width: float = 4.8


@dataclass(frozen=True)
class Grid:
    """A table: heading, rows of cells, and the columns that hold running text (left-aligned and wrapped)."""

    heading: list[str]
    rows: list[list[str]]
    text: tuple[int, ...] = (0,)
    name: str = ""


@dataclass(frozen=True)
class Box:
    """A statement that nobody should miss: ``kind`` is ``yes``, ``no``, ``open`` or ``warning``."""

    kind: str
    head: str
    text: str = ""


@dataclass(frozen=True)
class Passage:
    """Text: paragraphs on the page, or (``verbatim``) something to copy, folded away under its name."""

    text: str
    name: str = ""
    verbatim: bool = False


def nothing(_: Findings) -> Iterable[Any]:
    """What a section has of a kind that it does not show."""
    return ()


@dataclass(frozen=True)
class Section:
    """An entry of the report: its functions take `Findings` and give what there is to show, in this order on the page.

    Where all of them give nothing the section is left out; if ``otherwise`` says how to get it, it is listed at the end as
    missing, with the reason that the evaluation gave for ``measure``.
    """

    title: str
    caption: str = ""
    boxes: Callable[[Findings], Iterable[Box]] = nothing
    figure: Callable[[Findings], Iterable[Figure]] = nothing
    table: Callable[[Findings], Iterable[Grid]] = nothing
    passages: Callable[[Findings], Iterable[Passage]] = nothing
    lines: Callable[[Findings], Iterable[str]] = nothing
    otherwise: str = ""
    measure: str = ""
