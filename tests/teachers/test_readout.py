from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.runtime import seeded, torch_generator
from braindistill.teachers import readout
from braindistill.teachers.readout import FactorisedReadout, PooledReadout


def factorised(n_voxels: int, shape: tuple[int, int, int]) -> FactorisedReadout:
    with seeded(0, "readout"):
        layer = FactorisedReadout(n_voxels, shape)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter)
    return layer


def maps_of(n: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch_generator(0, "maps"))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 5), channels=st.integers(1, 7), height=st.integers(1, 3), width=st.integers(1, 3),
    n_voxels=st.integers(1, 9), room=st.sampled_from([1, 40, 2**20]),
)  # fmt: skip
def test_a_voxel_is_where_times_what_whatever_the_blocks(n, channels, height, width, n_voxels, room):
    shape = (channels, height, width)
    layer, maps = factorised(n_voxels, shape), maps_of(n, shape).requires_grad_()
    direct = torch.einsum("nchw,vhw,vc->nv", maps, layer.root.square().view(-1, height, width), layer.what) + layer.bias
    wanted = torch.autograd.grad(direct.square().sum(), [maps, *layer.parameters()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readout, "_BLOCK_VALUES", room)
        out = layer(maps)
        gradients = torch.autograd.grad(out.square().sum(), [maps, *layer.parameters()])
    torch.testing.assert_close(out, direct, rtol=1e-4, atol=1e-4)
    for found, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_nothing_as_large_as_images_by_voxels_by_positions_is_kept(monkeypatch):
    monkeypatch.setattr(readout, "_BLOCK_VALUES", 4096)
    n, n_voxels, shape = 8, 500, (16, 6, 6)
    kept = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = factorised(n_voxels, shape)(maps_of(n, shape).requires_grad_())
    assert out.shape == (n, n_voxels)
    assert max(kept, default=0) <= n_voxels * 36 < n * n_voxels * 16


def test_masks_are_never_negative_and_start_as_a_global_pool():
    shape = (3, 4, 5)
    assert (factorised(6, shape).where() >= 0).all()
    fresh, pooled, maps = FactorisedReadout(6, shape), PooledReadout(6, shape), maps_of(4, shape)
    pooled.load_state_dict({"what": fresh.what, "bias": fresh.bias})
    torch.testing.assert_close(fresh(maps), pooled(maps))
    torch.testing.assert_close(pooled(maps), maps.mean((2, 3)) @ pooled.what.T)


def test_weight_decay_on_the_root_is_an_l1_penalty_on_the_mask():
    layer = factorised(6, (3, 4, 5))
    torch.testing.assert_close(layer.root.square().sum(), layer.where().abs().sum())
