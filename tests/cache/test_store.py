"""The store: an artifact is found again if and only if it is the one that was asked for, whole and undamaged."""

import dataclasses
import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from braindistill.cache import Cache, store
from braindistill.cache import manifest as manifests
from braindistill.cache.step import Step
from braindistill.errors import UserError

TEACHER = Step("train-teacher", 1, {"teacher": {"decoder": "logistic"}, "seed": 0})
STUDENT = Step("distill", 1, {"method": {"name": "kd", "temperature": 4}, "seed": 0}, {"teacher": TEACHER})
HOTTER = dataclasses.replace(STUDENT, config={"method": {"name": "kd", "temperature": 8}, "seed": 0})


class Maker:
    """Writes two files and counts how often it was called."""

    def __init__(self, text="weights"):
        self.calls, self.text = 0, text

    def __call__(self, folder):
        self.calls += 1
        (folder / "part").mkdir()
        (folder / "scores.json").write_text("{}")
        (folder / "part" / "weights.bin").write_text(self.text)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def cache(tmp_path, lines, monkeypatch):
    monkeypatch.setattr(store, "_warned", set())
    monkeypatch.setattr(manifests, "_read_before", {})
    return Cache(tmp_path / "outputs", say=lines.append, warn=lambda line: lines.append(f"warning: {line}"))


def names(cache, stage="distill"):
    return sorted(path.name for path in (cache.root / stage).iterdir() if not path.name.endswith(".lock"))


def forget(monkeypatch):
    """Be a process that has read no artifact yet."""
    monkeypatch.setattr(manifests, "_read_before", {})


def test_an_artifact_is_built_once_and_found_again(cache):
    make = Maker()
    assert cache.lookup(STUDENT) is None
    folder = cache.build(STUDENT, make)
    assert folder == cache.path(STUDENT) == cache.lookup(STUDENT) == cache.build(STUDENT, make)
    assert make.calls == 1
    assert (folder / "part" / "weights.bin").read_text() == "weights"
    assert names(cache) == [STUDENT.key[:12]]  # no working folder, no owner


def test_changing_an_option_and_changing_it_back_rebuilds_nothing(cache):
    make = Maker()
    first = cache.build(STUDENT, make)
    other = cache.build(HOTTER, make)
    assert other != first
    assert cache.build(STUDENT, make) == first
    assert make.calls == 2


def test_a_respelled_config_hits(cache):
    folder = cache.build(STUDENT, Maker())
    respelled = dataclasses.replace(STUDENT, config={"seed": 0.0, "method": {"temperature": 4.0, "name": "kd"}})
    assert cache.lookup(respelled) == folder


def test_the_manifest_says_what_was_built_from_what(cache):
    step = dataclasses.replace(STUDENT, digest="d1", command="braindistill distill", title="kd, seed 0")
    manifest = cache.manifest(cache.build(step, Maker()))
    assert manifest["key"] == step.key
    assert manifest["document"] == step.document
    assert manifest["document"]["inputs"] == {"teacher": TEACHER.key}
    assert (manifest["digest"], manifest["command"], manifest["title"]) == ("d1", "braindistill distill", "kd, seed 0")
    assert set(manifest["files"]) == {"scores.json", "part/weights.bin"}
    assert manifest["files"]["part/weights.bin"]["size"] == 7
    assert {"python", "numpy", "torch"} <= set(manifest["versions"])
    assert datetime.fromisoformat(manifest["created"]).tzinfo == UTC


@pytest.mark.parametrize("later", [True, False])
def test_a_flipped_byte_is_never_served(cache, lines, monkeypatch, later):
    make = Maker()
    folder = cache.build(STUDENT, make)
    file = folder / "part" / "weights.bin"
    if later:  # in another process, with the time put back
        forget(monkeypatch)
        stat = file.stat()
        file.write_text("weighty")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:  # in this process, right after it was checked
        assert cache.lookup(STUDENT)
        file.write_text("weighty")
        os.utime(file, (1, 1))
    assert cache.lookup(STUDENT) is None
    assert "part/weights.bin has the checksum" in lines[-1]
    assert names(cache) == [f"{STUDENT.key[:12]}.damaged-1"]
    assert cache.build(STUDENT, make) == folder
    assert make.calls == 2
    assert file.read_text() == "weights"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "scores.json").write_text("{}more"), "scores.json has 6 bytes, its manifest says 2"),
        (lambda folder: (folder / "scores.json").unlink(), "scores.json is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1'), "manifest.json can't be read"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json can't be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1}'), "manifest.json lacks a part"),
    ],
)
def test_every_damage_is_named_and_set_aside(cache, lines, damage, message):
    folder = cache.build(STUDENT, Maker())
    damage(folder)
    assert cache.lookup(STUDENT) is None
    assert message in lines[-1]
    assert STUDENT.name in lines[-1]
    cache.build(STUDENT, Maker())
    damage(folder)
    assert cache.lookup(STUDENT) is None
    assert names(cache) == [f"{STUDENT.key[:12]}.damaged-{n}" for n in (1, 2)]


