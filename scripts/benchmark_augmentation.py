"""How many 32 × 32 colour images a second are cropped and mirrored, here and as torchvision does it, on one thread.

    python scripts/benchmark_augmentation.py
    python scripts/benchmark_augmentation.py --images 50000 --json augmentation.json

All crop out of 4 pixels of padding and mirror every other image, from images in memory to batches: uint8, and float
normalised. ``bank`` is `ImageBank`, in blocks of 1,024 images; ``compose`` is torchvision's Compose on one picture after the
other; ``loader`` a DataLoader of that with two processes and batches of 128; ``v2`` torchvision's transforms.v2 on one
tensor after the other. Each repeat times them in turn; a ratio is the median over repeats.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from braindistill.images import ImageBank, draw_moves, normalise

SIZE, CROP = 32, 4
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
BLOCK, BATCH, WORKERS = 1024, 128, 2


class Pictures(torch.utils.data.Dataset):
    """Pictures that are transformed when they are asked for."""

    def __init__(self, pictures: list[Any], transform: Callable[[Any], Tensor]) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Tensor:
        return self.transform(self.pictures[row])


def time_augmentation(repeats: int = 7, images: int = 5000) -> dict[str, Any]:
    """Time them all, on the threads that torch has.

    Parameters
    ----------
    repeats : of which the medians count; one more comes first, to warm up
    images : in the resident set

    Returns
    -------
    dict
        ``uint8`` and ``float``: {``images_per_second``: {name: median}, ``ratio``: {name: our rate over that one's, median
        of the repeats' own ratios}}; and what was measured
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, SIZE, SIZE), generator=generator).to(torch.uint8)
    bank = ImageBank(pixels, "cpu", crop=CROP, flip=True)
    found: dict[str, Any] = {
        kind: _compare(_contestants(pixels, bank, generator, kind == "float"), repeats) for kind in ("uint8", "float")
    }
    return found | {
        "images": images,
        "bank_megabytes": bank.nbytes / 2**20,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
    }


def _contestants(
    pixels: Tensor, bank: ImageBank, generator: torch.Generator, normalised: bool
) -> dict[str, Callable[[], int]]:
    """Name → what makes some images, and says how many."""
    from PIL import Image
    from torchvision import transforms
    from torchvision.transforms import v2

    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    moving = [transforms.RandomCrop(SIZE, padding=CROP), transforms.RandomHorizontalFlip()]
    ending = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)] if normalised else [transforms.PILToTensor()]
    compose = transforms.Compose([*moving, *ending])
    scaling = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)] if normalised else []
    second = v2.Compose([v2.RandomCrop(SIZE, padding=CROP), v2.RandomHorizontalFlip(), *scaling])
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels[:2048]]
    loader = torch.utils.data.DataLoader(
        Pictures(pictures, compose), BATCH, num_workers=WORKERS, shuffle=True, persistent_workers=True
    )

    def run_bank() -> int:
        for _ in range(16):
            rows = torch.randint(len(pixels), (BLOCK,), generator=generator)
            batch = bank.take(rows, draw_moves(BLOCK, SIZE, SIZE, generator, crop=CROP, flip=True))
            if normalised:
                normalise(batch, mean, std)
        return 16 * BLOCK

    def run_compose() -> int:
        for picture in pictures:
            compose(picture)
        return len(pictures)

    def run_loader() -> int:
        return sum(len(batch) for batch in loader)

    def run_second() -> int:
        for image in pixels[:1024]:
            second(image)
        return min(1024, len(pixels))

    return {"bank": run_bank, "compose": run_compose, "loader": run_loader, "v2": run_second}


def _compare(contestants: dict[str, Callable[[], int]], repeats: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            made = run()
            rates[name].append(made / (time.perf_counter() - started))
    rates = {name: each[1:] for name, each in rates.items()}
    ratio = {
        name: median(ours / theirs for ours, theirs in zip(rates["bank"], each, strict=True))
        for name, each in rates.items()
        if name != "bank"
    }
    return {"images_per_second": {name: median(each) for name, each in rates.items()}, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5000, help="in the resident set")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = time_augmentation(given.repeats, given.images)
    print(
        f"{found['images']} images, {found['bank_megabytes']:.0f} MB, torch {found['torch']}, {given.threads} threads"
    )
    for kind in ("uint8", "float"):
        for name, rate in found[kind]["images_per_second"].items():
            ratio = found[kind]["ratio"].get(name)
            print(f"{kind:6} {name:8} {rate:12,.0f} images/s" + (f"   bank / {name} {ratio:6.1f}" if ratio else ""))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
