"""The page in a real browser: as wide as a desk and as narrow as a phone, and on paper."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from braindistill.report.html import write_report

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(_BROWSER is None, reason="there is no Chromium on the path to open the page with")

WIDTHS = (1280, 390)
#: what is wider than the window, outside the boxes that scroll by themselves, and which pictures came to nothing
_MEASURE = """<script>addEventListener("load", () => parent.postMessage({
  inner: innerWidth, wide: document.documentElement.scrollWidth,
  wider: [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll") &&
    e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className).slice(0, 5),
  broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
  small: Math.min(...[...document.images].map(i => i.getBoundingClientRect().width)),
  images: document.images.length}, "*"))</script>"""
_FRAMES = """<!doctype html><body><pre id="told"></pre><script>
addEventListener("message", event => document.getElementById("told").textContent += JSON.stringify(event.data) + "\\n")
</script>{}</body>"""


class Seen(NamedTuple):
    """The page's text, what the browser measured at each width, and what it said on its console."""

    page: str
    sizes: dict[int, dict[str, Any]]
    console: list[str]


def browse(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert _BROWSER
    # no sandbox, as root has none; a profile of its own, so that nothing of the user's is touched
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    try:
        return subprocess.run([_BROWSER, *flags, *words], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("the browser did not come back within a minute")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def kept() -> list[Seen]:
    return []


@pytest.fixture
def seen(folder: Path, everything: dict[str, Any], kept: list[Seen]) -> Seen:
    """The page of a run with every part, opened once in two frames for all tests."""
    if not kept:
        kept.append(look(folder, everything))
    return kept[0]


def look(folder: Path, results: dict[str, Any]) -> Seen:
    write_report(results, folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    # the page forbids scripts: the copy that measures itself has to allow its own
    copy = page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    (folder / "copy.html").write_text(copy.replace("</body>", f"{_MEASURE}</body>"), encoding="utf-8")
    frames = "".join(
        f'<iframe src="copy.html" style="width: {width}px; height: 800px; border: 0"></iframe>' for width in WIDTHS
    )
    (folder / "frames.html").write_text(_FRAMES.replace("{}", frames))
    words = ("--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0", "--dump-dom")
    ran = browse(folder, *words, (folder / "frames.html").as_uri())
    told = re.search(r'<pre id="told">(.*?)</pre>', ran.stdout, re.S)
    assert told, ran.stderr[-2000:]
    sizes = {found["inner"]: found for found in map(json.loads, told[1].split("\n")[:-1])}
    return Seen(page, sizes, [line for line in ran.stderr.splitlines() if "CONSOLE" in line])


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(width: int, seen: Seen) -> None:
    found = seen.sizes[width]
    assert found["wide"] <= width, found["wider"]
    assert found["wider"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_is_there_and_fills_its_place(width: int, seen: Seen) -> None:
    found = seen.sizes[width]
    assert found["images"] == seen.page.count("<img") > 10
    assert found["broken"] == 0
    assert found["small"] > 250


def test_the_console_stays_silent(seen: Seen) -> None:
    assert seen.console == []


def test_nothing_is_asked_of_another_place(seen: Seen) -> None:
    """No resource has an address outside the page; links that a reader may follow are no resources."""
    assert not re.findall(r"<(?:script|link|iframe|object|embed|video|audio|base)\b", seen.page)
    assert {source[:5] for source in re.findall(r'\b(?:src|srcset|poster)="([^"]*)', seen.page)} == {"data:"}
    assert not re.search(r"url\(\s*[\"']?(?!data:)|@import", seen.page)
    assert "default-src 'none'" in seen.page


def test_it_prints_with_every_caption(seen: Seen, folder: Path) -> None:
    """No figure is lost, or cut off from its caption, at the end of a sheet."""
    target = folder / "printed.pdf"
    browse(folder, f"--print-to-pdf={target}", "--no-pdf-header-footer", (folder / "report.html").as_uri())
    assert target.read_bytes()[:5] == b"%PDF-"
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("there is no pdftotext to read the sheets with")
    text = subprocess.run([reader, "-layout", str(target), "-"], capture_output=True, text=True).stdout
    captions = re.findall(r"Figure (\d+)\.", seen.page)
    assert re.findall(r"Figure (\d+)\.", text) == captions
    title = re.search(r"<h1>(.*?)</h1>", seen.page)
    assert title
    assert title[1] in text
