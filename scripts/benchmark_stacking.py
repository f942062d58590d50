"""How much faster K stacked networks train than one after another, on one thread.

    python scripts/benchmark_stacking.py
    python scripts/benchmark_stacking.py --student resnet8 --image-shape 3 32 32 --batch-size 128

Both take the same steps (forward, cross-entropy, backward, fused SGD with momentum) on resident batches, in turn,
``--repeats`` times; medians count. Both are channels_last.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.students.build import build
from braindistill.students.stacking import stack, stacking_pays
from braindistill.students.summary import count_multiply_adds


def step(network: nn.Module, rule: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """A step of one network, or of a stack: the sum over its networks of each one's mean loss."""
    rule.zero_grad(set_to_none=True)
    outputs, seeds = network(images), len(labels) if labels.ndim == 2 else 1
    (F.cross_entropy(outputs.flatten(0, -2), labels.flatten()) * seeds).backward()
    rule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--student", default="small_cnn")
    parser.add_argument("--width", type=int, help="option of the student")
    parser.add_argument("--image-shape", type=int, nargs=3, default=[1, 8, 8], metavar=("C", "H", "W"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--networks", type=int, default=8, help="K")
    parser.add_argument("--steps", type=int, default=20, help="in a repeat")
    parser.add_argument("--repeats", type=int, default=11)
    given = parser.parse_args()
    torch.set_num_threads(1)

    shape, k = tuple(given.image_shape), given.networks
    options = {} if given.width is None else {"width": given.width}
    networks = [build(given.student, 10, shape, seed, **options) for seed in range(k)]
    step_flop = 6 * count_multiply_adds(networks[0], shape) * given.batch_size
    print(f"{given.student}: {step_flop / 1e6:.0f} MFLOP a step; stacking_pays: ", end="", flush=True)
    print(stacking_pays(networks[0], shape, given.batch_size))

    images, labels = torch.randn(k, given.batch_size, *shape), torch.randint(10, (k, given.batch_size))
    layout = torch.channels_last
    batches = [batch.contiguous(memory_format=layout) for batch in images]
    stacked = stack(networks)
    solo = [network.to(memory_format=layout) for network in networks]
    rules = [torch.optim.SGD(network.parameters(), 0.01, 0.9, fused=True) for network in (*solo, stacked)]
    seconds: dict[str, list[float]] = {"one after another": [], "stacked": []}
    for _ in range(given.repeats + 1):
        started = time.perf_counter()
        for network, rule, batch, truth in zip(solo, rules[:k], batches, labels, strict=True):
            for _ in range(given.steps):
                step(network, rule, batch, truth)
        between = time.perf_counter()
        for _ in range(given.steps):
            step(stacked, rules[k], images, labels)
        seconds["one after another"].append(between - started)
        seconds["stacked"].append(time.perf_counter() - between)

    # the first repeat warms up
    for name, found in seconds.items():
        print(f"{name:18} {1000 * median(found[1:]) / given.steps:8.2f} ms for a step of {k}")
    ratios = [solo / together for solo, together in zip(*(found[1:] for found in seconds.values()), strict=True)]
    print(f"ratio {median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
