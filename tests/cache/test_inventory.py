"""Listing, finding, verifying and clearing away: nothing that a user made is ever removed."""

import dataclasses
import os
import shutil
import time

import pytest

from braindistill.cache import Cache
from braindistill.cache.durable import locked
from braindistill.cache.step import Step
from braindistill.errors import UserError

STEP = Step("distill", 1, {"seed": 0}, title="kd, seed 0")
STEPS = [dataclasses.replace(STEP, config={"seed": seed}) for seed in range(40)]


def make(folder):
    (folder / "weights.bin").write_bytes(b"x" * 100)


def fail_with_checkpoint(folder):
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "epoch").write_text("5")
    raise RuntimeError


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path, say=lambda line: None, warn=lambda line: None)


@pytest.fixture
def full(cache):
    """One artifact each: finished, unfinished, damaged and set aside; and things that a user put there."""
    cache.build(STEP, make)
    with pytest.raises(RuntimeError):
        cache.build(STEPS[1], fail_with_checkpoint)
    (cache.build(STEPS[2], make) / "weights.bin").unlink()
    assert cache.lookup(STEPS[2]) is None
    for name in ("notes/readme.txt", "distill/my-best/weights.bin", "distill/0123456789ab/mine.txt", "distill/x.lock"):
        (cache.root / name).parent.mkdir(parents=True, exist_ok=True)
        (cache.root / name).write_text("mine")
    return cache


def users_files(cache):
    return sorted(
        str(path.relative_to(cache.root))
        for path in cache.root.rglob("*")
        if path.is_file() and path.read_bytes() == b"mine"
    )


def test_entries_tell_finished_from_unfinished_and_damaged(full):
    listed = {entry.key12: entry for entry in full.entries()}
    assert {step.key[:12]: listed[step.key[:12]].state for step in STEPS[:3]} == {
        STEPS[0].key[:12]: "ok",
        STEPS[1].key[:12]: "unfinished",
        STEPS[2].key[:12]: "damaged",
    }
    entry = listed[STEP.key[:12]]
    assert (entry.stage, entry.title, entry.path) == ("distill", "kd, seed 0", full.path(STEP))
    assert entry.bytes == 100 + (full.path(STEP) / "manifest.json").stat().st_size
    assert entry.created == full.manifest(entry.path)["created"]


def test_entries_show_a_newer_format_as_unknown_and_gc_leaves_it(cache):
    file = cache.build(STEP, make) / "manifest.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    assert [entry.state for entry in cache.entries()] == ["unknown"]
    cache.gc(older_than_days=0)
    assert file.exists()


def test_find_takes_any_unique_prefix(cache):
    folder = cache.build(STEP, make)
    for prefix in (STEP.key[:4], STEP.key[:12], STEP.key[:20], STEP.key, STEP.name, f"distill/{STEP.key}/"):
        assert cache.find(prefix) == folder


def test_find_names_what_it_cannot_decide(cache):
    with pytest.raises(UserError, match=r"no such artifact in .*; last used: none"):
        cache.find("ab")
    for step in STEPS[:17]:  # 17 keys, 16 first digits
        cache.build(step, make)
    digits = [step.key[0] for step in STEPS[:17]]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(
        UserError, match=rf"{digits.count(twice)} artifacts begin so \(distill/{twice}.*give more digits"
    ):
        cache.find(twice)
    wrong = STEP.key[:20] + ("0" if STEP.key[20] != "0" else "1")
    for unknown in (wrong, "", "zz", f"eval/{STEP.key[:12]}"):
        with pytest.raises(UserError, match=r"no such artifact in .*; last used: distill/"):
            cache.find(unknown)


def test_find_never_gives_a_damaged_artifact(cache):
    (cache.build(STEP, make) / "weights.bin").write_bytes(b"y" * 99)
    with pytest.raises(UserError, match=r"is damaged: weights\.bin has 99 bytes"):
        cache.find(STEP.key)


def test_verify_names_every_problem_and_changes_nothing(cache):
    assert cache.verify() == []
    for step in STEPS[:4]:
        cache.build(step, make)
    assert cache.verify() == []
    stat = (cache.path(STEPS[0]) / "weights.bin").stat()
    (cache.path(STEPS[0]) / "weights.bin").write_bytes(b"x" * 50 + b"y" + b"x" * 49)
    os.utime(cache.path(STEPS[0]) / "weights.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (cache.path(STEPS[1]) / "weights.bin").unlink()
    (cache.path(STEPS[2]) / "manifest.json").write_text("{")
    problems = "\n".join(sorted(cache.verify()))
    assert f"{STEPS[0].name}: weights.bin has the checksum" in problems
    assert f"{STEPS[1].name}: weights.bin is missing" in problems
    assert f"{STEPS[2].name}: manifest.json can't be read" in problems
    assert problems.count("\n") == 2
    assert len(cache.entries()) == 4


def test_gc_removes_debris_and_keeps_artifacts_and_what_users_made(full):
    mine = users_files(full)
    listed = {entry.path for entry in full.gc(dry_run=True)}
    assert users_files(full) == mine
    assert full.root / "distill" / f".{STEPS[1].key[:12]}.partial" in listed
    assert full.root / "distill" / f"{STEPS[2].key[:12]}.damaged-1" in listed
    removed = {entry.path for entry in full.gc()}
    assert removed == listed
    assert not any(path.exists() for path in removed)
    assert users_files(full) == mine
    assert len(mine) == 4
    assert full.lookup(STEP) is not None
    left = {path.name for path in (full.root / "distill").iterdir()}
    assert left == {STEP.key[:12], "my-best", "0123456789ab", "x.lock"}
    assert full.gc() == []


def test_a_dry_run_touches_no_file(full):
    for lock in (full.root / "distill").glob(".*.lock"):
        lock.unlink()
    before = sorted(path for path in full.root.rglob("*"))
    assert full.gc(older_than_days=0, dry_run=True)
    assert sorted(path for path in full.root.rglob("*")) == before


def test_gc_counts_from_the_last_use(cache):
    for step in STEPS[:2]:
        cache.build(step, make)
        ten_days_ago = time.time() - 10 * 86400
        os.utime(cache.path(step), (ten_days_ago, ten_days_ago))
    assert cache.lookup(STEPS[0])  # used today
    removed = [entry.path for entry in cache.gc(older_than_days=7) if entry.state == "ok"]
    assert removed == [cache.path(STEPS[1])]
    assert cache.lookup(STEPS[0]) is not None
    assert cache.lookup(STEPS[1]) is None


def test_gc_holds_the_lock_until_all_is_removed(full, monkeypatch):
    """A process that builds while gc still removes would lose its working folder."""
    lock, rmtree, taken = full.root / "distill" / f".{STEPS[1].key[:12]}.lock", shutil.rmtree, []

    def remove(path, **options):
        with locked(lock) as free:
            taken.append((path.name, free))
        rmtree(path, **options)

    monkeypatch.setattr("braindistill.cache.inventory.shutil.rmtree", remove)
    full.gc()
    assert (f".{STEPS[1].key[:12]}.partial", False) in taken
    assert not lock.exists()


def test_gc_leaves_what_is_being_built(full):
    partial = full.root / "distill" / f".{STEPS[1].key[:12]}.partial"
    with locked(full.root / "distill" / f".{STEPS[1].key[:12]}.lock"):
        assert partial not in {entry.path for entry in full.gc(dry_run=True)}
        assert partial not in {entry.path for entry in full.gc()}
        assert (partial / "checkpoint" / "epoch").read_text() == "5"
    assert partial in {entry.path for entry in full.gc()}
