"""Tables and sentences as Markdown and as LaTeX, with what either would take for its own escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from braindistill.report.parts import Findings, Grid, Results
from braindistill.report.reading import gaps, notes, verdict
from braindistill.report.sections.differences import difference_tables
from braindistill.report.sections.measures import calibration_tables
from braindistill.report.sections.verdicts import arm_tables, claim_tables, purpose_tables
from braindistill.report.sources import SOURCES
from braindistill.report.table import write_text

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    **{sign: rf"\{sign}" for sign in "&%$#_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
    "ε": r"$\varepsilon$",
    "∞": r"$\infty$",
    "²": r"$^2$",
    "√": r"$\surd$",
    "·": r"$\cdot$",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
}
_CITATION = re.compile(r"\[(@[\w; @]+)\]")


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is (UTF-8 letters are left to inputenc)."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def escape_markdown(text: str) -> str:
    """Text that Markdown prints as it is, inside a table too."""
    plain = re.sub(r"([\\`*_{}\[\]<>|~#])", r"\\\1", text.replace("\n", " "))
    return re.sub(r"^(\s*)([-+]|\d+\.)(?=\s)", r"\1\\\2", plain)


def markdown_table(grid: Grid) -> str:
    """A pipe table; '' without rows."""
    if not grid.rows:
        return ""
    rule = ["---" if column in grid.text else "---:" for column in range(len(grid.heading))]
    rows = [list(map(escape_markdown, row)) for row in [grid.heading, *grid.rows]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]]) + "\n"


def latex_table(grid: Grid, caption: str, label: str) -> str:
    """A ``table`` in the style of booktabs; '' without rows. Columns of running text are paragraphs."""
    if not grid.rows:
        return ""
    width = f"{0.9 / max(1, len(grid.text)):.2f}" if len(grid.text) == len(grid.heading) else "0.3"
    columns = "".join(
        "r" if column not in grid.text else "l" if not column else rf"p{{{width}\linewidth}}"
        for column in range(len(grid.heading))
    )
    rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in [grid.heading, *grid.rows]]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def cite_plain(text: str) -> str:
    """``[@holm1979; @brier1950]`` → ``(Holm, 1979; Brier, 1950)``."""
    return _CITATION.sub(lambda found: f"({'; '.join(SOURCES[key][0] for key in keys_of(found[0]))})", text)


def cite_latex(text: str) -> str:
    """The same for natbib, ``\\citep{holm1979,brier1950}``, with all else escaped."""
    parts = re.split(r"(\[@[\w; @]+\])", text)
    return "".join(
        rf"\citep{{{','.join(keys_of(part))}}}" if _CITATION.fullmatch(part) else escape_latex(part) for part in parts
    )


def keys_of(text: str) -> list[str]:
    """The sources that a text cites, in order."""
    return list(dict.fromkeys(re.findall(r"@(\w+)", " ".join(_CITATION.findall(text)))))


def as_markdown(results: Results) -> str:
    """The tables of an evaluation, below its verdict."""
    lines = [f"# {escape_markdown(str(results.get('experiment') or 'experiment'))}", ""]
    lines += [f"- {escape_markdown(text)}" for text in _sentences(results)]
    for title, grid in _tables(results):
        if grid.rows:
            lines += ["", f"## {title}", "", markdown_table(grid).rstrip()]
    return "\n".join(lines) + "\n"


def as_latex(results: Results) -> str:
    """The same as LaTeX tables."""
    lines = [r"% needs \usepackage{booktabs,textcomp} and \usepackage[T1]{fontenc}"]
    lines += [f"% {' '.join(text.split())}" for text in _sentences(results)]
    for title, grid in _tables(results):
        if grid.rows:
            lines += ["", latex_table(grid, f"{title}.", re.sub("[^a-z]+", "-", title.lower())).rstrip()]
    return "\n".join(lines) + "\n"


def write_formats(results: Results, folder: Path) -> None:
    """Write ``results.md`` and ``results.tex``."""
    write_text(folder / "results.md", as_markdown(results))
    write_text(folder / "results.tex", as_latex(results))


def _sentences(results: Results) -> Iterable[str]:
    for claim in results.get("claims") or []:
        yield ": ".join(verdict(claim))
    yield from (f"Warning: {text}" for text in results.get("warnings") or [])
    yield from (f"Note: {text}" for text in notes(results))
    yield from (f"Missing: {text}" for text in gaps(results))


def _tables(results: Results) -> Iterable[tuple[str, Grid]]:
    found = Findings(results)
    for title, table in (
        ("Arms", arm_tables),
        ("Components of the claim", claim_tables),
        ("Differences", difference_tables),
        ("Calibration", calibration_tables),
        ("What each arm rules out", purpose_tables),
    ):
        for grid in table(found):
            yield title, grid
