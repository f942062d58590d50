"""The download script against a server on this machine: nothing here leaves it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("pooch", reason="the extra 'download' is not installed")

SCRIPT = Path(__file__).parents[1] / "scripts/download_data.py"
CONTENT = bytes(range(256)) * 400


def load_script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("download_data", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


script = load_script()


class Server:
    """Serves ``files``; ``requests`` are (path, Range); a file named in ``broken`` ends after that many bytes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.broken: dict[str, int] = {}
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                server.requests.append((self.path, asked))
                body = server.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                self.wfile.write(body[start : server.broken.get(self.path, len(body))])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def offer(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: Any) -> None:
    """A registry with one data set, ``toy``, of one file on the server."""
    server.files.setdefault("/toy.bin", CONTENT)
    content = server.files["/toy.bin"]
    file = {"path": "deep/toy.bin", "url": server.url("/toy.bin"), "hash": md5(content), "size": len(content)}
    source = {
        "title": "Toy data",
        "licence": "CC0",
        "source": "here",
        "size": "",
        "verified": True,
        "note": "",
        "use": "x",
    }
    (tmp_path / "sources.json").write_text(json.dumps({"toy": source | {"files": [file]} | changes}))
    monkeypatch.setattr(script, "SOURCES", tmp_path / "sources.json")


