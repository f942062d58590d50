from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.metrics.hierarchies import built_in_hierarchy, read_hierarchy
from braindistill.metrics.severity import group_of_class, lca_heights, severity

#: cat and dog are pets, pets and cow are animals; car and van are vehicles
TREE = {
    "cat": ("pet", "animal"),
    "dog": ("pet", "animal"),
    "cow": ("animal",),
    "car": ("vehicle",),
    "van": ("vehicle",),
}
CLASSES = list(TREE)


def test_heights_by_hand() -> None:
    assert lca_heights(CLASSES, TREE).tolist() == [
        [0, 1, 2, 3, 3],
        [1, 0, 2, 3, 3],
        [2, 2, 0, 3, 3],
        [3, 3, 3, 0, 1],
        [3, 3, 3, 1, 0],
    ]
    # a root that is named counts as one that is not
    rooted = {name: (*chain, "thing") for name, chain in TREE.items()}
    assert (lca_heights(CLASSES, rooted) == lca_heights(CLASSES, TREE)).all()
    assert lca_heights(["a", "b"], {"a": (), "b": ()}).tolist() == [[0, 1], [1, 0]]


def test_severity_by_hand() -> None:
    labels, predicted = (
        [0, 0, 1, 3, 3, 4],
        [0, 1, 2, 4, 0, 4],
    )  # right, cat → dog, dog → cow, car → van, car → cat, right
    found = severity(predicted, labels, TREE, CLASSES)
    assert found == {
        "mistakes": pytest.approx(4 / 6),
        "mild": 0.5,  # cat → dog and car → van
        "severe": 0.5,
        "lca_height": pytest.approx((1 + 2 + 1 + 3) / 4),
        "lca_height_all": pytest.approx((1 + 2 + 1 + 3) / 6),
    }
    assert severity(predicted, labels, TREE, CLASSES, level=2)["mild"] == 0.75  # dog and cow are both animals
    right = severity(labels, labels, TREE, CLASSES)
    assert right == {"mistakes": 0, "mild": None, "severe": None, "lca_height": None, "lca_height_all": 0}


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=30))
def test_shares_are_shares_and_two_levels_are_one_number(pairs: list[tuple[int, int]]) -> None:
    tree = built_in_hierarchy("cifar100")
    predicted, labels = np.array(pairs).T
    found = severity(predicted, labels, tree, sorted(tree))
    if found["mild"] is None:
        assert (predicted == labels).all()
        return
    assert found["mild"] + found["severe"] == pytest.approx(1)
    assert found["lca_height"] == pytest.approx(1 + found["severe"])  # with one level of superclasses
    assert found["lca_height_all"] == pytest.approx(found["lca_height"] * found["mistakes"])


def test_built_in_tables_are_whole() -> None:
    ten, hundred = built_in_hierarchy("cifar10"), built_in_hierarchy("cifar100")
    assert len(ten) == 10
    assert {name for name, chain in ten.items() if chain == ("vehicle",)} == {"airplane", "automobile", "ship", "truck"}
    assert len(hundred) == 100
    sizes = np.bincount(group_of_class(sorted(hundred), hundred))
    assert sizes.tolist() == [5] * 20
    assert hundred["lobster"] == hundred["worm"] == ("non-insect_invertebrates",)
    with pytest.raises(UserError, match=r"cifar1000.*did you mean"):
        built_in_hierarchy("cifar1000")


def test_groups_follow_the_level() -> None:
    pets = group_of_class(CLASSES, TREE)
    assert pets[0] == pets[1] != pets[2]
    animals = group_of_class(CLASSES, TREE, level=2)
    assert animals[0] == animals[1] == animals[2] != animals[3] == animals[4]
    with pytest.raises(ValueError, match="level"):
        group_of_class(CLASSES, TREE, level=0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"lacks dgo.*did you mean 'dog'"):
        severity([0], [0], TREE, ["dgo"])
    with pytest.raises(ValueError, match="predicted: found 0 to 5"):
        severity([0, 5], [0, 1], TREE, CLASSES)
    with pytest.raises(ValueError, match="equal length"):
        severity([0, 1], [0], TREE, CLASSES)


# --- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "class,superclass\ncat,pet,animal\ndog, pet\n\n# comment\ncow,animal,\ncar,vehicle\nvan,vehicle\n"),
        ("a.tsv", "\ufeffcat\tpet\ndog\tpet\npet\tanimal\ncow\tanimal\ncar\tvehicle\nvan\tvehicle\n"),
        ("a.json", '{"cat": ["pet", "animal"], "dog": "pet", "cow": "animal", "car": "vehicle", "van": "vehicle"}'),
        ("b.csv", 'class,group\n"cat",pet\ndog,pet\npet,animal\ncow,animal\ncar,vehicle\nvan,vehicle\n'),
    ],
)
def test_hierarchies_are_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_hierarchy(tmp_path / name)
    assert {name: found[name] for name in CLASSES} == TREE
    assert "class" not in found


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "cat,pet\ncat,animal\n", "line 2: cat belongs to pet and to animal"),
        ("a.csv", "cat,pet\npet,cat\n", "cat → pet → cat is a circle"),
        ("a.csv", "cat,cat\n", "circle"),
        ("a.csv", "cat\n", "line 1: expected class, superclass; found cat"),
        ("a.csv", "cat,,animal\n", "line 1"),
        ("a.csv", "class,superclass\n", "names no superclass"),
        ("a.json", "[1]", "expected an object"),
        ("a.json", '{"cat": 3}', "cat: expected the name"),
        ("a.json", '{"cat": ["pet", ""]}', "cat: expected the name"),
        ("a.json", "{", "cannot be read"),
        ("missing.csv", None, "cannot be read"),
    ],
)
def test_bad_files_are_refused_in_one_line(name: str, text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words) as caught:
        read_hierarchy(tmp_path / name)
    assert "\n" not in str(caught.value)
