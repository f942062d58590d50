"""Where the labels leak: a composed teacher on real, shuffled and made-up responses, with and without disjoint stimuli.

Fits ``teacher=brain`` on the 100 digits69 pairs with all their labels, once a draw (folds, roles and controls are redrawn),
and lets it name the 1,967 sixes and nines of MNIST's test set, none of which the subject ever saw.

    python scripts/disjoint_stimuli.py --draws 20 --n-folds 10    about 2 minutes on one core

Expected (accuracy, mean ± standard deviation over draws): real responses about 97 % either way; shuffled responses and
noise about 50 ± 15 % when encoder and decoder are fitted on disjoint stimuli, and above 90 % when they share them.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Literal

import numpy as np

from braindistill import fmri, images
from braindistill.fmri.responses import Responses
from braindistill.runtime import numpy_generator, progress, threads
from braindistill.stages.train_teacher import all_labels
from braindistill.teachers import FeatureOptions, StimulusFeatures, VoxelOptions, extract_stimuli, fit_brain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--n-folds", type=int, default=5)
    parser.add_argument("--features", default="pixels", choices=["pixels", "gabor"])
    options = parser.parse_args()
    responses = fmri.load("digits69")
    stimuli = extract_stimuli(responses, FeatureOptions(features=options.features), "cpu")
    digits = images.assemble(images.load_mnist(), None, classes=["6", "9"])
    print(
        f"{'responses':12}{'disjoint':>10}  accuracy on {len(digits.test_ids)} digits, mean ± sd (se) of {options.draws} draws"
    )
    with threads(1):
        for kind in ("real", "shuffled", "noise"):
            for disjoint in (True, False):
                draws = [
                    accuracy(responses, stimuli, digits, kind, disjoint, options.n_folds, seed)
                    for seed in progress(range(options.draws), kind)
                ]
                mean, sd = 100 * np.mean(draws), 100 * np.std(draws, ddof=1)
                print(
                    f"{kind:12}{disjoint!s:>10}  {mean:5.1f} ± {sd:.1f} ({sd / np.sqrt(len(draws)):.1f}) %", flush=True
                )


def accuracy(
    responses: Responses,
    stimuli: StimulusFeatures,
    digits: images.ImageSet,
    kind: str,
    disjoint: bool,
    n_folds: int,
    seed: int,
) -> float:
    """One draw: fit the composed teacher, and score it on pictures that were never shown."""
    if kind == "noise":
        made_up = numpy_generator(seed, "noise").standard_normal(responses.responses.shape, dtype=np.float32)
        responses = dataclasses.replace(responses, responses=made_up)
    control: Literal["shuffled_fmri"] | None = "shuffled_fmri" if kind == "shuffled" else None
    teacher = fit_brain(
        responses,
        all_labels(responses),
        stimuli,
        voxels=VoxelOptions(control=control),
        disjoint=disjoint,
        n_folds=n_folds,
        seed=seed,
    )
    rows = teacher.soft_labels(digits.test_ids, digits.test_images, "cpu").rows
    names = np.array(teacher.classes)[rows.argmax(1)]
    return float((names == np.array(digits.classes)[digits.test_labels]).mean())


if __name__ == "__main__":
    main()
