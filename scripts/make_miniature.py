"""Make a public data set in miniature, in its true layout, to try an experiment without the data: nobody was scanned.

    python scripts/make_miniature.py god small --signal 1
    braindistill eval experiment=god2021 fmri.root=small fmri.stimuli=small/images eval.seeds=2 …

``god``: BData files of subjects and pictures by ImageNet names, a category being a colour and an orientation.
``algonauts2023``: NSD on the surface; its pictures are of the CIFAR-100 miniature's kind.
``cifar100``: the binary archive, ten coarse kinds of picture under a hundred labels.
``--signal 0`` gives responses of pure noise: a sound experiment then finds nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from braindistill.runtime import numpy_generator

ROIS = ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA"]
UNIONS = {"LVC": ROIS[:4], "HVC": ROIS[4:], "VC": ROIS}


def make_god(root: Path, signal: float, *, subjects: int, categories: int, per_category: int, voxels: int) -> None:
    """Write ``Subject1.h5`` … and ``images/``: training trials only, each picture shown once."""
    import h5py
    from PIL import Image

    names = [(1518878 + 1111 * c, 100 + i) for c in range(categories) for i in range(per_category)]
    kinds = np.repeat(np.arange(categories), per_category)
    pictures = _draw(kinds, categories, side=32, seed=1)
    for (category, image), picture in zip(names, pictures, strict=True):
        file = root / "images" / f"n{category:08d}" / f"n{category:08d}_{image}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(file, quality=95)
    width = voxels * len(ROIS)
    columns = {
        "DataType": np.ones(len(names)),
        "stimulus_id": np.array([float(f"{category}.{image:06d}") for category, image in names]),
        "Run": np.arange(len(names)) % 4 + 1.0,
    }
    total = width + len(columns)
    place = np.arange(total)
    keys = {"VoxelData": place < width}
    keys |= {f"ROI_{roi}": (place < width) & (place // voxels == k) for k, roi in enumerate(ROIS)}
    for union, parts in UNIONS.items():
        keys[f"ROI_{union}"] = np.any([keys[f"ROI_{part}"] for part in parts], axis=0)
    values = [np.where(place < width, np.where(mask, 1.0, 0.0), np.nan) for mask in keys.values()]
    values += [np.where(place < width, place + axis, np.nan).astype(float) for axis in range(3)]
    values += [np.where(place == width + column, 1.0, np.nan) for column in range(len(columns))]
    names_of_keys = [*keys, "voxel_x", "voxel_y", "voxel_z", *columns]
    for subject in range(1, subjects + 1):
        responses = _respond(pictures, kinds, signal, width, numpy_generator(subject, "miniature"))
        order = numpy_generator(subject, "order").permutation(len(names))
        table = np.concatenate([responses, np.stack(list(columns.values()), 1)], axis=1)[order]
        with h5py.File(root / f"Subject{subject}.h5", "w") as file:
            file["dataset"] = table
            group = file.create_group("metadata")
            group["key"] = [key.encode() for key in names_of_keys]
            group["description"] = [b""] * len(names_of_keys)
            group["value"] = np.array(values)


def make_algonauts(root: Path, signal: float, *, pictures: int, vertices: int) -> None:
    """Write ``subj01`` with both hemispheres, the ROI ``V1v`` and the stream ``ventral``."""
    from PIL import Image

    folder = root / "subj01"
    for part in ("training_split/training_fmri", "training_split/training_images", "roi_masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    kinds = np.arange(pictures) % 10
    drawn = _draw(kinds, 10, side=32, seed=2)
    for row, picture in enumerate(drawn, start=1):
        file = folder / "training_split/training_images" / f"train-{row:04d}_nsd-{7 * row:05d}.png"
        Image.fromarray(picture.transpose(1, 2, 0)).save(file)
    for side in ("lh", "rh"):
        responses = _respond(drawn, kinds, signal, vertices, numpy_generator(3, "miniature", side))
        np.save(folder / f"training_split/training_fmri/{side}_training_fmri.npy", responses.astype(np.float32))
        half = np.arange(vertices) < vertices // 2
        np.save(folder / f"roi_masks/{side}.prf-visualrois_challenge_space.npy", half.astype(int))
        np.save(folder / f"roi_masks/{side}.streams_challenge_space.npy", np.where(half, 0, 5))
    # the challenge's tables of names are pickled dicts: the reader admits these alone
    np.save(folder / "roi_masks/mapping_prf-visualrois.npy", {0: "Unknown", 1: "V1v"})  # type: ignore[arg-type]
    np.save(folder / "roi_masks/mapping_streams.npy", {0: "Unknown", 5: "ventral"})  # type: ignore[arg-type]


def make_cifar100(root: Path, *, train: int, test: int) -> None:
    """Write ``train.bin``, ``test.bin`` and the names of 20 coarse and 100 fine classes."""
    root.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("test", test)):
        fine = np.arange(count) % 100
        pictures = _draw(fine % 10, 10, side=32, seed=3 if part == "train" else 4, fine=fine)
        rows = np.concatenate([(fine // 5)[:, None], fine[:, None], pictures.reshape(count, -1)], axis=1)
        (root / f"{part}.bin").write_bytes(rows.astype(np.uint8).tobytes())
    (root / "fine_label_names.txt").write_text("".join(f"fine_{k:02d}\n" for k in range(100)))
    (root / "coarse_label_names.txt").write_text("".join(f"coarse_{k:02d}\n" for k in range(20)))


def _draw(kinds: np.ndarray, n_kinds: int, *, side: int, seed: int, fine: np.ndarray | None = None) -> np.ndarray:
    """Gratings (n × 3 × side × side, uint8): a kind is an orientation and a colour; phase, contrast and noise vary."""
    rng = numpy_generator(seed, "pictures")
    y, x = np.mgrid[:side, :side] / side
    angle = np.pi * kinds / n_kinds
    frequency = 3.0 + (0 if fine is None else fine // 10 % 10 / 3)
    wave = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    phase = rng.uniform(0, 2 * np.pi, (len(kinds), 1, 1))
    grating = np.sin(2 * np.pi * np.reshape(frequency * np.ones(len(kinds)), (-1, 1, 1)) * wave + phase)
    hue = 2 * np.pi * kinds / n_kinds
    colour = np.stack([np.cos(hue), np.cos(hue - 2.1), np.cos(hue + 2.1)], axis=1)
    contrast = rng.uniform(20, 60, (len(kinds), 1, 1, 1))
    pictures = 128 + contrast * grating[:, None] * (1 + 0.5 * colour[:, :, None, None])
    pictures = pictures + rng.normal(0, 25, pictures.shape)
    return np.clip(pictures, 0, 255).astype(np.uint8)


def _respond(
    pictures: np.ndarray, kinds: np.ndarray, signal: float, width: int, rng: np.random.Generator
) -> np.ndarray:
    """Unit noise, and ``signal`` times what voxels read: half the picture's blurred pixels, half its kind."""
    blurred = pictures.reshape(len(pictures), 3, 8, 4, 8, 4).mean((3, 5)).reshape(len(pictures), -1)
    blurred = (blurred - blurred.mean(0)) / blurred.std()
    seen = blurred @ rng.normal(0, 1, (blurred.shape[1], width)) / np.sqrt(blurred.shape[1])
    known = rng.normal(0, 1, (kinds.max() + 1, width))[kinds]
    return signal * (seen + known) / np.sqrt(2) + rng.normal(0, 1, (len(pictures), width))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=("god", "algonauts2023", "cifar100"))
    parser.add_argument("root", type=Path, help="a new folder")
    parser.add_argument("--signal", type=float, default=1.0, help="against unit noise; 0: nothing but noise")
    parser.add_argument("--subjects", type=int, default=2, help="of god")
    parser.add_argument("--categories", type=int, default=10, help="of god")
    parser.add_argument("--per-category", type=int, default=8, help="of god: pictures of a category")
    parser.add_argument("--pictures", type=int, default=300, help="of algonauts2023")
    parser.add_argument("--voxels", type=int, default=20, help="an ROI (god), or vertices a hemisphere")
    parser.add_argument("--train", type=int, default=1000, help="of cifar100")
    given = parser.parse_args()
    if given.root.exists():
        parser.error(f"{given.root} exists; give a new folder")
    if given.kind == "god":
        sizes = {"subjects": given.subjects, "categories": given.categories, "per_category": given.per_category}
        make_god(given.root, given.signal, voxels=given.voxels, **sizes)
    elif given.kind == "algonauts2023":
        make_algonauts(given.root, given.signal, pictures=given.pictures, vertices=given.voxels)
    else:
        make_cifar100(given.root, train=given.train, test=max(100, given.train // 5))


if __name__ == "__main__":
    main()