def test_nothing_is_fetched_without_yes(server, monkeypatch, tmp_path, capsys):
    offer(server, monkeypatch, tmp_path)
    assert script.main(["toy", "--to", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert "licence  CC0" in said
    assert "0.1 MB in 1 files" in said
    assert "python scripts/download_data.py toy --yes" in said
    assert not server.requests
    assert not (tmp_path / "data").exists()


def test_a_file_is_fetched_once(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, tmp_path)
    for _ in range(2):
        assert script.main(["toy", "--to", str(tmp_path / "data"), "--yes"]) == 0
    assert (tmp_path / "data/deep/toy.bin").read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued(server, monkeypatch, tmp_path, capsys, ranges):
    offer(server, monkeypatch, tmp_path)
    server.broken["/toy.bin"] = 70_000
    server.ranges = ranges
    assert script.main(["toy", "--to", str(tmp_path), "--yes"]) == 1
    assert "same command again" in capsys.readouterr().err
    assert not (tmp_path / "deep/toy.bin").exists()
    assert (tmp_path / "deep/toy.bin.part").stat().st_size == 70_000
    server.broken.clear()
    assert script.main(["toy", "--to", str(tmp_path), "--yes"]) == 0
    assert (tmp_path / "deep/toy.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=70000-"]
    assert not (tmp_path / "deep/toy.bin.part").exists()


def test_a_wrong_checksum_leaves_nothing(server, monkeypatch, tmp_path, capsys):
    offer(server, monkeypatch, tmp_path)
    server.files["/toy.bin"] = CONTENT[::-1]
    assert script.main(["toy", "--to", str(tmp_path), "--yes"]) == 1
    assert "the checksum is not md5:" in capsys.readouterr().err
    assert not list((tmp_path / "deep").iterdir())


def test_a_file_of_the_user_is_not_overwritten(server, monkeypatch, tmp_path, capsys):
    offer(server, monkeypatch, tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/toy.bin").write_bytes(b"mine")
    assert script.main(["toy", "--to", str(tmp_path), "--yes"]) == 1
    assert "toy.bin is there, but is not the file" in capsys.readouterr().err
    assert (tmp_path / "deep/toy.bin").read_bytes() == b"mine"
    assert not server.requests


def test_a_missing_address_is_one_line(server, monkeypatch, tmp_path, capsys):
    offer(server, monkeypatch, tmp_path)
    server.files.clear()
    assert script.main(["toy", "--to", str(tmp_path), "--yes"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: http://127.0.0.1")
    assert "404" in error


def test_only_chooses_files(server, monkeypatch, tmp_path, capsys):
    offer(server, monkeypatch, tmp_path)
    assert script.main(["toy", "--to", str(tmp_path), "--yes", "--only", "sub-1/*"]) == 1
    assert "no file to fetch matches --only sub-1/*" in capsys.readouterr().err


def test_archives_are_unpacked_and_stay_inside(server, monkeypatch, tmp_path, capsys):
    (tmp_path / "hello.txt").write_text("hello")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "hello.txt", "folder/hello.txt")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "hello.txt", "../outside.txt")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as zipped:
        zipped.writestr("zipped/hello.txt", "hello")
    files = []
    for name in ("a.tar.gz", "c.zip", "b.tar.gz"):
        content = (tmp_path / name).read_bytes()
        server.files[f"/{name}"] = content
        files.append({"path": name, "url": server.url(f"/{name}"), "hash": md5(content), "size": len(content)})
    offer(server, monkeypatch, tmp_path, files=files, unpack=True)
    assert script.main(["toy", "--to", str(tmp_path / "data"), "--yes"]) == 1
    assert (tmp_path / "data/folder/hello.txt").read_text() == "hello"
    assert (tmp_path / "data/zipped/hello.txt").read_text() == "hello"
    assert "b.tar.gz cannot be unpacked" in capsys.readouterr().err
    assert not (tmp_path / "outside.txt").exists()


def test_figshare_gives_files_and_checksums(server, monkeypatch, tmp_path, capsys):
    server.files["/7"] = CONTENT
    listed = [
        {
            "name": "Subject1.h5",
            "download_url": server.url("/7"),
            "computed_md5": md5(CONTENT)[4:],
            "size": len(CONTENT),
        },
        {"name": "other.txt", "download_url": server.url("/8"), "computed_md5": "0" * 32, "size": 1},
    ]
    server.files["/files"] = json.dumps(listed).encode()
    monkeypatch.setattr(script, "FIGSHARE", server.url("/files"))
    offer(server, monkeypatch, tmp_path, files=[], figshare=1, pattern=r"Subject\d\.h5", verified=False)
    assert script.main(["toy", "--to", str(tmp_path), "--yes"]) == 0
    assert (tmp_path / "Subject1.h5").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/files", "/7"]
    assert "could not be checked against the owners' documentation" in capsys.readouterr().out


def test_the_first_digits_of_a_sha256_will_do(server, tmp_path):
    server.files["/net.pth"] = CONTENT
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    assert script.fetch(server.url("/net.pth"), tmp_path / "net.pth", f"sha256:{digits}", 0).read_bytes() == CONTENT
    with pytest.raises(script.DownloadError, match="checksum sha256:00000000 expected"):
        script.fetch(server.url("/net.pth"), tmp_path / "other.pth", "sha256:00000000", 0)
    assert not (tmp_path / "other.pth").exists()


def test_weights_of_torchvision_by_name(capsys):
    assert script.main(["resnet18"]) == 0
    assert "resnet18" in capsys.readouterr().out
    described = script.describe_weights("resnet50:IMAGENET1K_V1", [])
    assert described["files"][0]["hash"].startswith("sha256:")
    with pytest.raises(script.DownloadError, match="resnet18 has no such weights; known: IMAGENET1K_V1"):
        script.describe_weights("resnet18:V9", [])
    assert script.main(["restnet"]) == 1
    assert "no such data set or torchvision network" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nsd", "algonauts2023"])
def test_sets_with_an_agreement_print_the_steps(name, capsys):
    assert script.main([name, "--yes"]) == 1
    said = capsys.readouterr().out
    assert "needs an agreement with its owners" in said
    assert "form" in said


def test_every_source_is_complete():
    sources = json.loads(script.SOURCES.read_text())
    assert {"god", "bold5000", "things", "haxby2001", "cifar10", "cifar100", "mnist", "nsd", "algonauts2023"} == set(
        sources
    )
    for name, source in sources.items():
        assert {"title", "licence", "source", "size", "verified", "note", "use"} <= set(source), name
        assert {"files", "figshare", "steps"} & set(source), name
        for file in source.get("files", []):
            assert file["url"].startswith("https://"), file
            assert len(file["hash"]) == len("md5:") + 32, file
            assert file["size"] > 0, file
            assert not Path(file["path"]).is_absolute()
