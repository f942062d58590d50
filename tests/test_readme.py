"""What the documents say is so: their commands compose, their links lead somewhere, their table of keys is the planner's."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from braindistill import cli
from braindistill.cache.step import Step
from braindistill.config import choices, find_configs
from braindistill.images.assembly import SPLIT
from braindistill.pipeline import VERBS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands() -> Iterator[tuple[str, str]]:
    """(file, words behind ``braindistill``) of every command in the documents, in the YAML headers and in the help."""
    for document in DOCUMENTS:
        text = document.read_text()
        fences = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        inline = re.findall(
            r"`(braindistill [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        )
        for line in [*inline, *(line for fence in fences for line in fence.splitlines())]:
            if found := re.search(r"(?:^|/)braindistill (.+?)(?:\s+# .*)?$", line):
                yield document.relative_to(ROOT).as_posix(), found[1]
    for file in sorted(find_configs().rglob("*.yaml")):
        for words in re.findall(r"^#\s+braindistill (.+?)(?:\s{2,}.*)?$", file.read_text(), re.MULTILINE):
            yield f"configs/{file.relative_to(find_configs()).as_posix()}", words
    for verb, (*_, examples) in cli.VERBS.items():
        yield from ((f"braindistill {verb} --help", example) for example in examples)


COMMANDS: dict[str, list[str]] = {}
for _file, _words in _commands():
    COMMANDS.setdefault(_words, []).append(_file)


class Plan:
    """Runs command lines as far as their plan, and keeps the steps that were planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        # the readers' own files and the data sets needn't be on this machine
        monkeypatch.setattr("braindistill.config.find_data", lambda relative: Path("/data") / relative)
        monkeypatch.setattr("braindistill.pipeline.fingerprint", lambda path, *_: f"contents of {path}")
        monkeypatch.setattr("braindistill.pipeline.Step", self._keep)
        monkeypatch.setattr(sys, "argv", ["braindistill"])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.chdir(folder)

    def __call__(self, *words: str) -> list[Step]:
        self.steps = []
        GlobalHydra.instance().clear()  # whatever another test has left
        try:
            cli.main([*words, "runtime.dry_run=true", f"runtime.cache={self.folder / 'cache'}"])
        except SystemExit as end:
            if end.code:
                pytest.fail(f"braindistill {shlex.join(words)}: exit code {end.code}")
        return self.steps

    def _keep(self, *args: Any, **kwargs: Any) -> Step:
        self.steps.append(Step(*args, **kwargs))
        return self.steps[-1]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    return Plan(monkeypatch, tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=[f"{files[0]}: {words}" for words, files in COMMANDS.items()])
def test_command_is_understood(command: str, plan: Plan) -> None:
    words = shlex.split(command)
    assert words[0] in cli.VERBS, f"no verb {words[0]}, in {', '.join(COMMANDS[command])}"
    if words[:2] == ["cache", "show"] or words[0] == "report":
        assert len(words) >= 2 + (words[0] == "cache")  # there is no artifact to show
    elif "--help" in words or words[0] in ("info", "cache"):
        plan(*words)
    else:
        few = ["eval.seeds=1"] if words[0] == "eval" and "eval.seeds" not in command else []
        assert plan(*words, *few)


def test_commands_are_found() -> None:
    files = {file for found in COMMANDS.values() for file in found}
    assert {"README.md", "data/README.md", "docs/protocol.md"} <= files
    assert {f"configs/experiment/{name}.yaml" for name in choices("experiment")} <= files
    assert {words.split()[0] for words, found in COMMANDS.items() if "README.md" in found} >= set(cli.VERBS)


def test_readme_setups_are_those_of_make_and_ci() -> None:
    text = (ROOT / "README.md").read_text()
    demo, tests = re.findall(r"^python3 -m venv .*$", text, re.MULTILINE)
    demo, tests = demo.split(" && ")[-1], tests.split(" && ")[-1]
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    assert f"\t{demo}\n" in makefile
    assert f"\t{tests}\n" in makefile
    assert (ROOT / ".ci/run").read_text().endswith(f"exec {tests}\n")


