from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.images.mixing import Mix, draw_mix, mix_images, mix_rows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_off_draws_nothing():
    rng = generator()
    assert draw_mix(4, 5, 5, rng) is None
    assert torch.equal(rng.get_state(), generator().get_state())
    for option in ("mixup", "cutmix"):
        with pytest.raises(UserError, match=rf"train\.{option}=-1.*at least 0"):
            draw_mix(4, 5, 5, rng, **{option: -1.0})


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9), height=st.integers(1, 12), width=st.integers(1, 12), alpha=st.floats(0.05, 5),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_the_share_of_cutmix_is_that_of_the_pixels_that_stay(n, height, width, alpha, seed):
    mix = draw_mix(n, height, width, generator(seed), cutmix=alpha)
    assert mix is not None
    assert sorted(mix.partner.tolist()) == list(range(n))
    images = torch.arange(n).view(n, 1, 1, 1).expand(n, 3, height, width).float()
    mixed = mix_images(images, mix)
    top, bottom, left, right = mix.box
    pasted = torch.zeros(height, width, dtype=torch.bool)
    pasted[top:bottom, left:right] = True
    assert mix.share == pytest.approx(1 - pasted.double().mean().item(), abs=1e-12)
    assert torch.equal(mixed[:, :, pasted], mix.partner.float().view(n, 1, 1).expand(n, 3, int(pasted.sum())))
    assert torch.equal(mixed[:, :, ~pasted], images[:, :, ~pasted])
    again = draw_mix(n, height, width, generator(seed), cutmix=alpha)
    assert (again.share, again.box) == (mix.share, mix.box)
    assert torch.equal(again.partner, mix.partner)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_betas(alpha):
    shares = torch.tensor([draw_mix(1, 1, 1, generator(seed), mixup=alpha).share for seed in range(2000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert draw_mix(1, 1, 1, generator(), mixup=alpha).box is None


def test_with_both_each_has_half_of_the_batches():
    pasted = [draw_mix(2, 4, 4, generator(seed), mixup=1, cutmix=1).box is not None for seed in range(400)]
    assert 160 < sum(pasted) < 240


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 99), scale=st.sampled_from([1.0, 30.0, 1000.0]))
def test_log_probabilities_are_mixed_as_probabilities(share, seed, scale):
    rng = generator(seed)
    log_p = (scale * torch.randn(6, 5, generator=rng)).log_softmax(1)
    mix = Mix(torch.randperm(6, generator=rng), share, None)
    mixed = mix_rows(log_p, mix, log=True)
    exact = log_p.double()
    expected = share * exact.exp() + (1 - share) * exact[mix.partner].exp()
    torch.testing.assert_close(mixed.exp().double(), expected, atol=1e-6, rtol=1e-5)
    assert mixed.isfinite().all(), "no logarithm of a sum that came out as 0"
    assert torch.equal(mix_rows(log_p, mix, log=False), (log_p * share).add(log_p[mix.partner], alpha=1 - share))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_impossible_classes_do_no_harm(share):
    rows = torch.tensor([[0.0, -math.inf, -math.inf], [-math.inf, 0.0, -math.inf]])
    mixed = mix_rows(rows, Mix(torch.tensor([1, 0]), share, None), log=True).exp()
    torch.testing.assert_close(mixed, torch.tensor([[share, 1 - share, 0], [1 - share, share, 0]]))


def test_views_of_rows_half_precision_and_layout():
    mix = Mix(torch.tensor([1, 0]), 0.25, None)
    rows = torch.randn(2, 3, 4).log_softmax(2)
    assert torch.equal(mix_rows(rows, mix, log=True)[:, 1], mix_rows(rows[:, 1], mix, log=True))
    assert mix_rows(rows.half(), mix, log=True).dtype == torch.float16
    images = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    for one in (mix, Mix(mix.partner, 0.75, (0, 2, 0, 2))):
        assert mix_images(images, one).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mix_images(images, mix), 0.25 * images + 0.75 * images.flip(0))
