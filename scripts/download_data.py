#!/usr/bin/env python
"""Fetch a public data set, or torchvision's weights of a network, from its official place.

    python scripts/download_data.py --list
    python scripts/download_data.py NAME            what it is, its licence and its size
    python scripts/download_data.py NAME --yes      fetch it into data/NAME

Nothing is fetched without ``--yes``. Each file is checked against its checksum (through pooch: ``pip install pooch``)
and gets its name only then; what a broken download left (``NAME.part``) is continued. Addresses and checksums are in
``data_sources.json`` beside this script; ``verified: false`` there means that they could not be checked against the
owners' documentation.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_name("data_sources.json")
FIGSHARE = "https://api.figshare.com/v2/articles/{}/files?page_size=1000"
CHUNK = 2**20


class DownloadError(Exception):
    """One line for the person who started the download."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if what was asked for is there, 1 if not."""
    parser = argparse.ArgumentParser(description="Fetch a public data set or torchvision's weights of a network.")
    parser.add_argument("name", nargs="?", help="a name that --list gives, or a torchvision network: resnet18")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="folder (default: data/NAME; weights: where torch looks)"
    )
    parser.add_argument("--only", metavar="PATTERN", help="only these files, as in a shell: 'sub-1/*', 'Subject1.h5'")
    parser.add_argument("--yes", action="store_true", help="fetch; without it, only licence and size are printed")
    parser.add_argument("--list", action="store_true", help="list the names")
    options = parser.parse_args(arguments)
    sources = json.loads(SOURCES.read_text(encoding="utf-8"))
    if options.list or not options.name:
        for name, source in sources.items():
            print(f"{name:15} {source['title']}")
        print("or a network of torchvision, such as resnet18 or resnet18:IMAGENET1K_V1")
        return 0
    try:
        source = sources.get(options.name) or describe_weights(options.name, list(sources))
        folder = options.to or (Path(source["folder"]) if "folder" in source else Path("data") / options.name)
        return run(options.name, source, folder, options.only, options.yes)
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(name: str, source: dict[str, Any], folder: Path, only: str | None, yes: bool) -> int:
    """Print what a source is, and fetch it into a folder where ``yes`` says so."""
    if "figshare" in source and yes:
        source = source | {"files": list_figshare(source["figshare"], source["pattern"])}
    files = [file for file in source.get("files", []) if not only or fnmatch.fnmatch(file["path"], only)]
    size = sum(file["size"] for file in files)
    print(f"{source['title']}\nlicence  {source['licence']}\nsource   {source['source']}")
    print(f"size     {f'{size / 1e6:,.1f} MB in {len(files)} files' if size else source['size']}")
    if source["note"]:
        print(f"note     {source['note']}")
    if not source["verified"]:
        print(
            "caution  this address could not be checked against the owners' documentation: compare it before you fetch"
        )
    if "steps" in source:
        print("This data set needs an agreement with its owners, so no program can fetch it. The steps:")
        for step in source["steps"]:
            print(f"  {step}")
        print(f"then: braindistill prepare {source['use']}")
        return 1
    if not yes:
        print(f"to fetch it into {folder}: python scripts/download_data.py {name} --yes")
        return 0
    if not files:
        raise DownloadError(f"{name}: no file to fetch{f' matches --only {only}' if only else ''}")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size * (2 if source.get("unpack") else 1) > free:
        raise DownloadError(
            f"{folder} has {free / 1e9:.1f} GB left; {name} needs {size / 1e9:.1f} GB and room to unpack"
        )
    for file in files:
        path = fetch(file["url"], folder / file["path"], file["hash"], file["size"])
        if source.get("unpack"):
            unpack(path, folder)
    print(f"{name} is in {folder}; use it with: {source['use']}")
    return 0


def fetch(url: str, path: Path, checksum: str | None, size: int) -> Path:
    """Fetch one file, continuing a part of it, and check it; a file that is there and right is left alone.

    Parameters
    ----------
    checksum : ``md5:…`` or ``sha256:…``; of a sha256 the first digits will do. None checks the size only.
    size : bytes; 0 = not known
    """
    try:
        import pooch
    except ImportError as error:
        raise DownloadError("downloads are checked by pooch: pip install pooch") from error
    algorithm, _, digest = (checksum or "").partition(":")
    if path.exists():
        if not _is_right(path, algorithm, digest, size):
            raise DownloadError(f"{path} is there, but is not the file of {url}; remove it to fetch it again")
        print(f"{path} is there already")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = checksum if len(digest) in (32, 64) else None
    pooch.get_logger().setLevel("WARNING")

    def download(url: str, output_file: str, _: object) -> None:
        part = path.with_name(f"{path.name}.part")
        resume(url, part, size)
        shutil.move(part, output_file)  # pooch checks it, and gives it its name or removes it

    try:
        pooch.retrieve(url, whole, fname=path.name, path=path.parent, downloader=download)
    except ValueError as error:
        raise DownloadError(f"{url}: the checksum is not {checksum}, the file was removed; fetch it again") from error
    if not _is_right(path, algorithm, digest, size):
        path.unlink()
        raise DownloadError(f"{url}: not the {size} bytes or the checksum {checksum} expected; it was removed")
    return path


