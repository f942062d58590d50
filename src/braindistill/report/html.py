"""The report: one standalone HTML page from a declared list of sections; it needs no network and no script."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from braindistill.report.contents import SECTIONS
from braindistill.report.formats import write_formats
from braindistill.report.parts import Box, Figure, Findings, Grid, Passage, Results, Section
from braindistill.report.reading import gaps
from braindistill.report.sections.glossary import glossary, link_terms
from braindistill.report.style import rendered
from braindistill.report.table import write_text
from braindistill.report.upstream import gather


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it: a number, an image as a data URI, its widest width in rem, and words."""

    number: int
    source: str
    width: float
    alt: str
    caption: str
    name: str


@dataclass
class Part:
    """A section with its contents; those that came to nothing are not on the page."""

    title: str
    anchor: str
    caption: str = ""
    boxes: list[Box] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.boxes or self.pictures or self.grids or self.passages or self.lines)


@dataclass
class Page:
    """Everything that the template shows; ``files`` are the pictures' files by their name in ``figures/``."""

    title: str
    subtitle: str
    parts: list[Part] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, section: Section, found: Findings, prefix: str = "") -> None:
        """Fill a section; what can't be shown is named among what is missing, and the rest of the page goes on."""
        title = f"{prefix}: {section.title}" if prefix else section.title
        part = Part(title, _anchor(title), section.caption)
        part.boxes = self._try(title, section.boxes, found)
        for figure in self._try(title, section.figure, found):
            part.pictures += self._try(title, partial(self._picture, figure, prefix), found)
        part.grids = [grid for grid in self._try(title, section.table, found) if grid.rows]
        part.passages = self._try(title, section.passages, found)
        part.lines = self._try(title, section.lines, found)
        if not part.empty:
            self.parts.append(part)
        elif section.otherwise:
            skipped = found.results.get("skipped_measures") or {}
            reason = skipped.get(section.measure, skipped.get(section.measure.partition(":")[0]))
            self.absent.append(f"{title}: {reason or section.otherwise}")

    def _try(self, title: str, make: Callable[[Findings], Iterable[Any]], found: Findings) -> list[Any]:
        try:
            return list(make(found))
        except Exception as error:  # hours of training must not lose their report to one odd number
            self.missing.append(f"{title} could not be shown: {type(error).__name__}: {error}")
            return []

    def _picture(self, figure: Figure, prefix: str, _: Findings) -> Iterable[Picture]:
        name = re.sub(r"[^\w.-]+", "_", f"{prefix}_{figure.name}" if prefix else figure.name)
        while f"{name}.csv" in self.files:  # brain@V1 and brain_V1
            name += "_"
        kinds = rendered(figure, ("svg", "pdf"))
        self.files |= {f"{name}.{kind}": content for kind, content in kinds.items()}
        self.files[f"{name}.csv"] = _sheet(figure.data)
        number = len({file.rpartition(".")[0] for file in self.files})
        source = "data:image/svg+xml;base64," + base64.b64encode(kinds["svg"]).decode()
        yield Picture(number, source, round(7.5 * figure.width, 1), figure.alt, figure.caption, name)


def write_report(results: Results, path: Path, extras: Path | None = None) -> None:
    """Write ``results.json``'s content as one standalone HTML page; a partial result says what is missing.

    Beside it come ``results.md``, ``results.tex`` and ``figures/``: each picture as SVG and PDF, and its numbers as CSV.

    Parameters
    ----------
    results
        As ``eval`` writes it; every key may be absent.
    path
        The HTML file; written whole or not at all.
    extras
        The folder of the evaluation, with ``saliency.npz`` and the like, inside its cache or not; by default the page's own.
    """
    path = Path(path)
    page = compose_page(gather(results, Path(extras) if extras else path.parent))
    write_page(page, path)
    write_formats(results, path.parent)


def compose_page(found: Findings, sections: Sequence[Section] = SECTIONS) -> Page:
    """Fill every section from the findings."""
    page = Page(
        f"{found.results.get('experiment') or 'experiment'}: did {_who(found.results)} help?", _subtitle(found.results)
    )
    for section in sections:
        page.add(section, found)
    page.missing = gaps(found.results) + page.missing
    known = {section.measure for section in sections} | {"explain"}
    skipped = found.results.get("skipped_measures") or {}
    page.absent += [f"{measure}: {reason}" for measure, reason in skipped.items() if measure not in known]
    return page


def write_page(page: Page, path: Path) -> None:
    """Write a page and the files of its pictures."""
    figures = path.parent / "figures"
    if page.files:
        figures.mkdir(parents=True, exist_ok=True)
    for name, content in page.files.items():
        (figures / name).write_bytes(content)
    write_text(path, _html(page))


def _html(page: Page) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=PackageLoader("braindistill", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["terms"] = lambda text: Markup(link_terms(text, escape))
    return environment.get_template("page.html.j2").render(page=page, glossary=glossary(Findings({})))


def _who(results: Results) -> str:
    """Whose help is asked about: the brain's, or people's where no arm of a brain makes a claim."""
    claimed = [str(claim.get("arm")) for claim in results.get("claims") or []]
    return "people" if claimed and all(arm.startswith("human") for arm in claimed) else "the brain"


def _subtitle(results: Results) -> str:
    words = [("n_seeds", "seeds"), ("n_test", "test images"), ("n_train", "labelled training images")]
    words += [("n_pool", "unlabelled"), ("n_val", "for validation")]
    counts = [f"{results[key]:,} {word}" for key, word in words if results.get(key) is not None]
    counts = [count.removesuffix("s") if count in ("1 seeds", "1 test images") else count for count in counts]
    counts = ([f"{len(results['subjects'])} subjects"] if results.get("subjects") else []) + counts
    counts += [f"{len(results['classes'])} classes"] if results.get("classes") else []
    counts += [str(results["created"]).replace("T", " ").replace("+00:00", " UTC")] if results.get("created") else []
    return " · ".join(counts)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-")


def _sheet(rows: list[list[Any]]) -> bytes:
    sheet = io.StringIO()
    csv.writer(sheet, lineterminator="\n").writerows([["" if cell is None else cell for cell in row] for row in rows])
    return sheet.getvalue().encode()
