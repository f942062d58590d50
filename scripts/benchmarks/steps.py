"""What a step and an epoch cost."""

from __future__ import annotations

import functools
import multiprocessing
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks import peers
from benchmarks.rows import Row, compare, take_turns, timed
from benchmarks.sizes import (
    CIFAR,
    Sizes,
    epoch_of,
    laid_out,
    make_learner,
    make_options,
    make_set,
    plain_rule,
    resident,
)
from torch import Tensor

from braindistill.runtime import threads
from braindistill.students.build import build


def time_augmentation(sizes: Sizes) -> list[Row]:
    """Crops and flips of 32 × 32 images on one thread, and what share of a step they take."""
    import benchmark_augmentation

    with threads(1):
        found = benchmark_augmentation.time_augmentation(sizes.repeats, sizes.augmented)
    others = (
        ("uint8", "compose", "PIL Compose", "≥ 50"),
        ("uint8", "loader", "DataLoader, 2 workers", "≥ 10"),
        ("uint8", "v2", "transforms.v2 on tensors", ""),
        ("float", "compose", "PIL Compose", "≥ 20"),
        ("float", "loader", "DataLoader, 2 workers", "≥ 10"),
    )
    rows = []
    for kind, name, instead, asked in others:
        rates, ratio = found[kind]["images_per_second"], found[kind]["ratio"][name]
        what = "crop and flip" + (", normalised" if kind == "float" else "")
        rows.append(Row(what, rates["bank"], "images/s", instead, rates[name], ratio, asked))
    data, options = make_set(sizes.steps * sizes.batch, CIFAR), make_options(sizes.batch, crop=4, flip=True)
    with threads(sizes.threads):
        given = take_turns(sizes.repeats, {"step": epoch_of(make_learner(sizes.student, data), options)})
    seconds = statistics.median(given["step"]) / sizes.steps
    share = 100 * sizes.batch / found["float"]["images_per_second"]["bank"] / seconds
    return [*rows, Row(f"crop, flip, normalisation, of a step of {sizes.student}", share, "%", asked="≤ 1 %")]


def time_step(sizes: Sizes) -> list[Row]:
    """Cached soft labels cost what labels cost; a teacher that is asked in every step costs its own passes."""
    n, last = sizes.steps * sizes.batch, torch.channels_last
    options = make_options(sizes.batch, crop=4, flip=True)
    sides = {
        "cached soft labels": epoch_of(make_learner(sizes.student, make_set(n, CIFAR, soft=True)), options),
        "labels only": epoch_of(make_learner(sizes.student, make_set(n, CIFAR)), options),
    }
    what = f"step of {sizes.student}, batch {sizes.batch}, {sizes.threads} threads"
    with threads(sizes.threads):
        given = take_turns(2 * sizes.repeats, sides)
        rows = [compare(what, given, "cached soft labels", "labels only", "≤ 1.03", per=sizes.steps)]
        del sides["labels only"]
        for name in sizes.teachers:
            # in the same memory layout and with the same optimiser as ours: what is left is the teacher's cost
            network, teacher = (laid_out(build(each, 10, CIFAR, 0)) for each in (sizes.student, name))
            rule, batches = plain_rule(network, fused=True), resident(sizes.steps, sizes.batch, last)
            sides[f"{name} online, same loss"] = timed(
                lambda parts=(network, teacher, rule, batches): peers.train_online(*parts)
            )
        given = take_turns(max(1, sizes.repeats // 3), sides)
    for name, asked in zip(sizes.teachers, ("≥ 2", *[""] * len(sizes.teachers)), strict=False):
        online = f"{name} online, same loss"
        rows.append(compare(what, given, "cached soft labels", online, asked, gain=True, per=sizes.steps))
    return rows


def time_engine(sizes: Sizes) -> list[Row]:
    """Memory layout, fused optimiser and, where asked for, half precision."""
    n = sizes.steps * sizes.batch
    # in a process of its own: the engine tells the C library of its process to keep the memory that a step frees
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (sizes.threads,)) as elsewhere:
        sides = {"eager, contiguous": lambda: elsewhere.apply(_eager_seconds, (sizes,))}
        for precision in ("fp32", "bf16"):
            options = make_options(sizes.batch, crop=4, flip=True, precision=precision)
            sides[precision] = epoch_of(make_learner(sizes.student, make_set(n, CIFAR)), options)
        with threads(sizes.threads):
            given = take_turns(sizes.repeats, sides)
    what = f"step of {sizes.student}, batch {sizes.batch}, {sizes.threads} threads"
    return [
        compare(f"{what}, {precision}", given, precision, "eager, contiguous", asked, per=sizes.steps)
        for precision, asked in (("fp32", "≥ 1.4"), ("bf16", "≥ 2.2" if has_bf16() else ""))
    ]


@functools.cache
def _eager(sizes: Sizes) -> Callable[[], float]:
    network = build(sizes.student, 10, CIFAR, 0)
    rule, batches = plain_rule(network), resident(sizes.steps, sizes.batch, torch.contiguous_format)
    return timed(lambda: peers.train_plainly(network, rule, batches))


def _eager_seconds(sizes: Sizes) -> float:
    return _eager(sizes)()


def has_bf16() -> bool:
    """Does the CPU compute in bf16, as far as the system tells?"""
    info = Path("/proc/cpuinfo")
    return info.exists() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(info.read_text().split()))


def time_epoch(sizes: Sizes) -> list[Row]:
    """Augmentation, gathering, schedule and records, on top of the bare steps."""
    n, last = sizes.steps * sizes.batch, torch.channels_last
    data = make_set(n, CIFAR)
    options = make_options(sizes.batch, crop=4, flip=True)
    bare, eager = laid_out(build(sizes.student, 10, CIFAR, 0)), build(sizes.student, 10, CIFAR, 0)
    rules, batches = (plain_rule(bare, fused=True), plain_rule(eager)), resident(sizes.steps, sizes.batch, last)
    assert isinstance(data.images, Tensor)
    loader = peers.load_pictures(data.images, data.labels, sizes.batch, workers=2)
    sides = {
        "ours": epoch_of(make_learner(sizes.student, data), options),
        "bare steps on resident tensors": timed(lambda: peers.train_plainly(bare, rules[0], batches)),
        "DataLoader, PIL, eager": timed(lambda: peers.train_plainly(eager, rules[1], loader)),
    }
    with threads(sizes.threads):
        given = take_turns(sizes.repeats, sides)
    what = f"epoch of {n} images, {sizes.student}"
    return [
        compare(what, given, "ours", "bare steps on resident tensors", "≤ 1.10"),
        compare(what, given, "ours", "DataLoader, PIL, eager"),
    ]