def resume(url: str, part: Path, size: int = 0) -> None:
    """Fetch a file, from where ``part`` ends if the server can (HTTP Range), else from the start."""
    from tqdm import tqdm

    start = part.stat().st_size if part.exists() else 0
    if size and start == size:
        return
    headers = {"User-Agent": "braindistill"} | ({"Range": f"bytes={start}-"} if 0 < start < (size or start + 1) else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            continued = answer.status == 206
            start = start if continued else 0
            total = int(answer.headers.get("Content-Length") or 0) + start
            with (
                part.open("ab" if continued else "wb") as file,
                tqdm(total=total or None, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar,
            ):
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except (urllib.error.URLError, OSError) as error:
        raise DownloadError(f"{url}: {error}; start the same command again to continue") from error
    if total and part.stat().st_size < total:
        raise DownloadError(f"{url}: broke off at {part.stat().st_size} of {total} bytes; start the same command again")


def list_figshare(article: int, pattern: str) -> list[dict[str, Any]]:
    """The files of a figshare article, with the sizes and MD5 sums of figshare's own record."""
    url = FIGSHARE.format(article)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            listed = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DownloadError(f"{url}: {error}; the list of files could not be read") from error
    found = []
    for file in listed:
        if re.fullmatch(pattern, file["name"]):
            digest = file.get("computed_md5") or file.get("supplied_md5")
            if not digest:
                raise DownloadError(f"{url}: figshare gives no checksum of {file['name']}")
            found.append(
                {"path": file["name"], "url": file["download_url"], "hash": f"md5:{digest}", "size": file["size"]}
            )
    if not found:
        raise DownloadError(f"{url}: none of its {len(listed)} files has a name like {pattern}")
    return found


def describe_weights(name: str, known: list[str]) -> dict[str, Any]:
    """The source of a torchvision network's weights: ``resnet18`` (the default ones) or ``resnet18:IMAGENET1K_V1``."""
    model, _, which = name.partition(":")
    try:
        import torch
        from torchvision.models import get_model_weights, list_models
    except ImportError as error:
        raise DownloadError(f"{name}: no such data set; known: {', '.join(known)}") from error
    if model not in list_models():
        raise DownloadError(f"{name}: no such data set or torchvision network; known: {', '.join(known)}")
    all_weights = get_model_weights(model)
    if which and which not in all_weights.__members__:
        raise DownloadError(f"{name}: {model} has no such weights; known: {', '.join(all_weights.__members__)}")
    weights = all_weights[which] if which else all_weights.DEFAULT  # type: ignore[attr-defined]
    file = weights.url.rsplit("/", 1)[1]
    digits = re.search(r"-([0-9a-f]{8,})\.", file)
    return {
        "title": f"torchvision's weights {weights} of {model}",
        "licence": "torchvision is BSD-3-Clause; weights follow the terms of their training data (ImageNet: research only)",
        "source": weights.meta.get("_docs") and "https://pytorch.org/vision/stable/models.html",
        "size": f"{weights.meta.get('_file_size', 0):.0f} MB",
        "verified": digits is not None,
        "note": "checked by the first digits of its SHA-256, which torchvision puts into the name",
        "folder": str(Path(torch.hub.get_dir()) / "checkpoints"),
        "files": [
            {"path": file, "url": weights.url, "hash": digits and f"sha256:{digits[1]}", "size": 0},
        ],
        "use": "any option that takes pretrained weights",
    }


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive; any other file is left alone. Nothing is written outside the folder."""
    try:
        if archive.name.endswith((".tar.gz", ".tgz", ".tar")):
            with tarfile.open(archive) as members:
                if hasattr(tarfile, "data_filter"):
                    members.extractall(folder, filter="data")
                else:  # Python before 3.11.4
                    members.extractall(folder, _harmless(members, folder))
        elif archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DownloadError(f"{archive} cannot be unpacked ({error}); remove it and fetch it again") from error


def _harmless(members: tarfile.TarFile, folder: Path) -> list[tarfile.TarInfo]:
    """All members, if they are plain files and folders that stay inside the folder."""
    for member in members:
        inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
        if not inside or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is no plain file inside the folder")
    return members.getmembers()


def _is_right(path: Path, algorithm: str, digest: str, size: int) -> bool:
    import pooch

    if size and path.stat().st_size != size:
        return False
    return not digest or pooch.file_hash(str(path), alg=algorithm).startswith(digest)


if __name__ == "__main__":
    sys.exit(main())
