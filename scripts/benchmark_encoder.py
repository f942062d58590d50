"""What the encoders cost, beside what they are built on: himalaya and scikit-learn, and a network's bare forward pass.

    python scripts/benchmark_encoder.py digits69 large export        all three, about 5 minutes on two cores
    python scripts/benchmark_encoder.py large --scale 0.25           fewer stimuli, features and voxels
    python scripts/benchmark_encoder.py memory                       200,000 voxels × 300 stimuli, peak memory

``digits69``: the cross-fitted ridge on its pixels, and himalaya's KernelRidgeCV called by hand on the same folds.
``large``: 1,200 stimuli × 4,000 features × 5,000 voxels × 10 penalties × 5 folds; scikit-learn's RidgeCV leaves one out,
which is other work and is given for comparison. ``export``: from uint8 pictures of 32 pixels to soft labels of 10 classes
through ResNet-18 (224 pixels) and 5 folds of encoder and decoder, and the network alone over the same batches.

The two sides take turns, ``--repeats`` times; given is the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from braindistill import fmri
from braindistill.teachers import penalties
from braindistill.teachers.encoder import Ridge, fit_ridge
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.options import FeatureOptions
from braindistill.teachers.stimulus_features import StimulusFeatures, extract_stimuli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["digits69", "large", "export", "memory"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the large problem's three sides")
    parser.add_argument("--images", type=int, default=256, help="of the export")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for part in options.parts:
        figures |= {f"{part}: {name}": value for name, value in globals()[f"time_{part}"](options).items()}
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            print(f"{name:75} {value:12.4g}")


def alternate(repeats: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float, float]:
    """Median seconds of both, and median of their ratios, after one call of each."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for times, call in zip(spent, (ours, theirs), strict=True):
            started = time.perf_counter()
            call()
            if turn:
                times.append(time.perf_counter() - started)
    ratios = [mine / other for mine, other in zip(*spent, strict=True)]
    return statistics.median(spent[0]), statistics.median(spent[1]), statistics.median(ratios)


def by_hand(features: np.ndarray, responses: np.ndarray, new: np.ndarray, **options: Any) -> tuple[np.ndarray, Any]:
    """What a user of himalaya would write: predictions for ``new``, and the model."""
    from himalaya.kernel_ridge import KernelRidgeCV

    mean, offset = features.mean(0), responses.mean(0)
    centred = features - mean
    scale = np.float32(np.sqrt(np.square(centred, dtype=np.float64).mean(0).sum()))
    folds = penalties._inner_folds(len(features), 5)
    model = KernelRidgeCV(alphas=penalties.ALPHAS * len(features), cv=folds, solver_params=options)
    model.fit(centred / scale, responses - offset)
    return model.predict((new - mean) / scale) + offset, model


def time_digits69(options: argparse.Namespace) -> dict[str, float]:
    """The cross-fitted ridge on pixels of digits69."""
    data = fmri.load("digits69")
    averaged, names = data.average()
    responses = averaged[np.argsort(names)]
    pixels = extract_stimuli(data, FeatureOptions("pixels")).values
    held = np.arange(len(pixels)) % 5
    answers: dict[str, np.ndarray] = {"ours": np.empty_like(responses), "himalaya": np.empty_like(responses)}

    def ours() -> None:
        stimuli = StimulusFeatures.of(pixels)
        for k in range(5):
            rows = np.flatnonzero(held != k)
            answers["ours"][held == k] = fit_ridge(stimuli, rows, responses[rows]).predict(pixels[held == k])

    def theirs() -> None:
        for k in range(5):
            rest = held != k
            answers["himalaya"][~rest] = by_hand(pixels[rest], responses[rest], pixels[~rest])[0]

    mine, other, ratio = alternate(max(options.repeats, 15), ours, theirs)
    return {
        "ours, s": mine,
        "himalaya by hand, s": other,
        "ours / himalaya": ratio,
        "largest difference of predictions": float(np.abs(answers["ours"] - answers["himalaya"]).max()),
    }


