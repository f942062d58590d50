"""What ``braindistill report`` does: rebuild the page of a finished evaluation, or merge several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from braindistill.cache import Cache
from braindistill.errors import UserError, nearest
from braindistill.report.formats import as_latex, as_markdown, latex_table, markdown_table
from braindistill.report.parts import Findings
from braindistill.report.tracking import check_tracker, log_arms
from braindistill.runtime import say, warn

FORMATS = ("html", "markdown", "latex")

#: how the title of every page ends, see page.html.j2
TITLE_END = "· braindistill</title>"


def rebuild_report(root: Path, words: list[str]) -> int:
    """Carry out ``report KEY… [--out FOLDER] [--format html|markdown|latex] [--log TRACKER]``; returns the exit code.

    Parameters
    ----------
    root : of the cache
    words : keys (or folders of evaluations), and the options

    Raises
    ------
    UserError
        No key, one that is no evaluation, or an option that there isn't.
    """
    keys, out, form, tracker = _parse(words)
    evaluations = _named([_open(root, key) for key in keys])
    if form != "html":
        print(_printed(evaluations, form), end="")
        return 0
    names = "-".join(found.folder.name for found in evaluations.values() if found.folder)
    folder = out or Path(f"report-{names}")
    page = folder if folder.suffix == ".html" else folder / "report.html"
    _check_free(page, single=len(evaluations) == 1)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        _write(evaluations, page)
        for found in evaluations.values() if tracker else ():
            # several may be of one experiment: a folder each
            own = found.folder.name[:8] if found.folder and len(evaluations) > 1 else ""
            log_arms(found.results, tracker, page.parent / tracker / own)
    except OSError as error:
        raise UserError(
            f"--out {folder}: can't write there ({error.strerror}); take a folder that can be written"
        ) from None
    print(page)
    return 0


def _check_free(page: Path, single: bool) -> None:
    """Refuse to write over files that are no report's; an older report is replaced."""
    tables = ("results.csv", "results.md", "results.tex") if single else ()
    taken = [file for file in (page, *(page.parent / name for name in (*tables, "figures"))) if file.exists()]
    ours = page.is_file() and TITLE_END in page.read_text(encoding="utf-8", errors="replace")
    if taken and not ours:
        raise UserError(
            f"--out: {taken[0]} is there already, and there is no report of braindistill beside it; take another folder"
        )


def _write(evaluations: dict[str, Findings], page: Path) -> None:
    if len(evaluations) == 1:
        from braindistill.report.html import write_report
        from braindistill.report.table import write_csv

        found = next(iter(evaluations.values()))
        write_report(found.results, page, found.folder)
        write_csv(found.results, page.parent / "results.csv")
    else:
        from braindistill.report.merging import write_merged

        write_merged(evaluations, page)


def _printed(evaluations: dict[str, Findings], form: str) -> str:
    if len(evaluations) == 1:
        results = next(iter(evaluations.values())).results
        return as_markdown(results) if form == "markdown" else as_latex(results)
    from braindistill.report.merging import merged_claims

    table = merged_claims(evaluations)
    return markdown_table(table) if form == "markdown" else latex_table(table, "Claims.", "claims")


def _parse(words: list[str]) -> tuple[list[str], Path | None, str, str]:
    keys: list[str] = []
    out, form, tracker, rest = None, "html", "", iter(words)
    for word in rest:
        if word == "--out":
            out = Path(next(rest, ""))
        elif word == "--format":
            form = next(rest, "")
        elif word == "--log":
            tracker = next(rest, "")
        elif word.startswith("-"):
            raise UserError(f"report {word}: {nearest(word, ['--out', '--format', '--log'])}")
        else:
            keys.append(word)
    if form not in FORMATS:
        raise UserError(f"report --format {form}: expected {', '.join(FORMATS)}; {nearest(form, FORMATS)}")
    if tracker:
        check_tracker(tracker)
    if not keys:
        raise UserError("report: expected the KEY of an evaluation, or several; `braindistill cache ls` lists them")
    return list(dict.fromkeys(keys)), out, form, tracker


def _named(found: list[Findings]) -> dict[str, Findings]:
    """Experiment and the first digits of the key → evaluation, each once."""
    return {
        f"{each.results.get('experiment') or 'evaluation'} {(each.folder or Path()).name[:8]}": each for each in found
    }


def _open(root: Path, key: str) -> Findings:
    """What was found of an evaluation; ``key`` may be a folder, too, e.g. of one of which some arms failed."""
    from braindistill.report.upstream import gather

    folder = Path(key)
    if not (folder / "results.json").is_file():
        if not root.is_dir():
            raise UserError(f"report {key}: there are no artifacts in {root.absolute()} (runtime.cache)")
        folder = Cache(root, say=say, warn=warn).find(key)
    file = folder / "results.json"
    if not file.is_file():
        raise UserError(
            f"report {key}: {folder.parent.name}/{folder.name} is no evaluation (it has no results.json); "
            "`braindistill cache ls` lists those of the stage eval"
        )
    try:
        results: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"report {key}: {file} can't be read ({error})") from error
    if not isinstance(results, dict):
        raise UserError(f"report {key}: {file} holds {type(results).__name__}, expected the results of an evaluation")
    return gather(results, folder.resolve())