def test_readme_has_its_sections() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    wanted = ["Quick start", "On your own data", "How to read the table", "Results", "Caching", "Data", "Limits"]
    assert [heading for heading in headings if heading in wanted] == wanted
    assert "Origin, citation, licence" in headings


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in _anchors(file.read_text()), f"{document.name}: {target}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_configs_that_documents_name_exist() -> None:
    for document in DOCUMENTS:
        for path in re.findall(r"`(configs/[\w/.-]*)`", document.read_text()):
            assert (find_configs().parent / path).exists(), f"{document.name}: {path}"


# The table of docs/keys.md: stage | case | keys on | seed | built from


def _rows() -> list[tuple[str, str, set[str], str, set[str]]]:
    rows = []
    for line in (ROOT / "docs/keys.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 5:
            stage, cases, keys, seed, inputs = cells
            for case in _quoted(cases):
                rows.append((stage.strip("`"), case, set(_quoted(keys)), seed, set(_quoted(inputs))))
    return rows


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ROWS = _rows()
#: cases → what else the command needs
MORE = {
    "method=rdm": ["target=relations"],
    "method=mask": ["target=mask"],
    "method=voxels method=rkd method=similarity method=cka": ["target=voxels"],
    "method=fitnet method=attention method=review method=crd": ["target=features", "teacher=cnn"],
    "target=features": ["teacher=cnn"],
    "method=combined": ["method.terms.kd=[method=kd]"],
    "train.parallel_seeds=2": ["method=none"],
    "images.n_val=20 eval.explain=true": ["eval.arms=[kd,brain]"],
    "eval.n_train=[10] eval.measures=[robustness] eval.measures=[attacks] eval.measures=[brain_score]": [
        "eval.arms=[brain]"
    ],
}


def test_table_of_keys_has_every_stage() -> None:
    stages = {path.stem.replace("_", "-") for path in Path(cli.__file__).with_name("stages").glob("[a-z]*.py")}
    assert {stage for stage, *_ in ROWS} == stages
    assert {case for _, case, *_ in ROWS} >= {f"teacher={name}" for name in choices("teacher")}
    assert {case for _, case, *_ in ROWS} >= {f"method={name}" for name in choices("method")}
    assert {case for _, case, *_ in ROWS} >= {f"target={name}" for name in choices("target")}


@pytest.mark.parametrize("row", ROWS, ids=[f"{stage}: {case}" for stage, case, *_ in ROWS])
def test_table_of_keys_is_the_planners(row: tuple[str, str, set[str], str, set[str]], plan: Plan) -> None:
    stage, case, keys, seed, inputs = row
    verb = VERBS.get(stage, stage)
    path = [f"{case.split('=')[0]}.path=soft_labels.npy"] if case in ("target=file", "teacher=human") else []
    more = next((words for cases, words in MORE.items() if case in cases.split()), [])

    def step(seed: str) -> Step:
        steps = plan(verb, "fmri=simulated", case, *path, *more, "eval.seeds=1", seed)
        return [found for found in steps if found.stage == stage][-1]  # the one that was asked for

    first = step("seed=0")
    assert _keyed(first) == keys
    assert {upstream.stage for upstream in first.inputs.values()} == inputs
    assert ("seed" in first.config) == (seed == "yes")
    assert (first.key != step("seed=1").key) == (seed != "no")
    assert set(first.files) == {word.split("=")[0] for word in path}


def _keyed(step: Step) -> set[str]:
    """Groups in a step's key, in the words of the table."""
    found = set()
    for group, values in step.config.items():
        if group == "images":
            roles = set(values) == set(SPLIT)
            assert roles or not set(values) & set(SPLIT)
            found.add("images: roles" if roles else "images: pictures")
        elif group in ("train", "eval") and len(values) == 1:
            found.add(f"{group}.{next(iter(values))}")
        elif group != "seed":
            found.add(group)
    return found
