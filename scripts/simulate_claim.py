"""How often the whole claim is right: experiments on simulated subjects whose truth is known, with a linear student.

    python scripts/simulate_claim.py                        two worlds, 200 experiments each: about 12 minutes on one core
    python scripts/simulate_claim.py --worlds pictures leak --experiments 50 --jobs 2

An experiment is what ``braindistill eval experiment=demo`` does, with the demo's numbers (snr 1, two repeats, 80 voxels,
40 labels, 360 pool images, ten seeds, temperature 1), but

- the subject saw half of the 400 digits only, so that half of the targets come from predicted responses: else the encoder,
  and the rule of disjoint stimuli, would play no part;
- the student is a multinomial logistic regression on pixels, all seeds and arms of which are trained at once by full-batch
  gradient descent, and the teacher of ``kd`` a network of one hidden layer in the place of a small CNN;
- the subject, which digits it saw, and the test images (697 draws with replacement from the demo's 697) are new in every
  experiment: the interval takes test images for a random sample, and here they are one.

Brain teachers, controls, label budget and the claim are the library's own. The worlds:

``nuisance``  the brain arm's voxels hold noise only. The claim must not hold
``category``  they read out an observer that saw 700 other digits. The claim must hold
``pictures``  they hold Gabor energies of the picture and little noise: more than the student's pixels tell, and nothing that
              the extractor (Gabor, too) could not. The claim must not hold; without ``features`` it often would
``leak``      noise, with encoder and decoder fitted on the same stimuli, 60 of them (teacher.disjoint=false): labels reach the
              arm around the responses. The claim must not hold: ``shuffled_fmri`` gets them in the same way

The table's columns: accuracy of the students and of the targets on the pool; the mean difference, and where 95 % of the
experiments' lie; in how many the interval of the difference lies above zero (``beaten``) or does not; how often this
control was the weakest component (``decided``); and how often the claim would have held had it not been asked for.

Expected (--seed 0): the claim holds in 0 of 200 experiments in ``nuisance`` and in 183 of 200 in ``category``, where the
brain arm is 4 points above each of its controls that use the labels; in 0 of 50 in ``pictures`` (28 without ``features``)
and 0 of 50 in ``leak``. Flat targets of noise cost this student 20 points, so that ``nuisance`` is an easy world: there the
controls that use the labels would do alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from braindistill import images
from braindistill.fmri.responses import Responses
from braindistill.fmri.simulated import load_simulated
from braindistill.runtime import derive, numpy_generator, progress, threads, torch_generator
from braindistill.statistics import cannot_decide, claim, compare
from braindistill.teachers import (
    FeatureOptions,
    StimulusFeatures,
    VoxelOptions,
    extract_stimuli,
    fit_brain,
    fit_features,
)
from braindistill.teachers.cross_fitting import Labels

LABELS, POOL, VOXELS = 40, 360, 80
#: what the claim needs under this design (soft labels, a pool, equal labels, no pretrained extractor)
REQUIRED = ("label_smoothing", "kd", "features", "shuffled_fmri")
ARMS = ("baseline", "label_smoothing", "kd", "features", "brain", "shuffled_fmri")
#: full-batch gradient descent with Nesterov's momentum and a cosine schedule, of students and of kd's teachers
STEPS, RATE, MOMENTUM, DECAY, SMOOTHING, HIDDEN = 100, 0.3, 0.9, 5e-4, 0.1, 64


class World(NamedTuple):
    """A truth.

    Attributes
    ----------
    voxels : what those of the brain arm hold, as `load_simulated` names it
    holds : whether the claim is true
    snr, features, disjoint : options of the subject and of the teachers
    shown : how many of the 400 digits the subject saw
    """

    voxels: Literal["nuisance", "category", "early"]
    holds: bool
    snr: float = 1.0
    features: Literal["pixels", "gabor"] = "pixels"
    disjoint: bool = True
    shown: int = 200


WORLDS = {
    "nuisance": World("nuisance", False),
    "category": World("category", True),
    "pictures": World("early", False, snr=10.0, features="gabor"),
    "leak": World("nuisance", False, disjoint=False, shown=60),
}


class Run(NamedTuple):
    """What one seed of an experiment learns from.

    Attributes
    ----------
    seed : of everything that the run draws
    rows : labelled images, then the pool, as rows of the training images
    labels : (images) of all of them; only those of the labelled images are learnt from
    targets : arm → log-probabilities (images × classes)
    """

    seed: int
    rows: np.ndarray
    labels: np.ndarray
    targets: dict[str, np.ndarray]


def draw_subject(world: World, image_set: images.ImageSet, seed: int) -> Responses:
    """A simulated subject that saw some of the digits, as many of each class."""
    counts = {"n_early": 0, "n_category": 0, "n_nuisance": 0} | {f"n_{world.voxels}": VOXELS}
    subject = load_simulated(snr=world.snr, seed=seed, **counts)
    shown = images.split(image_set, [], derive(seed, "shown"), n_train=world.shown).labelled
    # without masks the teachers take every voxel, whatever it is called
    return dataclasses.replace(subject, rois={}).without(np.delete(image_set.train_ids, shown))


def ask_teachers(
    world: World, subject: Responses, stimuli: StimulusFeatures, image_set: images.ImageSet, seed: int
) -> Run:
    """Draw the labels of a run, and fit the library's teachers on these and no others."""
    split = images.split(image_set, subject.image_id, seed, n_train=LABELS, n_pool=POOL)  # type: ignore[arg-type]
    rows = np.concatenate([split.labelled, split.pool])
    ids, pictures, labels = (
        part[rows] for part in (image_set.train_ids, image_set.train_images, image_set.train_labels)
    )
    given = dict(zip(ids[:LABELS].tolist(), labels[:LABELS].tolist(), strict=True))
    known = Labels(list(image_set.classes), given, "student")
    options = FeatureOptions(features=world.features)
    ask: dict[str, Any] = {"features": options, "seed": seed}
    brain = functools.partial(fit_brain, subject, known, stimuli, disjoint=world.disjoint, **ask)
    teachers = {
        "features": fit_features(subject, known, stimuli, **ask),
        "brain": brain(),
        "shuffled_fmri": brain(voxels=VoxelOptions(control="shuffled_fmri")),
    }
    targets = {arm: teacher.soft_labels(ids, pictures, "cpu").rows for arm, teacher in teachers.items()}
    return Run(seed, rows, labels, targets)


