"""Twenty pictures of 16 × 16 pixels, of which the first eight were shown; voxels read one quadrant of the picture each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split, augment, fit_pictures
from braindistill.runtime import Runtime, torch_generator
from braindistill.targets.mask import Masks, export_mask
from braindistill.targets.store import load_target
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.encoder import fit_ridge
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.finetune import fit_finetuned
from braindistill.teachers.options import EncoderOptions, FeatureOptions
from braindistill.teachers.stimulus_features import StimulusFeatures

#: row and column of the quadrants, and ten voxels for each of two of them
CORNERS = {"V1": (0, 0), "V2": (1, 1)}
VOXELS = {"V1": np.arange(10), "V2": np.arange(10, 20)}


def quadrant(maps: np.ndarray, row: int, column: int) -> np.ndarray:
    """The part of each map's mass that lies in a quadrant."""
    height, width = (length // 2 for length in maps.shape[1:])
    return maps[:, row * height : (row + 1) * height, column * width : (column + 1) * width].sum((1, 2))


def respond(images: np.ndarray, corners: dict[str, tuple[int, int]] = CORNERS) -> np.ndarray:
    """Responses of 20 voxels: for each ROI ten random fields over the four blocks of its quadrant, on or off."""
    side = images.shape[2] // 4
    blocks = images[:, 0, ::side, ::side] / 255
    rng = np.random.default_rng(1)
    weights = rng.uniform(size=(len(corners), 4, 10)) * rng.choice([-1, 1], (len(corners), 1, 10))
    parts = []
    for weight, (row, column) in zip(weights, corners.values(), strict=True):
        parts.append(blocks[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(len(images), 4) @ weight)
    return np.concatenate(parts, 1).astype(np.float32)


def pictures(n: int, side: int, seed: int) -> np.ndarray:
    """Pictures of 4 × 4 blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4))
    return blocks.repeat(side // 4, 2).repeat(side // 4, 3).astype(np.uint8)


@pytest.fixture
def image_set() -> ImageSet:
    labels = np.full(20, -1)
    names = np.array([f"image-{row:02d}" for row in range(20)])
    test = names[:2].astype("<U10")
    return ImageSet(
        pictures(20, 16, 3), names, labels, pictures(2, 16, 4), np.char.add(test, "t"), labels[:2] + 1, ["a"]
    )


@pytest.fixture
def split() -> Split:
    return Split(labelled=np.arange(6), pool=np.arange(6, 18), val=np.arange(18, 20))


def teach(folder: Path, kind: str = "pixels", side: int = 16, swapped: bool = False, **rest: Any) -> Path:
    """Save a teacher of two folds; ``swapped``: the second fold's voxels read the other ROI's quadrant."""
    corners = [CORNERS, dict(zip(CORNERS, reversed(CORNERS.values()), strict=True)) if swapped else CORNERS]
    shown, support = pictures(300, side, 0), None
    if kind == "images":
        reader = ImageFeatures("images", shown.shape[1:])
        settings = FeatureOptions(layers=["2"]), EncoderOptions("finetune", encoder_epochs=30, encoder_lr=0.02)
        runtime = Runtime(device="cpu", tensorboard=False)
        encoders = [
            fit_finetuned(shown, np.arange(300), respond(shown, where), None, *settings, k, None, runtime)
            for k, where in enumerate(corners)
        ]
    else:
        options = {"network": "small_cnn", "layers": ["2"], "image_size": None, "pool": 0} if kind == "network" else {}
        reader = ImageFeatures(kind, shown.shape[1:], **options)
        stimuli = StimulusFeatures.of(reader.extract(shown))
        encoders = [fit_ridge(stimuli, np.arange(300), respond(shown, where)) for where in corners]
        support = None if encoders[0].support is None else stimuli.values
    teacher = BrainTeacher(
        "encoder",
        [],
        reader,
        np.array([f"image-{row:02d}" for row in range(8)]),
        np.zeros((8, 20), np.float32),
        encoders,
        held=np.array([0, 1] * 4, np.int16),
        rois=VOXELS,
        support=support,
        **rest,
    )
    folder.mkdir()
    teacher.save(folder)
    return folder


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(tmp_path_factory.mktemp("teachers") / "pixels")


@pytest.mark.parametrize(
    ("kind", "attribution"),
    [
        ("pixels", "gradient"),
        ("pixels", "occlusion"),
        ("images", "gradient"),
        ("images", "gradcam"),
        ("images", "occlusion"),
        ("network", "gradient"),
        ("network", "gradcam"),
        ("network", "occlusion"),
    ],
)
def test_an_encoder_whose_voxels_read_one_quadrant_yields_masks_with_their_mass_there(
    kind, attribution, image_set, split, tmp_path_factory
):
    folder = tmp_path_factory.getbasetemp() / f"teacher-{kind}"
    if not folder.exists():
        teach(folder, kind)
    for roi, corner in CORNERS.items():
        target = export_mask(folder, image_set, split, "cpu", attribution=attribution, roi=roi)
        maps, found = target.rows_for(image_set.train_ids)
        assert found.tolist() == [True] * 18 + [False] * 2
        share = quadrant(maps[found], *corner)
        assert share.mean() > 0.8, f"{share.mean():.2f}"
        assert target.record["uniform"] == 0


def test_a_stimulus_is_explained_by_the_fold_that_held_it_out_and_others_by_all(image_set, split, tmp_path):
    folder = teach(tmp_path / "swapped", swapped=True)
    target = export_mask(folder, image_set, split, "cpu", roi="V1")
    assert target.fold.tolist() == [0, 1] * 4 + [-1] * 10
    assert set(target.source.tolist()) == {"predicted"}
    share = quadrant(target.rows_for(image_set.train_ids[:18])[0], 0, 0)
    assert share[:8:2].min() > 0.8
    assert share[1:8:2].max() < 0.2
    assert share[8:].max() < 0.8
    assert share[8:].min() > 0.2


def test_a_row_is_that_of_its_image_in_whatever_order_and_company(image_set, split, pixels):
    target = export_mask(pixels, image_set, split, "cpu")
    order = np.random.default_rng(0).permutation(20)
    place = np.argsort(order)
    shuffled = ImageSet(
        image_set.train_images[order], image_set.train_ids[order], image_set.train_labels[order],
        image_set.test_images, image_set.test_ids, image_set.test_labels, image_set.classes,
    )  # fmt: skip
    parts = Split(labelled=place[split.labelled], pool=place[split.pool], val=place[split.val])
    for images, rows in (("all", np.arange(18)), ("labelled", split.labelled), ("pool", split.pool)):
        again = export_mask(pixels, shuffled, parts, "cpu", images=images)
        maps, found = again.rows_for(image_set.train_ids[rows])
        assert found.all()
        assert len(again.image_id) == len(rows)
        np.testing.assert_allclose(maps, target.rows_for(image_set.train_ids[rows])[0], atol=2e-5)


def test_voxels_weigh_as_they_are_predicted_out_of_fold(image_set, split, tmp_path):
    r = np.where(np.arange(20) < 10, 0.5, -0.2)
    folder = teach(tmp_path / "scored", voxel_scores={"r": r})
    share = quadrant(export_mask(folder, image_set, split, "cpu").rows_for(image_set.train_ids[:18])[0], 0, 0)
    assert share.min() > 0.8
    both = teach(tmp_path / "unscored")
    share = quadrant(export_mask(both, image_set, split, "cpu").rows_for(image_set.train_ids[:18])[0], 0, 0)
    assert share.mean() < 0.7


def test_pictures_of_another_size_get_masks_of_their_own_size(image_set, split, tmp_path):
    folder = teach(tmp_path / "small", side=8)
    target = export_mask(folder, image_set, split, "cpu", roi="V2")
    assert target.maps.shape == (18, 16, 16)
    assert quadrant(target.rows_for(image_set.train_ids[:18])[0], 1, 1).min() > 0.8
    stored = export_mask(folder, image_set, split, "cpu", roi="V2", size=4)
    assert stored.maps.shape == (18, 4, 4)
    maps, _ = stored.rows_for(image_set.train_ids[:18], size=(16, 24))
    assert maps.shape == (18, 16, 24)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
    assert quadrant(maps, 1, 1).mean() > 0.7


def test_it_is_stored_in_half_precision_and_comes_back(image_set, split, pixels, tmp_path):
    target = export_mask(pixels, image_set, split, "cpu")
    target.save(tmp_path)
    again = load_target(tmp_path)
    assert isinstance(again, Masks)
    assert isinstance(again.maps, np.memmap)
    assert again.maps.dtype == np.float16
    asked = np.array(["image-03", "nowhere", "image-17"])
    maps, found = again.rows_for(asked)
    assert found.tolist() == [True, False, True]
    np.testing.assert_array_equal(maps, target.rows_for(asked)[0])
    np.testing.assert_allclose(maps.sum((1, 2)), [1, 0, 1], rtol=1e-5)
    assert again.record["attribution"] == "gradient"
    assert again.record["folds"] == {"-1": 10, "0": 4, "1": 4}
    np.testing.assert_array_equal(again.fold, target.fold)


def test_half_precision_holds_the_maps_of_large_pictures():
    maps = np.random.default_rng(0).random((2, 320, 320)) ** 8
    target = Masks(np.array(["a", "b"]), (maps / maps.max((1, 2), keepdims=True)).astype(np.float16))
    found, _ = target.rows_for(np.array(["b"]))
    expected = maps[1] / maps[1].sum()
    np.testing.assert_allclose(found[0], expected, rtol=2e-3, atol=expected.max() * 1e-6)


def test_a_mask_moves_with_its_image(image_set, split, pixels):
    maps, _ = export_mask(pixels, image_set, split, "cpu", roi="V1").rows_for(image_set.train_ids[:18])
    images = torch.from_numpy(image_set.train_images[:18])
    moved, (masks,) = augment(
        images, torch_generator(0, "moves"), crop=2, flip=True, companions=[torch.from_numpy(maps)[:, None]]
    )
    # where the moved image is the original, mirrored or not, the mask is, too
    for image, mask, own, map_ in zip(moved, masks, images, maps, strict=True):
        fits = [
            (top, left, mirror)
            for top in range(5) for left in range(5) for mirror in (False, True)
            if torch.equal(_move(own, top, left, mirror), image)
        ]  # fmt: skip
        assert len(fits) == 1
        assert torch.equal(_move(torch.from_numpy(map_)[None], *fits[0]), mask)


def _move(image: torch.Tensor, top: int, left: int, mirror: bool) -> torch.Tensor:
    part = torch.nn.functional.pad(image, (2, 2, 2, 2))[:, top : top + 16, left : left + 16]
    return part.flip(2) if mirror else part


def test_an_image_without_a_difference_gets_a_uniform_mask_and_is_counted(image_set, split, pixels, capsys):
    image_set.train_images[:] = image_set.train_images[0]
    target = export_mask(pixels, image_set, split, "cpu", images="pool")
    assert target.record["uniform"] == 12
    np.testing.assert_allclose(target.rows_for(image_set.train_ids[6:18])[0], 1 / 256)
    assert "12 of 12 masks are uniform, as gradient found nothing" in capsys.readouterr().err


def test_what_cant_be_traced_is_refused(image_set, split, pixels, tmp_path):
    with pytest.raises(UserError, match="needs a convolutional layer, and this encoder has none; take gradient or occ"):
        export_mask(pixels, image_set, split, "cpu", attribution="gradcam")
    with pytest.raises(UserError, match=r"target.roi=V9: .*no such ROI"):
        export_mask(pixels, image_set, split, "cpu", roi="V9")
    with pytest.raises(UserError, match=r"target.size=0: expected a side of 1 pixel or more"):
        export_mask(pixels, image_set, split, "cpu", size=0)
    decoder = BrainTeacher("decoder", ["a"], None, np.array(["s"]), np.zeros((1, 3), np.float32))
    decoder.save(tmp_path)
    with pytest.raises(
        UserError, match=r"teacher=decoder has no encoder, whose predictions .* take teacher=encoder or"
    ):
        export_mask(tmp_path, image_set, split, "cpu")


def test_colour_pictures_are_read_by_a_grey_teacher(image_set, split, pixels):
    image_set.train_images = image_set.train_images.repeat(3, 1)
    maps, _ = export_mask(pixels, image_set, split, "cpu", roi="V1").rows_for(image_set.train_ids[:18])
    assert fit_pictures(image_set.train_images[:1], (1, 16, 16)).shape == (1, 1, 16, 16)
    assert quadrant(maps, 0, 0).min() > 0.8
