"""What a student is made of: its layers, parameters and cost."""

from __future__ import annotations

import torch
from torch import nn

from braindistill.students.artifact import layers


def count_multiply_adds(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of convolutions, linear layers and attention for one image: what papers on networks call FLOPs."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    weight = next(network.parameters())
    was_training, fused = network.training, torch.backends.mha.get_fastpath_enabled()
    counter = FlopCounterMode(display=False)
    torch.backends.mha.set_fastpath_enabled(False)  # the counter doesn't see into it, nor into fused attention
    try:
        with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
            network.eval()(torch.zeros(1, *image_shape, dtype=weight.dtype, device=weight.device))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        network.train(was_training)
    return counter.get_total_flops() // 2


def summarise(network: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """A table of the layers in the order they run: name, type, output of one image, parameters; and the totals.

    Names are those that a method's ``layer`` takes; the modules around the layers are named below.
    """
    rows = [
        (name, kind, " × ".join(map(str, shape)), f"{count:,}")
        for name, kind, shape, count in layers(network, image_shape)
    ]
    rows.insert(0, ("layer", "type", "output", "parameters"))
    name, kind, output, count = (max(len(row[column]) for row in rows) for column in range(4))
    lines = [f"{row[0]:{name}}  {row[1]:{kind}}  {row[2]:{output}}  {row[3]:>{count}}" for row in rows]
    lines.insert(1, "─" * len(lines[0]))
    around = [place for place, module in network.named_children() if any(module.children())]
    if around:
        lines.append(f"around them, for method.layer, too: {', '.join(around)}")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    millions = count_multiply_adds(network, image_shape) / 1e6
    lines.append(
        f"{parameters:,} parameters, {millions:,.{0 if millions >= 100 else 1}f} MFLOPs (multiply-adds) an image"
    )
    return "\n".join(lines)
