"""The digest of a stage's source follows every module that the stage uses, and no other."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from braindistill.cache import provenance

FILES = {
    "__init__.py": "",
    "stages/__init__.py": "",
    "stages/distill.py": "from braindistill.methods.logits import kd_loss\nimport braindistill.training as training\n",
    "methods/__init__.py": "",
    "methods/logits.py": "import torch\n",
    "training.py": "def fit():\n    from braindistill.students import cnn\n",
    "students/__init__.py": "",
    "students/cnn.py": "from braindistill import (\n    runtime,\n    errors as mistakes,\n)\n",
    "students/resnet.py": "from braindistill.training import fit\n",
    "runtime.py": "",
    "errors.py": "",
    "statistics.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _fresh_each_time():
    yield
    forget()


def forget():
    for function in (provenance.code_digest, provenance._read, provenance._sources, provenance.revision):
        function.cache_clear()


def digest(module="braindistill.stages.distill"):
    forget()
    return provenance.code_digest(module)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("stages/distill.py", True),
        ("methods/logits.py", True),
        ("training.py", True),  # import … as
        ("students/cnn.py", True),  # imported inside a function
        ("students/resnet.py", True),  # another file of an imported package
        ("runtime.py", True),  # in brackets
        ("errors.py", True),
        ("statistics.py", False),
        ("stages/__init__.py", False),
    ],
)
def test_an_edit_changes_the_digest_of_the_stages_that_use_the_file(package, file, counts):
    before = digest()
    (package / file).write_text((package / file).read_text() + "# edited\n")
    assert (digest() != before) == counts


def test_the_digest_does_not_depend_on_where_the_package_lies(package, tmp_path, monkeypatch):
    before = digest()
    moved = shutil.copytree(package, tmp_path / "elsewhere")
    monkeypatch.setattr(provenance, "_PACKAGE", moved)
    assert digest() == before


def test_a_module_that_is_not_there_is_named(package):
    with pytest.raises(ModuleNotFoundError, match=r"braindistill\.stages\.distil"):
        digest("braindistill.stages.distil")


def test_a_users_module_counts_with_what_it_imports(package, tmp_path, monkeypatch):
    plugin = tmp_path / "plugin_of_a_test.py"
    plugin.write_text("from braindistill.methods.logits import kd_loss\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = digest("plugin_of_a_test")
    (package / "methods" / "logits.py").write_text("# edited\n")
    assert digest("plugin_of_a_test") != before


def test_every_module_that_this_package_names_in_an_import_is_found():
    """The digest reads imports with a regular expression; hold it against what Python itself loads."""
    code = (
        "import sys, braindistill.cache.store\n"
        "print(*[module.__file__ for name, module in sys.modules.items() if name.startswith('braindistill.')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    pending, found = provenance._sources("braindistill.cache.store"), set()
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending = pending + [source for name in provenance._read(file)[1] for source in provenance._sources(name)]
    assert {Path(file) for file in loaded} <= found


def test_the_revision_is_that_of_the_checkout_or_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path / "src" / "braindistill")
    forget()
    assert provenance.revision() == ""
    (tmp_path / ".git").mkdir()  # no repository
    forget()
    assert provenance.revision() == ""
    (tmp_path / ".git").rmdir()
    git = shutil.which("git")
    if git is None:
        pytest.skip("no git on this machine")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run([git, "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(
        [git, "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    forget()
    assert provenance.revision() == head
    (tmp_path / "file").write_text("2")
    forget()
    assert provenance.revision() == f"{head}-dirty"


def test_versions_are_recorded_without_importing():
    found = provenance.versions()
    assert found["python"].count(".") == 2
    assert "torch" in found
