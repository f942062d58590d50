"""What training costs here, beside what a user would pick instead and beside the least it could cost.

    python scripts/benchmark.py                    all parts, about 10 minutes on two quiet cores
    python scripts/benchmark.py step seeds --json  some parts, for a program to read
    python scripts/benchmark.py --quick            every part in miniature: that they run, and no more

``augmentation``: batched crops and flips, against torchvision's transforms on PIL images.
``step``: from cached soft labels, against labels only and against a teacher that is asked in every step.
``engine``: a step here, against eager PyTorch in its default memory layout.
``epoch``: all of it, against its bare steps and against a loop with a DataLoader.
``seeds``: eight at once against one after another, and the automatic choice between the two against the better one.
``start``: from the shell to the first step, to the complaint about a mistyped option, to the help.
``logging``: metrics, TensorBoard and checkpoints, against none.
``memory``: its peak against what has to be there, and whether it grows.

The sides of a comparison take turns in one run, after a warm-up; given are medians, of the ratios too. Images are noise
and weights random: time depends on neither.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable

from benchmarks.processes import time_logging, time_memory, time_start
from benchmarks.rows import Row, table
from benchmarks.seeds import time_seeds
from benchmarks.sizes import QUICK, Sizes
from benchmarks.steps import time_augmentation, time_engine, time_epoch, time_step

PARTS: dict[str, Callable[[Sizes], list[Row]]] = {
    "augmentation": time_augmentation,
    "step": time_step,
    "engine": time_engine,
    "epoch": time_epoch,
    "seeds": time_seeds,
    "start": time_start,
    "logging": time_logging,
    "memory": time_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all, where none is named")
    parser.add_argument("--quick", action="store_true", help="sizes that show nothing but that it runs")
    parser.add_argument("--repeats", type=int, help="turns of a comparison")
    parser.add_argument("--threads", type=int, help="of the larger networks")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    changes = {name: value for name in ("repeats", "threads") if (value := getattr(given, name)) is not None}
    sizes = dataclasses.replace(QUICK if given.quick else Sizes(), **changes)
    rows: list[Row] = []
    for name in given.parts or PARTS:
        print(f"{name} …", file=sys.stderr)
        rows += PARTS[name](sizes)
    if given.quick:
        rows = [dataclasses.replace(row, asked="") for row in rows]
    print(
        json.dumps([dataclasses.asdict(row) for row in rows], indent=1, ensure_ascii=False)
        if given.json
        else table(rows)
    )


if __name__ == "__main__":
    main()
