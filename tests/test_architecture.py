"""The rules that keep it a house one can live in: who may import whom, and what appears nowhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "braindistill"
FILES = sorted(PACKAGE.rglob("*.py"))

#: from the top down: a file imports from its own layer and from those below
LAYERS = [
    {"__main__"},
    {"cli"},
    {"tasks", "judging", "invocation", "compose", "inspection"},
    {"planning", "pipeline", "telling", "execution", "workers", "jobs"},
    {"stages"},
    {"config", "coercion", "plugins", "words"},
    {
        "teachers",
        "targets",
        "students",
        "methods",
        "images",
        "fmri",
        "metrics",
        "report",
        "training",
        "statistics",
        "verdict",
    },
    {"cache", "runtime", "exports", "errors", "joining", "__init__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
#: pure functions of tensors and arrays: what they may import beside the standard library and the lowest layer
PURE = {"methods": {"torch"}, "metrics": {"numpy", "scipy", "torch"}, "statistics": {"numpy", "scipy"}}
#: slow to import, so only inside the functions that use them
SLOW = {
    "torchvision",
    "sklearn",
    "himalaya",
    "nibabel",
    "matplotlib",
    "PIL",
    "captum",
    "tensorboard",
    "hydra",
    "omegaconf",
}


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def part_of(file: Path) -> str:
    """The layer's member that a file belongs to: its top-level package, or itself."""
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that are imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_every_file_has_its_layer():
    assert {part_of(file) for file in FILES} == set(RANK)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_dependencies_point_down(file):
    own = part_of(file)
    for name in imports(parse(file)):
        if name.startswith("braindistill."):
            other = name.split(".")[1]
            if other.startswith("__"):  # the version
                continue
            assert RANK[other] >= RANK[own], f"{own} imports {name}, which is above it"


def test_stages_call_no_other_stage():
    for file in (PACKAGE / "stages").glob("*.py"):
        used = {name for name in imports(parse(file)) if name.startswith("braindistill.stages.")}
        assert not used, file.name


def test_only_the_top_sees_hydra():
    seeing = {
        part_of(file) for file in FILES if {"hydra", "omegaconf"} & {n.split(".")[0] for n in imports(parse(file))}
    }
    assert seeing <= {"cli", "compose", "tasks", "invocation", "words"}


@pytest.mark.parametrize("part", PURE)
def test_pure_parts_import_next_to_nothing(part):
    for file in FILES:
        if part_of(file) == part:
            for name in imports(parse(file)):
                first, *rest = name.split(".")
                if first == "braindistill":
                    assert rest[0] in {part, *LAYERS[-1]}, f"{file.name} imports {name}"
                else:
                    assert first in PURE[part] | sys.stdlib_module_names, f"{file.name} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_is_slow_to_import_is_imported_where_it_is_used(file):
    top = ast.Module([node for node in parse(file).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert not {name.split(".")[0] for name in imports(top)} & SLOW


def test_no_torch_where_a_command_line_is_checked():
    light = {
        "cli",
        "tasks",
        "judging",
        "tuning",
        "expansion",
        "invocation",
        "compose",
        "inspection",
        "evaluation",
        "pipeline",
        "arms",
        "telling",
        "execution",
        "config",
        "coercion",
        "plugins",
        "words",
        *LAYERS[-1],
    }
    for file in FILES:
        if part_of(file) in light:
            top = ast.Module([node for node in parse(file).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
            assert "torch" not in {name.split(".")[0] for name in imports(top)}, file.name


def test_names_say_what_is_inside():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
    for file in FILES:
        assert not set(file.relative_to(PACKAGE).with_suffix("").parts) & vague
        classes = [node.name for node in ast.walk(parse(file)) if isinstance(node, ast.ClassDef)]
        assert not [name for name in classes if name.startswith("Base") or name.endswith("Manager")], file.name


def test_public_names_are_unique_in_a_package():
    for folder in (path for path in PACKAGE.iterdir() if (path / "__init__.py").exists() and path.name != "stages"):
        found: dict[str, str] = {}
        for file in sorted(folder.glob("*.py")):
            for node in parse(file).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    if file.stem != "__init__":
                        assert node.name not in found, (
                            f"{folder.name}.{node.name} is in {found[node.name]} and {file.name}"
                        )
                    found[node.name] = file.name


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_is_pickled(file):
    tree = parse(file)
    modules = {name.split(".")[0] for name in imports(tree)}
    if file.name == "named_rois.py":  # the one exception: Algonauts' ROI names, by a restricted unpickler
        modules.discard("pickle")
    assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("allow_pickle", "False") == "False", f"line {node.lineno}"
            if ast.unparse(node.func) in ("torch.load", "torch.hub.load_state_dict_from_url"):
                assert keywords.get("weights_only") == "True", f"line {node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_randomness_comes_from_named_generators(file):
    if file.name == "runtime.py":
        return
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if part_of(file) in PURE and called == "np.random.default_rng" and node.args:
                continue  # pure functions take a seed
            assert not called.startswith(("np.random.", "numpy.random.", "random.")), f"line {node.lineno}: {called}"
            assert called not in ("torch.manual_seed", "torch.seed", "torch.Generator"), f"line {node.lineno}: {called}"
