"""What many seeds at once gain."""

from __future__ import annotations

import multiprocessing
import statistics
from typing import Any

from benchmarks.rows import Row, compare, take_turns, timed
from benchmarks.sizes import DIGITS, QUIET, Shape, Sizes, make_learner, make_options, make_set

from braindistill.runtime import threads
from braindistill.students.build import build
from braindistill.students.stacking import stacking_pays
from braindistill.students.summary import count_multiply_adds
from braindistill.training import train


def train_seeds(
    student: tuple[str, int, Shape, int], images: int, seeds: list[int], epochs: int, stacked: bool
) -> None:
    """Train some seeds of a student on one thread."""
    name, width, shape, batch = student
    data = make_set(images, shape)
    learners = [make_learner(name, data, seed, width=width) for seed in seeds]
    with threads(1):
        train(learners, QUIET, make_options(batch, epochs, crop=1), stacked=stacked)


def time_seeds(sizes: Sizes) -> list[Row]:
    """Many seeds at once: on one thread, and in two processes that wait for work, as the program's do."""
    demo, seeds, half = ("small_cnn", 16, DIGITS, 32), list(range(sizes.seeds)), sizes.seeds // 2

    def work(chosen: list[int], stacked: bool) -> tuple[Any, ...]:
        return demo, sizes.tiny_images, chosen, sizes.epochs, stacked

    halves = [work(seeds[:half], True), work(seeds[half:], True)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sides = {
            "one after another": timed(lambda: train_seeds(*work(seeds, False))),
            "one stack": timed(lambda: train_seeds(*work(seeds, True))),
            "two stacks": timed(lambda: pool.starmap(train_seeds, halves, chunksize=1)),
        }
        given = take_turns(sizes.repeats, sides)
    what = f"{sizes.seeds} seeds of the demo's student, {sizes.epochs} epochs"
    rows = [
        compare(f"{what}: two processes of a stack each", given, "two stacks", "one after another", "≥ 4"),
        compare(f"{what}: one stack on one thread", given, "one stack", "one after another", gain=True),
    ]
    return rows + time_choices(sizes)


def time_choices(sizes: Sizes) -> list[Row]:
    """Stacked and apart over sizes of students: which is faster, and which is taken?"""
    rows, shares = [], []
    seeds, epochs = list(range(min(4, sizes.seeds))), max(1, sizes.epochs // 2)
    for student in sizes.choices:
        name, width, shape, batch = student
        work = (student, 10 * batch, seeds, epochs)
        sides = {
            "apart": timed(lambda work=work: train_seeds(*work, False)),
            "stacked": timed(lambda work=work: train_seeds(*work, True)),
        }
        given = take_turns(max(1, sizes.repeats // 2), sides)
        network = build(name, 10, shape, 0, width=width)
        chosen = "stacked" if stacking_pays(network, shape, batch) else "apart"
        other = "apart" if chosen == "stacked" else "stacked"
        mflop = 6 * count_multiply_adds(network, shape) * batch / 1e6
        what = f"{len(seeds)} seeds, {name} × {width}, {mflop:.0f} MFLOP a step, {chosen} by choice"
        rows.append(compare(what, given, chosen, other, gain=True))
        shares.append(min(statistics.median(times) for times in given.values()) / statistics.median(given[chosen]))
    return [*rows, Row("the choice's speed, of the better one's, at worst", 100 * min(shares), "%", asked="≥ 95 %")]
