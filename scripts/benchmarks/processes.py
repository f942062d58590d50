"""What is around the steps: start, records and memory."""

from __future__ import annotations

import dataclasses
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks import peers
from benchmarks.rows import Row, compare, take_turns, timed
from benchmarks.sizes import (
    CIFAR,
    DIGITS,
    LABELS,
    QUIET,
    Sizes,
    laid_out,
    make_learner,
    make_options,
    make_set,
    plain_rule,
    resident,
)
from torch import Tensor

from braindistill.runtime import Runtime, threads
from braindistill.students.build import build
from braindistill.training import Batch, TrainingSet, train

#: what is started, and what a user's own script would import
PROGRAM, IMPORTS = [sys.executable, "-m", "braindistill"], "import torch, torchvision"


def time_start(sizes: Sizes) -> list[Row]:
    """Processes of their own.

    What comes before the student is in the cache, so ``distill`` does nothing but train. Its epochs are of one step: the
    first line of its metrics says that the first step is over.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, trials = Path(name), iter(range(1000, 2000))
        words = ["experiment=smoke", "train.batch_size=100", "train.epochs=1", f"runtime.cache={folder}"]
        subprocess.run([*PROGRAM, "export", *words], check=True, capture_output=True, cwd=folder)

        def first_step() -> float:
            started = time.perf_counter()
            command = [*PROGRAM, "distill", *words, f"train.lr=0.{next(trials)}"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder) as process:
                while process.poll() is None:
                    for log in folder.glob("distill/.*/metrics.jsonl"):
                        if log.stat().st_size:
                            return time.perf_counter() - started
                    time.sleep(0.005)
                assert process.stderr is not None
                if process.returncode:
                    raise RuntimeError(process.stderr.read().decode())
            return time.perf_counter() - started  # it was over between two looks

        def ends(*command: str) -> Callable[[], float]:
            return timed(lambda: subprocess.run(command, capture_output=True, cwd=folder, check=False))

        sides = {
            "distill": first_step,
            IMPORTS: ends(sys.executable, "-c", IMPORTS),
            "mistake": ends(*PROGRAM, "distill", "train.epocs=3"),
            "help": ends(*PROGRAM, "distill", "--help"),
            "python alone": ends(sys.executable, "-c", ""),
        }
        given = take_turns(max(1, sizes.repeats // 2), sides)
    return [
        compare("distill, from the shell to its first step", given, "distill", IMPORTS, "≤ 3 s"),
        compare("distill with a mistyped option, to the message", given, "mistake", "python alone", "≤ 0.6 s"),
        compare("distill --help", given, "help", "python alone"),
    ]


def time_logging(sizes: Sizes) -> list[Row]:
    """A training with a folder against one without; a checkpoint's own time, which is spent every 30 s."""
    rows = []
    demo = ("small_cnn", DIGITS, 32, sizes.tiny_images, 2 * sizes.epochs)
    real = (sizes.student, CIFAR, sizes.batch, sizes.steps * sizes.batch, 2)
    for (student, shape, batch, images, epochs), asked in ((demo, "≤ 2 %"), (real, "≤ 1 %")):
        data, options = make_set(images, shape), make_options(batch, epochs)

        def run(
            runtime: Runtime | None, data: TrainingSet = data, options: Any = options, student: str = student
        ) -> None:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) if runtime else None
                train([make_learner(student, data, 0, folder)], runtime or QUIET, options)

        logged = dataclasses.replace(QUIET, tensorboard=True, checkpoint_seconds=30.0)
        sides = {
            "without": timed(lambda run=run: run(None)),
            "with": timed(lambda run=run, logged=logged: run(logged)),
            "saving": timed(lambda run=run: run(dataclasses.replace(QUIET, checkpoint_seconds=0.0))),
        }
        with threads(1 if shape == DIGITS else sizes.threads):
            given = take_turns(2 * sizes.repeats, sides)
        row = compare("", given, "with", "without")
        saves = epochs * (-(-images // batch) + 1)  # after every step, and after every epoch
        own = statistics.median(
            (saving - without) / saves for saving, without in zip(given["saving"], given["without"], strict=True)
        )
        assert row.ratio is not None
        share = 100 * (row.ratio - 1) + 100 * max(0.0, own) / 30
        what = f"share of metrics, TensorBoard, and a checkpoint of {1000 * own:.0f} ms every 30 s: {student}"
        rows.append(Row(what, share, "%", "none", asked=asked, spread=row.spread))
    return rows


def measure_memory(student: str, batch: int, steps: int, epochs: int, images: int) -> tuple[float, float]:
    """A training in this process: its peak over what was there before, in MB, and its growth after an epoch.

    Without epochs it is bare steps on a batch, of which the peak says what model, optimiser and activations take.
    """
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def read(name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", status.read_text())
        assert found
        return int(found[1]) / 1024

    train([make_learner("resnet8", make_set(4, CIFAR), width=4)], QUIET, make_options(2))  # what is loaded once
    before, after_epochs = read("VmRSS"), []
    clear.write_text("5")  # the peak starts anew
    if not epochs:
        network = laid_out(build(student, 10, CIFAR, 0))
        batches = resident(1, batch, torch.channels_last) * steps
        peers.train_plainly(network, plain_rule(network, fused=True), batches)
        return read("VmHWM") - before, 1.0
    data = make_set(images, CIFAR)
    data.epoch_size = steps * batch
    learner = make_learner(student, data)

    def loss(outputs: Any, examples: Batch) -> dict[str, Tensor]:
        if examples.step % steps == steps - 1:
            after_epochs.append(read("VmRSS"))
        return LABELS(outputs, examples)

    train([dataclasses.replace(learner, loss=loss)], QUIET, make_options(batch, epochs, crop=4, flip=True))
    return read("VmHWM") - before, after_epochs[-1] / after_epochs[0]


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        return pool.apply(function, args)


def time_memory(sizes: Sizes) -> list[Row]:
    """In processes of their own; a small student for many epochs shows growth."""
    if not Path("/proc/self/clear_refs").exists():
        return []  # only Linux tells
    student, steps, images = sizes.student, sizes.memory_steps, sizes.memory_images
    runs = [(student, sizes.batch, steps, 1, images), (student, sizes.batch, 8, 0, 0)]
    runs.append(("resnet8", sizes.batch, steps, 6, images))
    (peak, _), (bare, _), (_, growth) = (in_new_process(measure_memory, *run) for run in runs)
    least = bare + images * 3 * 32 * 32 / 2**20
    what = f"peak memory, {student}, batch {sizes.batch}, {images:,} images"
    return [
        Row(what, peak, "MB", "images, and bare steps", least, peak / least, "≤ 1.2"),
        Row("resident set after 6 epochs, of that after 1", 100 * growth, "%", asked="≤ 101 %"),
    ]
