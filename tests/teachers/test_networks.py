"""Networks by name, and files that are not their weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from braindistill.errors import UserError
from braindistill.runtime import seeded
from braindistill.students.artifact import save
from braindistill.students.build import build
from braindistill.teachers.networks import find_network, load_network


def squeezenet(seed: int = 6, n_classes: int = 1000) -> dict[str, torch.Tensor]:
    with seeded(seed):
        return torchvision.models.squeezenet1_1(weights=None, num_classes=n_classes).state_dict()


@pytest.mark.parametrize("n_classes", [1000, 7])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_weights_may_be_safetensors_or_pth_with_any_number_of_classes(
    tmp_path: Path, name: str, n_classes: int
) -> None:
    state = squeezenet(n_classes=n_classes)
    (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)  # type: ignore[operator]
    network = load_network("squeezenet1_1", tmp_path / name)
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])
    found = find_network("squeezenet1_1", tmp_path / name)
    assert (found.channels, found.side, found.std[0]) == (3, None, 0.229)


def test_untrained_networks_are_seeded() -> None:
    before = torch.get_rng_state()
    first, second = (load_network("squeezenet1_1", None, 5) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.features[0].weight, second.features[0].weight)  # type: ignore[index, union-attr]
    assert first.classifier[1].out_channels == 5  # type: ignore[index, union-attr]


def test_old_files_without_the_counters_of_batch_normalisation_fit(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    assert torch.equal(load_network("resnet18", tmp_path / "w.safetensors").conv1.weight, state["conv1.weight"])  # type: ignore[union-attr, arg-type]


def test_of_a_name_that_both_have_the_file_decides(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(weights=None, num_classes=4)
    ours = build("resnet18", 4, (3, 32, 32), 0)
    for network, stem in ((theirs, 7), (ours, 3)):
        save_file(network.state_dict(), tmp_path / "w.safetensors")
        for shape in (None, (3, 32, 32)):
            assert load_network("resnet18", tmp_path / "w.safetensors", 4, shape).conv1.kernel_size == (stem, stem)  # type: ignore[union-attr]
    assert load_network("resnet18", None).conv1.kernel_size == (7, 7)  # type: ignore[union-attr]
    assert load_network("resnet18", None, 4, (1, 28, 28)).conv1.weight.shape == (64, 1, 3, 3)  # type: ignore[union-attr]


def test_a_students_description_beside_its_weights_says_how_to_build_it(tmp_path: Path) -> None:
    network = build("small_cnn", 3, (1, 8, 8), 4, width=4)
    description = {"name": "small_cnn", "options": {"width": 4}, "classes": ["a", "b", "c"], "image_shape": [1, 8, 8]}
    save(network, tmp_path, description | {"mean": [0.2], "std": [0.5]})
    found = find_network("small_cnn", tmp_path / "student.safetensors")
    assert torch.equal(found.network[0].weight, network[0].weight)  # type: ignore[index]
    assert found[1:] == (1, (8, 8), (0.2,), (0.5,))
    with pytest.raises(UserError, match=r"the weights of the student small_cnn, and teacher\.network=resnet20"):
        load_network("resnet20", tmp_path / "student.safetensors")


def refused(name: str, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_network(name, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_weights_of_another_architecture_are_named_with_what_was_expected(tmp_path: Path) -> None:
    torch.save(squeezenet(), tmp_path / "w.pth")
    message = refused("squeezenet1_0", tmp_path / "w.pth")
    assert "not the weights of squeezenet1_0: the file holds 52 tensors, first 'features.0.weight' 64×3×3×3" in message
    assert "the weights of torchvision's squeezenet1_1" in message
    assert "torchvision's squeezenet1_0 expects 52 tensors, 'features.0.weight' 96×3×7×7" in message
    assert "take teacher.network=squeezenet1_1, or give a file of squeezenet1_0's weights" in message
    torch.save(build("resnet20", 10, (1, 28, 28), 0).state_dict(), tmp_path / "s.pth")
    message = refused("resnet18", tmp_path / "s.pth")
    assert "the weights of the student resnet20" in message
    assert "torchvision's resnet18 expects 122 tensors" in message
    assert "the student resnet18 expects 122 tensors" in message
    torch.save({"a": torch.zeros(2, 3)}, tmp_path / "other.pth")
    message = refused("resnet18", tmp_path / "other.pth")
    assert "holds 1 tensors, first 'a' 2×3: of no network known here" in message
    torch.save(squeezenet() | {"more": torch.zeros(())}, tmp_path / "more.pth")
    assert "52 tensors and no 'more'" in refused("squeezenet1_1", tmp_path / "more.pth")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of the file was run",)


def test_files_that_are_no_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    torch.save({"model": Evil()}, tmp_path / "evil2.pth")
    torch.save({"state_dict": squeezenet(), "epoch": 3}, tmp_path / "nested.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({}, tmp_path / "empty.pth")
    for name in ("text.pth", "text.safetensors", "evil.pth", "evil2.pth", "nested.pth", "list.pth", "empty.pth"):
        assert "not the weights of squeezenet1_1: " in refused("squeezenet1_1", tmp_path / name)
    assert "without running code of its own" in refused("squeezenet1_1", tmp_path / "evil2.pth")
    assert "found state_dict, epoch in it" in refused("squeezenet1_1", tmp_path / "nested.pth")
    assert "no such file" in refused("squeezenet1_1", tmp_path / "absent.pth")
    assert "code of the file" not in capsys.readouterr().out


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"teacher\.network=resnet19: .*did you mean 'resnet1"):
        load_network("resnet19", None)