def fit_networks(inputs: Tensor, labels: Tensor, seeds: Sequence[int]) -> list[Tensor]:
    """The teachers of ``kd``: a network of one hidden layer for each seed, all trained at once on the labelled images.

    Parameters
    ----------
    inputs : seeds × images × pixels (the last is a constant 1), labelled images first
    labels : seeds × labelled images

    Returns
    -------
    weights of the two layers (seeds × pixels × hidden, seeds × hidden × classes)
    """
    n_classes, width = int(labels.max()) + 1, inputs.shape[2]
    layers = [
        _stack(
            [torch.randn(shape, generator=torch_generator(seed, "kd", shape)) / math.sqrt(shape[0]) for seed in seeds]
        ).requires_grad_()
        for shape in ((width, HIDDEN), (HIDDEN, n_classes))
    ]
    optimizer = torch.optim.SGD(layers, lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    some = inputs[:, : labels.shape[1]]
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = _rate(step)
        optimizer.zero_grad()
        logits = _propagate(some, layers)
        # each network has its own gradient of the sum
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [layer.detach() for layer in layers]


def aims_of(labels: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """What every arm learns: weights times soft labels (seeds × images × arms × classes).

    With a temperature of 1 each method is a cross-entropy: of labels, averaged over labelled images, plus that of the
    teacher's rows, averaged over all images (their divergence has the same gradient). So their weights and rows add up.

    Parameters
    ----------
    labels : seeds × labelled images
    targets : arm → log-probabilities (seeds × images × classes)
    """
    some = next(iter(targets.values()))
    hard = F.one_hot(labels, some.shape[2]).to(some.dtype) / labels.shape[1]
    given = torch.zeros_like(some)
    given[:, : labels.shape[1]] = hard
    smooth = torch.zeros_like(some)
    smooth[:, : labels.shape[1]] = (1 - SMOOTHING) * hard + SMOOTHING / some.shape[2] / labels.shape[1]
    taught = {arm: given + rows.exp() / some.shape[1] for arm, rows in targets.items()}
    aims = {"baseline": given, "label_smoothing": smooth} | taught
    return torch.stack([aims[arm] for arm in ARMS], 2)


def fit_students(inputs: Tensor, aims: Tensor, start: Tensor) -> Tensor:
    """Multinomial logistic regressions of all seeds and arms at once (seeds × pixels × arms × classes).

    Parameters
    ----------
    inputs : seeds × images × pixels
    aims : as in `aims_of`
    start : first weights of each seed (seeds × pixels × classes): those of all its arms
    """
    seeds, n, arms, n_classes = aims.shape
    shape = (seeds, inputs.shape[2], arms * n_classes)
    weights = start[:, :, None].expand(-1, -1, arms, -1).reshape(shape).contiguous()
    flat, mass = aims.reshape(seeds, n, arms * n_classes), aims.sum(3, keepdim=True)
    transposed, velocity = inputs.transpose(1, 2).contiguous(), torch.zeros(shape, dtype=inputs.dtype)
    for step in range(STEPS):
        logits = (inputs @ weights).view(aims.shape)
        said = logits.sub_(
            logits.amax(3, keepdim=True)
        ).exp_()  # torch's own softmax is four times slower on ten classes
        said = said.mul_(mass / said.sum(3, keepdim=True)).view_as(flat)
        gradient = torch.baddbmm(weights, transposed, said.sub_(flat), beta=DECAY)
        velocity.mul_(MOMENTUM).add_(gradient)
        weights.sub_(gradient.add_(velocity, alpha=MOMENTUM), alpha=_rate(step))
    return weights.view(seeds, -1, arms, n_classes)


def run_experiment(world: World, seed: int, seeds: int = 10) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """One whole experiment.

    Returns
    -------
    correct : arm → seeds × test images, bool
    teachers : arm → accuracy of its targets on the pool, mean over seeds
    """
    with threads(1):
        image_set = images.load_digits()
        subject = draw_subject(world, image_set, seed)
        stimuli = extract_stimuli(subject, FeatureOptions(features=world.features))
        runs = [ask_teachers(world, subject, stimuli, image_set, derive(seed, "run", index)) for index in range(seeds)]
        drawn = numpy_generator(seed, "test").integers(0, len(image_set.test_ids), len(image_set.test_ids))
        known, unknown = zip(*(_pixels(image_set, run.rows, drawn) for run in runs), strict=True)
        inputs, tests = _stack(known), _stack(unknown)
        numbers = [run.seed for run in runs]
        labels = torch.from_numpy(np.stack([run.labels[:LABELS] for run in runs]))
        targets = {arm: torch.from_numpy(np.stack([run.targets[arm] for run in runs])) for arm in runs[0].targets}
        targets["kd"] = _propagate(inputs, fit_networks(inputs, labels, numbers)).log_softmax(2)
        start = _stack([first_weights(inputs.shape[2], len(image_set.classes), number) for number in numbers])
        weights = fit_students(inputs, aims_of(labels, targets), start)
        said = torch.einsum("sip,spak->saik", tests, weights).argmax(3).numpy()
    truth = image_set.test_labels[drawn]
    pool = np.stack([run.labels[LABELS:] for run in runs])
    teachers = {arm: float((rows[:, LABELS:].argmax(2).numpy() == pool).mean()) for arm, rows in targets.items()}
    return {arm: said[:, index] == truth for index, arm in enumerate(ARMS)}, teachers


def first_weights(width: int, n_classes: int, seed: int) -> Tensor:
    """As `torch.nn.Linear` draws them (pixels × classes)."""
    return (torch.rand((width, n_classes), generator=torch_generator(seed, "student")) * 2 - 1) / math.sqrt(width - 1)


def judge(correct: Mapping[str, np.ndarray], required: Sequence[str] = REQUIRED) -> dict[str, Any]:
    """The claim of an experiment, and what it would have been without each of its controls.

    Returns
    -------
    dict
        ``holds``; ``decided``: the component with the weakest evidence; ``without``: control → whether the claim would
        hold if it were not asked for; ``arms``: arm → its ``accuracy`` and the ``difference``, ``ci_low``, ``ci_high``
        of the brain arm's to it
    """
    verdict = claim("brain", correct, required, {})
    weakest = max(
        verdict["components"], key=lambda part: (1 if part["difference"] <= 0 else part["p"], -part["ci_low"])
    )
    arms = {arm: {"accuracy": float(hits.mean())} for arm, hits in correct.items()}
    for arm in correct.keys() - {"brain"}:
        found = compare(correct["brain"], correct[arm])
        arms[arm] |= {"difference": found.estimate, "ci_low": found.low, "ci_high": found.high}  # type: ignore[dict-item]
    fewer = {name: [other for other in required if other != name] for name in required}
    return {
        "holds": bool(verdict["holds"]),
        "decided": weakest["b"],
        "without": {name: bool(claim("brain", correct, others, {})["holds"]) for name, others in fewer.items()},
        "arms": arms,
    }


def judge_experiment(world: World, seeds: int, seed: int) -> dict[str, Any]:
    """`judge` of a new experiment in a world."""
    correct, teachers = run_experiment(world, seed, seeds)
    found = judge(correct)
    for arm, accuracy in teachers.items():
        found["arms"][arm]["teacher"] = accuracy
    return found


def summarise(name: str, world: World, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and means over the experiments of a world."""
    arms: dict[str, Any] = {}
    for arm in ARMS:
        own = [one["arms"][arm] for one in found]
        arms[arm] = {
            key: float(np.mean([each[key] for each in own])) for key in ("accuracy", "teacher") if key in own[0]
        }
        if arm != "brain":
            differences = np.array([each["difference"] for each in own])
            low, high = np.quantile(differences, [0.025, 0.975]).tolist()
            arms[arm] |= {"difference": float(differences.mean()), "low": low, "high": high}
            arms[arm]["beaten"] = sum(each["ci_low"] > 0 for each in own)
        if arm in REQUIRED:
            arms[arm]["failed"] = sum(each["ci_low"] <= 0 for each in own)
            arms[arm]["decided"] = sum(one["decided"] == arm for one in found)
            arms[arm]["holds_without"] = sum(one["without"][arm] for one in found)
    held = sum(one["holds"] for one in found)
    return {
        "world": name,
        "options": world._asdict(),
        "experiments": len(found),
        "held": held,
        "interval": list(stats.binomtest(held, len(found)).proportion_ci()),
        "arms": arms,
    }


def describe(summary: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a world's table."""
    n, held = summary["experiments"], summary["held"]
    asked = f"false positives, asked: at most {math.floor(0.08 * n)}"
    if summary["options"]["holds"]:
        asked = f"found, asked: at least {math.ceil(0.86 * n)}"
    least, most = (100 * bound for bound in summary["interval"])
    yield f"\n{summary['world']}: the claim held in {held} of {n} experiments ({asked}):"
    yield f"{100 * held / n:.1f} % [{least:.1f}, {most:.1f}]\n"
    yield "| arm | accuracy | targets | brain − arm [95 %] | beaten | not beaten | decided | holds without |"
    yield "|---|---|---|---|---|---|---|---|"
    for arm, row in summary["arms"].items():
        cells = [arm, f"{100 * row['accuracy']:.1f}", f"{100 * row['teacher']:.0f}" if "teacher" in row else "–"]
        if "difference" in row:
            size, low, high = (f"{100 * row[key]:+.1f}".replace("-", "−") for key in ("difference", "low", "high"))
            cells += [f"{size} [{low}, {high}]", str(row["beaten"])]
        else:
            cells += ["–"] * 2
        cells += [str(row.get(key, "–")) for key in ("failed", "decided", "holds_without")]
        yield f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=200, help="in each world")
    parser.add_argument("--worlds", nargs="+", default=["nuisance", "category"], choices=list(WORLDS), metavar="WORLD")
    parser.add_argument("--seeds", type=int, default=10, help="of an experiment")
    parser.add_argument("--snr", type=float, help="signal / noise variance of a trial, in the place of the worlds' own")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print everything, every experiment included, as JSON")
    options = parser.parse_args(arguments)
    if few := cannot_decide(options.seeds):
        parser.error(f"--seeds: {few}")
    summaries = []
    for name in options.worlds:
        seeds = [derive(options.seed, "experiment", index) for index in range(options.experiments)]
        world = WORLDS[name] if options.snr is None else WORLDS[name]._replace(snr=options.snr)
        ask = functools.partial(judge_experiment, world, options.seeds)
        found = list(progress(_map(ask, seeds, options.jobs), f"world {name}", len(seeds)))
        summaries.append(summarise(name, world, found))
        if options.json:
            summaries[-1]["each"] = found
        else:
            print("\n".join(describe(summaries[-1])), flush=True)
    if options.json:
        json.dump(summaries, sys.stdout, indent=1)
    return summaries


def _map(ask: Any, seeds: Sequence[int], jobs: int) -> Iterable[Any]:
    """In this order, whatever the number of processes."""
    if jobs == 1:
        yield from map(ask, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(ask, seeds)


def _pixels(image_set: images.ImageSet, rows: np.ndarray, drawn: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pixels of the training and the test images, normalised by the former, with a constant 1 for the bias."""
    known, unknown = image_set.train_images[rows], image_set.test_images[drawn]
    parts = ((part.reshape(len(part), -1) - known.mean()) / known.std() for part in (known, unknown))
    ones = (np.concatenate([part, np.ones((len(part), 1))], 1).astype(np.float32) for part in parts)
    train, test = map(torch.from_numpy, ones)
    return train, test


def _propagate(inputs: Tensor, layers: Sequence[Tensor]) -> Tensor:
    return (inputs @ layers[0]).relu() @ layers[1]


def _rate(step: int) -> float:
    return RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts))


if __name__ == "__main__":
    main()