def edit_manifest(folder, **changes):
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_altered_record_of_the_options_is_damage(cache, lines):
    folder = cache.build(STUDENT, Maker())
    edit_manifest(folder, document=HOTTER.document)
    assert cache.lookup(STUDENT) is None
    assert "manifest.json was altered" in lines[-1]


def test_a_folder_that_holds_another_key_with_the_same_digits_is_an_error(cache):
    folder = cache.build(STUDENT, Maker())
    edit_manifest(folder, key=HOTTER.key, document=HOTTER.document)
    with pytest.raises(UserError, match=f"{HOTTER.key}.*{STUDENT.key}"):
        cache.lookup(STUDENT)
    assert folder.exists()


@pytest.mark.parametrize(("found", "mend"), [(2, "upgrade"), ("x", "move"), (None, "move")])
def test_a_manifest_of_an_unknown_format_is_refused_and_left_alone(cache, found, mend):
    folder = cache.build(STUDENT, Maker())
    edit_manifest(folder, format=found)
    for ask in (cache.lookup, lambda step: cache.build(step, Maker()), lambda step: cache.manifest(folder)):
        with pytest.raises(UserError, match=f"format {found!r}.*{mend}"):
            ask(STUDENT)
    assert names(cache) == [folder.name]


def test_files_that_somebody_added_do_no_harm(cache, monkeypatch):
    folder = cache.build(STUDENT, Maker())
    (folder / "notes.txt").write_text("good run")
    forget(monkeypatch)
    assert cache.lookup(STUDENT) == folder


def test_a_hit_of_other_code_warns_once_and_says_how_to_rebuild(cache, lines):
    cache.build(dataclasses.replace(STUDENT, digest="old"), Maker())
    edited = dataclasses.replace(STUDENT, digest="new")
    for _ in range(3):
        assert cache.lookup(edited)
    assert len(lines) == 1
    assert "another version of the code of distill" in lines[0]
    assert f"delete {cache.path(STUDENT)}" in lines[0]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_run_that_fails_leaves_its_checkpoint_and_nothing_else(cache, lines, error, checkpoint):
    def fail(folder):
        Maker()(folder)
        (folder / "checkpoint").mkdir()
        if checkpoint:
            (folder / "checkpoint" / "epoch").write_text("5")
        raise error

    with pytest.raises(type(error)):
        cache.build(STUDENT, fail)
    assert cache.lookup(STUDENT) is None
    partial = cache.root / "distill" / f".{STUDENT.key[:12]}.partial"
    assert partial.exists() == checkpoint
    assert not checkpoint or [path.name for path in partial.iterdir()] == ["checkpoint"]

    def resume(folder):
        assert (folder / "checkpoint" / "epoch").exists() == checkpoint
        Maker()(folder)

    folder = cache.build(STUDENT, resume)  # the lock is free again
    assert not (folder / "checkpoint").exists()
    assert any("resumes from the checkpoint" in line for line in lines) == checkpoint
    assert names(cache) == [folder.name]


def test_a_checkpoint_of_other_code_warns(cache, lines):
    def fail(folder):
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "epoch").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.build(dataclasses.replace(STUDENT, digest="old"), fail)
    cache.build(dataclasses.replace(STUDENT, digest="new"), Maker())
    assert any("has changed since that checkpoint" in line for line in lines)


def test_leftovers_of_a_killed_run_are_cleared_before_the_next(cache):
    partial = cache.root / "distill" / f".{STUDENT.key[:12]}.partial"
    partial.mkdir(parents=True)
    (partial / "part").mkdir()
    (partial / "half.bin").write_text("half")
    (partial / "manifest.json").write_text("{}")
    folder = cache.build(STUDENT, Maker())
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "part", "scores.json"]


