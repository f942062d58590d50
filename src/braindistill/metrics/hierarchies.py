"""Which classes belong together: tables of superclasses, built in or from a file."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from braindistill.errors import UserError, nearest

#: class → its superclass, that one's superclass, … up to the last that is named
Hierarchy = dict[str, tuple[str, ...]]

_CIFAR10 = {
    "animal": "bird cat deer dog frog horse",
    "vehicle": "airplane automobile ship truck",
}
#: the 20 superclasses of CIFAR-100 (Krizhevsky 2009), by the names in its own files
_CIFAR100 = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
_BUILT_IN = {"cifar10": _CIFAR10, "cifar100": _CIFAR100}


def built_in_hierarchy(name: str) -> Hierarchy:
    """The superclasses of ``cifar10`` (animal, vehicle) or ``cifar100`` (the official 20).

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name not in _BUILT_IN:
        raise UserError(f"no class hierarchy is built in for {name}; {nearest(name, _BUILT_IN)}; or give a file")
    return {member: (group,) for group, members in _BUILT_IN[name].items() for member in members.split()}


def read_hierarchy(file: Path) -> Hierarchy:
    """Read which superclass every class has, and that superclass in turn.

    - ``.csv`` or ``.tsv``: a line ``class, superclass[, superclass of that …]``; a first line that begins with ``class``
      is a header; empty lines and those that begin with # are skipped.
    - ``.json``: an object ``{"class": "superclass"}`` or ``{"class": ["superclass", "superclass of that", …]}``.

    A superclass may itself be a line (or key) with its own superclass, as WordNet's parents are: chains are followed.
    Every class has one parent; the classes that have none meet in a root that needs no name.

    Raises
    ------
    UserError
        If the file cannot be read, a name has two parents, or parents form a circle.
    """
    parents: dict[str, str] = {}
    for where, chain in _chains(Path(file)):
        for child, parent in itertools.pairwise(chain):
            if parents.setdefault(child, parent) != parent:
                raise UserError(
                    f"{where}: {child} belongs to {parents[child]} and to {parent}; leave it one superclass"
                )
    if not parents:
        raise UserError(f"{file}: names no superclass; expected lines such as: cat, animal")
    return _ancestors(parents, Path(file))


def _ancestors(parents: Mapping[str, str], file: Path) -> Hierarchy:
    found: Hierarchy = {}
    for name in parents:
        chain = [name]
        while (parent := parents.get(chain[-1])) is not None:
            if parent in chain:
                raise UserError(
                    f"{file}: {' → '.join([*chain, parent])} is a circle; a superclass must lie above its classes"
                )
            chain.append(parent)
        found[name] = tuple(chain[1:])
    return found


def _chains(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Where it says so, and a class with its superclasses from near to far."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        content: Any = json.loads(text) if file.suffix == ".json" else None
    except (OSError, ValueError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise UserError(f"{file}: cannot be read ({reason}); expected a .csv, .tsv or .json of classes") from error
    if file.suffix == ".json":
        if not isinstance(content, dict):
            raise UserError(f'{file}: expected an object such as {{"cat": "animal"}}; found a {type(content).__name__}')
        for name, value in content.items():
            chain = [name, *([value] if isinstance(value, str) else value if isinstance(value, list) else [None])]
            if not all(isinstance(part, str) and part for part in chain):
                raise UserError(
                    f"{file}: {name}: expected the name of its superclass, or a list of names; found {value!r}"
                )
            yield f"{file}: {name}", chain
        return
    lines = csv.reader(text.splitlines(), delimiter="\t" if file.suffix == ".tsv" else ",", skipinitialspace=True)
    first = True
    for number, row in enumerate(lines, 1):
        cells = [cell.strip() for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if not cells or cells[0].startswith("#"):
            continue
        header, first = first and cells[0].lower() == "class", False
        if header:
            continue
        if len(cells) < 2 or not all(cells):
            raise UserError(f"{file}: line {number}: expected class, superclass; found {', '.join(cells)}")
        yield f"{file}: line {number}", cells