def time_large(options: argparse.Namespace) -> dict[str, float]:
    """The problem of 1,200 × 4,000 × 5,000, once with the Gram matrix as part of it."""
    from sklearn.linear_model import RidgeCV

    n, width, voxels = (int(options.scale * side) for side in (1200, 4000, 5000))
    penalties.ALPHAS = penalties.ALPHAS[:10]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n + 50, width)).astype(np.float32)
    signal = features @ rng.normal(size=(width, voxels)).astype(np.float32) / np.sqrt(width)
    responses = signal + rng.normal(size=signal.shape).astype(np.float32)
    seen, new = features[:n], features[n:]
    kept: dict[str, Any] = {}

    def ours() -> None:
        model = fit_ridge(StimulusFeatures.of(seen), np.arange(n), responses[:n], device=options.device)
        kept["ours"] = model.predict(new), model.alphas

    def theirs() -> None:
        answer, model = by_hand(seen, responses[:n], new)
        kept["himalaya"] = answer, model.best_alphas_

    mine, other, ratio = alternate(options.repeats, ours, theirs)
    batched = alternate(1, lambda: by_hand(seen, responses[:n], new, n_targets_batch=1000), lambda: None)[0]
    started = time.perf_counter()
    RidgeCV(alphas=penalties.ALPHAS * n, alpha_per_target=True).fit(seen, responses[:n])
    leave_one_out = time.perf_counter() - started
    return {
        "ours, s": mine,
        "himalaya KernelRidgeCV, s": other,
        "himalaya in batches of 1,000 voxels, s": batched,
        "ours / himalaya": ratio,
        "scikit-learn RidgeCV, leave-one-out, s": leave_one_out,
        "scikit-learn / ours": leave_one_out / mine,
        "voxels with the same penalty": float(np.isclose(kept["ours"][1], kept["himalaya"][1], rtol=1e-3).mean()),
        "largest difference of predictions": float(np.abs(kept["ours"][0] - kept["himalaya"][0]).max()),
    }


def time_export(options: argparse.Namespace) -> dict[str, float]:
    """Soft labels through ResNet-18, against the network alone."""
    import torch

    from braindistill.teachers.networks import load_network

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (options.images, 3, 32, 32)).astype(np.uint8)
    layers = ("layer1", "layer2", "layer3", "layer4")
    reader = ImageFeatures("network", (3, 32, 32), "resnet18", layers)
    width = sum(size for _, size in reader.bands(options.device))
    values = rng.normal(size=(200, width)).astype(np.float32)
    stimuli = StimulusFeatures.of(values, reader.bands(options.device))
    responses = rng.normal(size=(200, 2000)).astype(np.float32)
    folds: list[Ridge] = []
    for k in range(5):
        rows = np.flatnonzero(np.arange(200) % 5 != k)
        readout = rng.normal(size=(2000, 10)).astype(np.float32)
        folds.append(fit_ridge(stimuli, rows, responses[rows]).compose(readout, np.zeros(10)))
    bare = load_network("resnet18", None).to(options.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches: list[torch.Tensor] = []  # as the reader gives them to its network: time depends on what is in them
    network = reader.module(options.device).get_submodule("network")
    listener = network.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
    reader.extract(pictures, options.device)
    listener.remove()

    def export() -> None:
        features = reader.extract(pictures, options.device)
        for fold in folds:
            logits = fold.predict(features)
            logits -= np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))

    @torch.inference_mode()
    def alone() -> None:
        for batch in batches:
            bare(batch).cpu()

    mine, other, ratio = alternate(options.repeats, export, alone)
    return {"images": options.images, "export, s": mine, "bare forward pass, s": other, "export / bare": ratio}


def time_memory(options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of fitting and predicting 200,000 voxels, over what the interpreter and the data take."""
    rng = np.random.default_rng(0)
    stimuli = StimulusFeatures.of(rng.normal(size=(300, 4000)).astype(np.float32))
    responses = rng.standard_normal((300, 200_000), np.float32)
    small = np.arange(60)
    fit_ridge(stimuli, small, responses[small, :100], device=options.device)  # what has to be imported
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    model = fit_ridge(stimuli, np.arange(300), responses, device=options.device)
    fitted, middle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    model.predict(stimuli.values[:100])
    return {
        "data, MB": responses.nbytes / 1e6,
        "fit: peak over before, MB": (fitted - before) / 1e3,
        "predict 100 pictures: peak over before, MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        / 1e3,
        "fit, s": middle - started,
        "predict, s": time.perf_counter() - middle,
    }


if __name__ == "__main__":
    main()
