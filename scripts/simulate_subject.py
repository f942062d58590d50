"""A simulated subject who looks at your pictures, with known truth: what CIFAR-10 can't have otherwise.

    python scripts/simulate_subject.py CIFAR10_FOLDER subject
    braindistill eval experiment=cifar10_brain fmri.path=subject/fmri.npz images.path=subject/images.npz

CIFAR10_FOLDER holds ``train/CLASS/*.png`` and ``test/CLASS/*.png``. An observer, a ResNet-20, is trained on labelled
pictures that nobody sees again; then ``--stimuli`` other pictures are shown to it. Its voxels:

- ``V1``: energies of Gabor filters (Adelson & Bergen 1985) at random places, scales and orientations: the picture, no more.
- ``V4``: random linear readouts of the observer's second stage, averaged over 4 × 4 places.
- ``IT``: random linear readouts of the features in front of its last layer: what it has learned about classes.
- ``nuisance``: noise only.

Signals have unit variance over the stimuli, and each trial adds Gaussian noise of variance 1 / snr; nuisance voxels have
the same total variance. ``fmri.npz`` and ``images.npz`` are what ``fmri=arrays`` and ``images=arrays`` read: the students'
training images are the stimuli, and the test images are those of the folder. ``truth.json`` says how good the observer is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from braindistill.images import ImageSet, channel_statistics, load_folder, normalise
from braindistill.runtime import Runtime, numpy_generator, threads
from braindistill.students.build import build
from braindistill.students.taps import Tapped
from braindistill.training import Learner, TrainingSet, TrainOptions, Validation, train

ROIS = ("V1", "V4", "IT", "nuisance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--stimuli", type=int, default=2000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--observer", type=int, default=10000, help="pictures that the observer learns from")
    parser.add_argument("--epochs", type=int, default=15, help="of the observer's training")
    parser.add_argument("--voxels", type=int, default=100, help="of each ROI")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--snr", type=float, default=1.0, help="signal variance / noise variance of a single trial")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    with threads(options.threads):
        simulate(load_folder(root=options.pictures), options)
    print(options.out)


def simulate(pictures: ImageSet, options: argparse.Namespace) -> None:
    """Write the subject of a set of pictures."""
    generator = numpy_generator(options.seed, "pictures")
    train_rows = _in_turn(pictures.train_labels, generator)
    shown, own = train_rows[: options.stimuli], train_rows[options.stimuli :][: options.observer]
    test = _in_turn(pictures.test_labels, generator)[: options.test]
    features, accuracy = observe(pictures, own, shown, test, options)
    signals = {
        "V1": gabor_energy(pictures.train_images[shown], options.voxels, options.seed),
        "V4": read_out(features["V4"], options.voxels, options.seed, "V4"),
        "IT": read_out(features["IT"], options.voxels, options.seed, "IT"),
        "nuisance": np.zeros((len(shown), options.voxels)),
    }
    signal = np.concatenate([signals[roi] for roi in ROIS], 1)
    roi = np.repeat(ROIS, options.voxels)
    variance = np.where(roi == "nuisance", 1 + 1 / options.snr, 1 / options.snr)
    orders = [numpy_generator(options.seed, "order", run).permutation(len(shown)) for run in range(options.repeats)]
    order = np.concatenate(orders)
    noise = numpy_generator(options.seed, "noise").standard_normal((len(order), len(roi)))
    names, labels = pictures.train_ids[shown], np.array(pictures.classes)[pictures.train_labels[shown]]
    np.savez(
        options.out / "fmri.npz",
        responses=(signal[order] + noise * np.sqrt(variance)).astype(np.float32),
        stimulus_id=names[order],
        run=np.repeat([f"{run + 1}" for run in range(options.repeats)], len(shown)),
        label=labels[order],
        images=pictures.train_images[shown].transpose(0, 2, 3, 1),
        image_id=names,
        **{f"roi_{name}": roi == name for name in ROIS},  # type: ignore[arg-type]
    )
    np.savez(
        options.out / "images.npz",
        train_images=pictures.train_images[shown].transpose(0, 2, 3, 1),
        train_labels=pictures.train_labels[shown],
        train_ids=names,
        test_images=pictures.test_images[test].transpose(0, 2, 3, 1),
        test_labels=pictures.test_labels[test],
        test_ids=pictures.test_ids[test],
        classes=np.array(pictures.classes),
    )
    truth = {"observer_accuracy": accuracy, "ceiling": 1 / (1 + 1 / (options.snr * options.repeats))}
    truth |= {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
    (options.out / "truth.json").write_text(json.dumps(truth, indent=1))


def observe(
    pictures: ImageSet, own: np.ndarray, shown: np.ndarray, test: np.ndarray, options: argparse.Namespace
) -> tuple[dict[str, np.ndarray], float]:
    """Train the observer on its own pictures; what its layers say of those that are shown, and its accuracy on test ones."""
    images = torch.from_numpy(np.array(pictures.train_images[own]))
    mean, std = channel_statistics(images)
    shape = pictures.image_shape
    network = build("resnet20", len(pictures.classes), shape, options.seed)
    truth = torch.from_numpy(np.array(pictures.test_labels[test]))
    data = TrainingSet(images, torch.from_numpy(np.array(pictures.train_labels[own])), len(own), mean=mean, std=std)
    held = Validation(
        torch.from_numpy(np.array(pictures.test_images[test])),
        lambda logits: float((logits.argmax(1) == truth).float().mean()),
    )
    learner = Learner(
        network, data, held, lambda logits, batch: {"label": F.cross_entropy(logits, batch.labels)}, options.seed
    )
    training = TrainOptions(epochs=options.epochs, batch_size=128, lr=0.1, crop=4, flip=True, threads=options.threads)
    history = train([learner], Runtime(device="cpu", tensorboard=False), training)[0]
    tapped = Tapped(network, {"V4": ["stage2"], "IT": ["head:input"]}, {"V4": _Pooled(), "IT": _First()}).eval()
    rows: dict[str, list[Tensor]] = {"V4": [], "IT": []}
    with torch.no_grad():
        for part in torch.from_numpy(np.array(pictures.train_images[shown])).split(500):
            _, features = tapped(normalise(part, mean, std))
            for name, found in rows.items():
                found.append(features[name])
    return {name: torch.cat(found).numpy() for name, found in rows.items()}, history[-1]["val_accuracy"]


class _Pooled(torch.nn.Module):
    def forward(self, layers: list[Tensor]) -> Tensor:
        return F.adaptive_avg_pool2d(layers[0], 4).flatten(1)


class _First(torch.nn.Module):
    def forward(self, layers: list[Tensor]) -> Tensor:
        return layers[0]


def gabor_energy(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Energy of quadrature pairs of Gabor filters over grey pictures: stimuli × voxels, unit variance."""
    generator = numpy_generator(seed, "V1")
    height, width = images.shape[2:]
    y, x = np.mgrid[:height, :width].reshape(2, -1, 1)
    down, across = generator.uniform(0.15, 0.85, (2, count)) * np.array([[height], [width]])
    scale = generator.uniform(0.05, 0.15, count) * height
    angle = generator.uniform(0, np.pi, count)
    along = (x - across) * np.cos(angle) + (y - down) * np.sin(angle)
    window = np.exp(-((x - across) ** 2 + (y - down) ** 2) / (2 * scale**2))
    phase = 2 * np.pi * along / (2.5 * scale)  # 2.5 standard deviations a cycle: about 1.5 octaves of bandwidth
    grey = images.mean(1).reshape(len(images), -1) / 255
    return unit_variance(np.hypot(grey @ (window * np.cos(phase)), grey @ (window * np.sin(phase))))


def read_out(features: np.ndarray, count: int, seed: int, roi: str) -> np.ndarray:
    """Random linear readouts: stimuli × voxels, unit variance."""
    weights = numpy_generator(seed, roi).standard_normal((features.shape[1], count))
    return unit_variance((features - features.mean(0)) / (features.std(0) + 1e-6) @ weights)


def unit_variance(signal: np.ndarray) -> np.ndarray:
    return (signal - signal.mean(0)) / signal.std(0)


def _in_turn(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Rows in random order in which the classes take turns, so that every beginning is balanced."""
    order = generator.permutation(len(labels))
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = np.arange(len(members))
    return np.lexsort((labels, place))


if __name__ == "__main__":
    main()