def test_everything_is_on_the_disk_before_the_rename_and_the_rename_after(cache, monkeypatch):
    done, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    monkeypatch.setattr(os, "rename", lambda old, new: done.append("rename") or rename(old, new))
    folder = cache.build(STUDENT, Maker())
    at = done.index("rename")
    written = [folder / name for name in ("scores.json", "part/weights.bin", "manifest.json", "part", ".")]
    assert {path.stat().st_ino for path in written} <= set(done[:at])
    assert folder.parent.stat().st_ino in done[at:]


@pytest.mark.parametrize("whole", [True, False])
def test_a_winner_that_the_lock_did_not_stop_is_verified_and_reused(cache, whole):
    """On a network file system whose locks don't reach the other machine, both build; one rename wins."""

    def overtaken(folder):
        Maker("slow")(folder)
        elsewhere = Cache(cache.root.parent / "other")
        winner = elsewhere.build(STUDENT, Maker("fast"))
        winner.rename(cache.path(STUDENT))
        if not whole:
            (cache.path(STUDENT) / "part" / "weights.bin").write_text("fash")

    folder = cache.build(STUDENT, overtaken)
    assert (folder / "part" / "weights.bin").read_text() == ("fast" if whole else "slow")
    assert names(cache) == [folder.name] + ([] if whole else [f"{folder.name}.damaged-1"])


def test_a_stage_must_not_write_the_manifest(cache):
    with pytest.raises(ValueError, match=r"manifest\.json, which is the cache's own"):
        cache.build(STUDENT, lambda folder: (folder / "manifest.json").write_text("{}"))
    assert cache.lookup(STUDENT) is None


def test_a_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"runtime\.cache=.*file/outputs: can't write there \(Not a directory\)"):
        Cache(tmp_path / "file" / "outputs")


def test_opening_a_cache_leaves_nothing_in_it(cache):
    assert list(cache.root.iterdir()) == []


def test_why_names_the_field_that_differs_from_the_nearest_artifact(cache):
    assert cache.why(STUDENT) == "first of its kind"
    cache.build(STUDENT, Maker())
    cache.build(dataclasses.replace(STUDENT, config={"method": {"name": "dkd", "beta": 8}, "seed": 3}), Maker())
    assert cache.why(HOTTER) == "method.temperature 4 → 8"
    assert cache.why(dataclasses.replace(STUDENT, version=2)) == "code version 1 → 2"
    assert cache.why(STUDENT) == "already built"
    added = dataclasses.replace(STUDENT, config=STUDENT.config | {"train": {"epochs": 10}})
    assert cache.why(added) == "train.epochs (absent) → 10"
    many = dataclasses.replace(STUDENT, config={str(n): n for n in range(9)})
    assert cache.why(many).endswith("and 8 more")


def test_why_looks_through_to_what_differs_upstream(cache):
    changed = dataclasses.replace(TEACHER, config={"teacher": {"decoder": "lda"}, "seed": 0})
    cache.build(STUDENT, Maker())
    step = dataclasses.replace(STUDENT, inputs={"teacher": changed})
    assert cache.why(step) == "another teacher"
    cache.build(TEACHER, Maker())
    assert cache.why(step) == "teacher: teacher.decoder logistic → lda"


def test_why_knows_files_and_stopped_and_damaged_runs(cache):
    before = dataclasses.replace(STUDENT, files={"fmri.path": "a" * 64})
    folder = cache.build(before, Maker())
    after = dataclasses.replace(STUDENT, files={"fmri.path": "b" * 64})
    assert cache.why(after) == "contents of fmri.path aaaaaaaa… → bbbbbbbb…"
    (cache.root / "distill" / f".{after.key[:12]}.partial").mkdir()
    assert cache.why(after).startswith("its last run was stopped")
    (folder / "scores.json").unlink()
    assert cache.lookup(before) is None
    assert cache.why(before) == "the last one was damaged"


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=5), "5 s old"),
        (timedelta(minutes=3, seconds=50), "3 min old"),
        (timedelta(hours=47), "47 h old"),
        (timedelta(days=12), "12 days old"),
        (-timedelta(hours=1), "0 s old"),  # a clock that runs behind
    ],
)
def test_age(cache, ago, text):
    assert cache.age(STUDENT) == ""
    folder = cache.build(STUDENT, Maker())
    edit_manifest(folder, created=(datetime.now(UTC) - ago).isoformat())
    assert cache.age(STUDENT) == text
