from __future__ import annotations

import pytest
import torch

from braindistill.errors import UserError
from braindistill.images.augmentation import move
from braindistill.images.views import draw_views

OPTIONS = {"crop": 2, "flip": True, "zoom": 0.5, "cutout": 3, "colour": 0.2, "rand_augment": 1}


def test_view_v_of_image_i_is_number_v_n_plus_i():
    images = torch.randint(256, (7, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    three = draw_views(7, 8, 8, 3, 5, **OPTIONS)
    assert len(three) == 21
    moved = move(images.repeat(3, 1, 1, 1), three)
    assert torch.equal(moved[:7], move(images, draw_views(7, 8, 8, 1, 5, **OPTIONS))), (
        "fewer views are the first of more"
    )
    assert not torch.equal(moved[:7], moved[7:14])
    assert torch.equal(moved, move(images.repeat(3, 1, 1, 1), draw_views(7, 8, 8, 3, 5, **OPTIONS)))
    assert not torch.equal(moved, move(images.repeat(3, 1, 1, 1), draw_views(7, 8, 8, 3, 6, **OPTIONS)))
    assert torch.equal(move(images[[4]], three.take(torch.tensor([14 + 4]))), moved[[18]])


def test_options_are_checked():
    with pytest.raises(UserError, match=r"train\.zoom=2"):
        draw_views(7, 8, 8, 3, 5, zoom=2)
