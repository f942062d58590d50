"""How often the 95 % interval of a difference covers the truth: simulations of the crossed model, without networks.

    python scripts/simulate_coverage.py                                      about half a minute on one core
    python scripts/simulate_coverage.py --simulations 200 --seeds 10 20 --images 200
    python scripts/simulate_coverage.py --subjects 8                         with several subjects: some minutes

Two arms answer the same images with the same seeds. An answer is right where a sum of normal parts is above the arm's
threshold: how easy the image is (both arms), how easy the arm finds it, how good the seed is (both arms), how good it
made the arm, and chance. So the true difference over all seeds and images is known exactly. Coverage is of the interval
of `braindistill.statistics.compare`; beside it are its median width, and how often it excludes zero: false positives
where there is no effect, power where there is one.

Expected: coverage of 94 to 97 % wherever arms differ by seed or image, and 96 to 99 % where they differ by neither, since
an estimate of no variance is never let below none.

With ``--subjects``, the first arm has a student for each subject and seed, with luck of its own for each subject
(``--subject-sd``), each subject and image, and each subject and seed; the other arm, a baseline, is shared by all subjects.
The last column is then the coverage of the plain t over subjects, which takes what they share for granted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from braindistill.runtime import numpy_generator, progress
from braindistill.statistics import across_subjects, compare

#: standard deviations, of which chance has 1: (image, arm × image, seed, arm × seed)
SPREADS = {
    "typical": (1.5, 0.3, 0.1, 0.1),
    "seeds differ": (1.5, 0.3, 0.3, 0.3),
    "images differ": (1.5, 1.0, 0.1, 0.1),
    "neither": (1.5, 0.0, 0.0, 0.0),
}
#: standard deviation of a subject's own difficulties with each image
_SUBJECT_IMAGE = 0.3


class Cell(NamedTuple):
    """What one cell of the table shows, shares in [0, 1] and differences of accuracy in points."""

    spread: str
    seeds: int
    effect: float
    coverage: float
    excludes_zero: float
    width: float
    over_subjects: float | None = None


def simulate(
    spread: str,
    seeds: int,
    images: int,
    effect: float,
    simulations: int,
    accuracy: float = 0.8,
    subjects: int = 0,
    subject_sd: float = 0.1,
) -> Cell:
    """Simulate one cell.

    Parameters
    ----------
    spread
        One of `SPREADS`.
    effect
        True difference of accuracy, 0.02 = 2 points; the other arm's is ``accuracy``.
    subjects
        How many the first arm is trained for; 0: arms have no subjects.
    subject_sd
        Of the subjects' luck, which the first arm has; their images differ by 0.3.
    """
    image_sd, arm_image_sd, seed_sd, arm_seed_sd = SPREADS[spread]
    own = (subject_sd**2 + _SUBJECT_IMAGE**2) if subjects else 0.0
    total = np.sqrt(1 + image_sd**2 + arm_image_sd**2 + seed_sd**2 + arm_seed_sd**2 + np.array([own, 0.0]))
    offsets = stats.norm.ppf([accuracy + effect, accuracy]) * total
    generator = numpy_generator(0, "coverage", spread, seeds, images, effect, *([subjects] if subjects else []))

    def normal(sd: float, *shape: int) -> np.ndarray:
        return np.float32(sd) * generator.standard_normal(shape, dtype=np.float32)

    covered, excludes, simple, widths = 0, 0, 0, []
    for _ in progress(range(simulations), f"{spread}, {seeds} seeds"):
        ease = normal(image_sd, 1, 1, images) + normal(arm_image_sd, 2, 1, images)
        skill = normal(seed_sd, 1, seeds, 1)
        if subjects:
            first = ease[0] + skill[0] + normal(arm_seed_sd, subjects, seeds, 1) + normal(1, subjects, seeds, images)
            first = first + normal(subject_sd, subjects, 1, 1) + normal(_SUBJECT_IMAGE, subjects, 1, images)
            shared = ease[1] + skill[0] + normal(arm_seed_sd, seeds, 1) + normal(1, seeds, images)
            right = [first + offsets[0] > 0, np.broadcast_to(shared + offsets[1] > 0, first.shape)]
            plain = across_subjects(right[0].mean((1, 2)) - right[1].mean((1, 2)))
            simple += plain.low <= effect <= plain.high
        else:
            skill = skill + normal(arm_seed_sd, 2, seeds, 1)
            right = normal(1, 2, seeds, images) + ease + skill + offsets[:, None, None] > 0
        found = compare(*right)
        covered += found.low <= effect <= found.high
        excludes += not found.low <= 0 <= found.high
        widths.append(found.high - found.low)
    width, over_subjects = 100 * float(np.median(np.array(widths))), simple / simulations if subjects else None
    return Cell(spread, seeds, effect, covered / simulations, excludes / simulations, width, over_subjects)


def main(arguments: Sequence[str] | None = None) -> list[Cell]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="in each cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 8, 10, 15, 20, 30])
    parser.add_argument("--images", type=int, default=500, help="in the test set")
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.02], help="differences of accuracy")
    parser.add_argument("--spreads", nargs="+", default=list(SPREADS), choices=list(SPREADS), metavar="SPREAD")
    parser.add_argument("--subjects", type=int, default=0, help="of the first arm; 0: arms have none")
    parser.add_argument("--subject-sd", type=float, default=0.1, help="of their luck; chance has 1")
    options = parser.parse_args(arguments)
    print(f"{options.simulations} simulations a cell, {options.images} test images; accuracy 80 % and 80 % + effect\n")
    more = options.subjects > 0
    print("| spread | seeds | effect | coverage (± 2 se) | width | excludes 0 |" + " t over subjects |" * more)
    print("|---|---|---|---|---|---|" + "---|" * more)
    cells = []
    for spread in options.spreads:
        for seeds in options.seeds:
            for effect in options.effects:
                cell = simulate(
                    spread,
                    seeds,
                    options.images,
                    effect,
                    options.simulations,
                    subjects=options.subjects,
                    subject_sd=options.subject_sd,
                )
                error = np.sqrt(cell.coverage * (1 - cell.coverage) / options.simulations)
                print(
                    f"| {spread} | {seeds} | {100 * effect:g} | {100 * cell.coverage:.1f} ± {200 * error:.1f} % | "
                    f"{cell.width:.2f} | {100 * cell.excludes_zero:.1f} % |"
                    + (f" {100 * (cell.over_subjects or 0):.1f} % |" if more else ""),
                    flush=True,
                )
                cells.append(cell)
    return cells


if __name__ == "__main__":
    main()
