"""Fingerprints follow content, and unchanged inputs are not read again."""

import hashlib
import json
import os

import pytest

from braindistill.cache import fingerprint as fingerprints
from braindistill.cache.durable import checksum
from braindistill.cache.fingerprint import fingerprint
from braindistill.errors import UserError

LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    for name, text in {"a.txt": "one", "sub/b.txt": "two", ".hidden": "x", ".git/c": "y"}.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(text)
    return data


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, with the rule that a file must have settled switched off."""
    seen = []
    monkeypatch.setattr(fingerprints, "checksum", lambda file: seen.append(file) or checksum(file))
    monkeypatch.setattr(fingerprints, "_SETTLED", -1)
    return seen


def test_a_file_has_the_sha256_of_its_bytes(tmp_path):
    file = tmp_path / "x.npy"
    file.write_bytes(b"abc" * 1_000_000)
    assert fingerprint(file) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_a_folder_is_known_by_names_and_bytes_wherever_it_lies(folder, tmp_path):
    before = fingerprint(folder)
    assert fingerprint(folder.rename(tmp_path / "moved")) == before


@pytest.mark.parametrize("name", [".hidden", ".git/c", ".new"])
def test_hidden_files_do_not_count(folder, name):
    before = fingerprint(folder)
    (folder / name).write_text("other")
    assert fingerprint(folder) == before


def test_every_visible_change_counts(folder):
    def edit():
        (folder / "a.txt").write_text("ONE")

    def rename():
        (folder / "a.txt").rename(folder / "c.txt")

    def add():
        (folder / "empty").touch()

    def move():
        (folder / "sub/b.txt").rename(folder / "b.txt")

    seen = [fingerprint(folder)]
    for change in (edit, rename, add, move):
        change()
        seen.append(fingerprint(folder))
    assert len(set(seen)) == 5


def test_an_unchanged_folder_is_only_listed(folder, tmp_path, reads):
    memo = tmp_path / "memo.json"
    first = fingerprint(folder, memo)
    assert len(reads) == 2
    assert fingerprint(folder, memo) == first
    assert len(reads) == 2


@pytest.mark.parametrize("restore_time", [False, True])
def test_an_edit_of_the_same_size_is_noticed(folder, tmp_path, reads, restore_time):
    memo, file = tmp_path / "memo.json", folder / "a.txt"
    os.utime(file, (LONG_AGO, LONG_AGO))
    first = fingerprint(folder, memo)
    file.write_text("ONE")
    if restore_time:  # as rsync and cp -p do
        os.utime(file, (LONG_AGO, LONG_AGO))
    assert fingerprint(folder, memo) != first


def test_a_file_that_was_edited_just_now_is_not_remembered(folder, tmp_path):
    fingerprint(folder, tmp_path / "memo.json")
    assert not (tmp_path / "memo.json").exists()


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"PATH": 1}', '{"PATH": {"listing": 1}}', "\x00"])
def test_a_broken_memo_is_started_anew(folder, tmp_path, reads, broken):
    memo = tmp_path / "memo.json"
    memo.write_text(broken.replace("PATH", str(folder)))
    assert fingerprint(folder, memo) == fingerprint(folder)
    assert str(folder) in json.loads(memo.read_text())


def test_a_memo_that_cannot_be_written_does_no_harm(folder, tmp_path, reads):
    assert fingerprint(folder, tmp_path / "missing" / "memo.json") == fingerprint(folder)


def test_links_are_followed_and_circles_end(folder, tmp_path):
    before = fingerprint(folder)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "d.txt").write_text("far")
    (folder / "linked").symlink_to(tmp_path / "far")
    (folder / "sub" / "up").symlink_to(folder)
    linked = fingerprint(folder)
    assert linked != before
    (tmp_path / "far" / "d.txt").write_text("FAR")
    assert fingerprint(folder) != linked


def test_fetching_a_file_that_was_a_link_to_nowhere_changes_the_fingerprint(folder, tmp_path):
    (folder / "annexed").symlink_to(tmp_path / "content")
    before = fingerprint(folder)
    (tmp_path / "content").write_text("fetched")
    assert fingerprint(folder) != before


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.npz: there is no such file"):
        fingerprint(tmp_path / "nothing.npz")


def test_only_the_files_that_are_used_count(tmp_path):
    root = tmp_path / "data"
    for name in ("subj01/betas.nii", "subj02/betas.nii", "design.mat"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    used = ["subj01/*", "design.mat"]
    before = fingerprint(root, only=used)
    (root / "subj02" / "betas.nii").write_text("another subject")
    assert fingerprint(root, only=used) == before
    assert fingerprint(root) != before
    (root / "subj01" / "betas.nii").write_text("edited")
    assert fingerprint(root, only=used) != before
    assert fingerprint(root / "design.mat", only=["subj01/*"]) == fingerprint(root / "design.mat")
