"""The methods, as a text to paste: put together from the results and the manifests, so that it says what was done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from braindistill.report.formats import cite_latex, cite_plain, keys_of
from braindistill.report.parts import Findings, Passage
from braindistill.report.reading import PURPOSE, is_brain, number, percent
from braindistill.report.sources import SOURCES, bibtex_of

_DATA = {
    "god": "horikawa2017",
    "nsd": "allen2022",
    "algonauts2023": "gifford2023",
    "bold5000": "chang2019",
    "things": "hebart2023",
    "digits69": "vangerven2010",
    "mnist": "lecun1998",
    "cifar10": "krizhevsky2009",
    "cifar100": "krizhevsky2009",
}
_LEARNING = {
    "kd": "hinton2015",
    "dkd": "zhao2022",
    "dist": "huang2022",
    "standardized_kd": "sun2024",
    "label_smoothing": "szegedy2016",
    "teacher_free": "yuan2020",
    "crd": "tian2020",
    "rdm": "kriegeskorte2008",
}
#: options that say nothing of the method in its words
_UNSAID = {
    "name",
    "threads",
    "channels_last",
    "compile",
    "deterministic",
    "parallel_seeds",
    "precision",
    "seed",
    "root",
}
_UNSAID |= {"path", "labels_matched", "n_train", "n_pool", "n_val"}


def method_passages(found: Findings) -> Iterable[Passage]:
    """The text on the page, and folded away as Markdown, LaTeX and BibTeX."""
    paragraphs = [" ".join(sentences) for sentences in method_text(found) if sentences]
    if not paragraphs:
        return
    keys = [key for text in paragraphs for key in keys_of(text)]
    for text in paragraphs:
        yield Passage(cite_plain(text))
    listed = "\n".join(f"- {_reference(key)}" for key in sorted(set(keys)))
    markdown = "\n\n".join(["## Methods", *map(cite_plain, paragraphs), "### References", listed])
    yield Passage(markdown, "Markdown", True)
    yield Passage("\n\n".join([r"\section*{Methods}", *map(cite_latex, paragraphs)]), "LaTeX (natbib)", True)
    yield Passage(bibtex_of(keys), "BibTeX", True)


def method_text(found: Findings) -> list[list[str]]:
    """Paragraphs of sentences, with citations as ``[@key]``."""
    if not found.arms:
        return []
    return [
        _data(found),
        _students(found),
        _teachers(found),
        _arms(found),
        _statistics(found),
        _measures(found),
        _software(found),
    ]


def _data(found: Findings) -> list[str]:
    results, settings = found.results, _of_brain(found)
    fmri, images = settings.get("prepare", {}).get("fmri") or {}, settings.get("images", {}).get("images") or {}
    told = []
    people = (settings.get("train-teacher", {}).get("teacher") or {}).get("name") == "human"
    if fmri and not people:
        told.append(
            f"Responses were those of the data set {fmri.get('name')}{_cite(_DATA, fmri.get('name'))}{_options(fmri)}."
        )
    counts = [(results.get("n_train"), "labelled training images"), (results.get("n_pool"), "unlabelled ones")]
    counts.append((results.get("n_val"), "labelled images for validation"))
    listed = [f"{count:,} {word}" for count, word in counts if count]
    if listed:
        source = f" of {images['name']}{_cite(_DATA, images.get('name'))}" if images.get("name") else ""
        told.append(f"Every arm was given {_and(listed)}{source}, drawn anew for every seed and the same for all arms.")
    if results.get("n_test"):
        classes = f" of {len(results['classes'])} classes" if results.get("classes") else ""
        chance = f" (most frequent class: {percent(results['chance'])} %)" if results.get("chance") is not None else ""
        told.append(f"Students were tested once, on {results['n_test']:,} images{classes}{chance}.")
    budgets = {arm: entry.get("labels") for arm, entry in found.arms.items() if entry.get("labels") is not None}
    if len(set(budgets.values())) > 1:
        listed = [f"{arm} {count}" for arm, count in budgets.items()]
        told.append(f"Numbers of labels differed between arms: {', '.join(listed)}.")
    return told


def _students(found: Findings) -> list[str]:
    settings = _of_brain(found).get("distill") or {}
    seeds = found.results.get("n_seeds")
    pairing = "a seed fixed the labelled subset, the pool, folds, initial weights and order of batches of all arms"
    told = [f"Each arm was trained with {seeds} seeds; {pairing}."] if seeds else []
    student, train = settings.get("student") or {}, settings.get("train") or {}
    if not student:
        return told
    name = str(student.get("name"))
    network = f"{name}{' [@he2016]' if 'resnet' in name else ''}{_options(student)}"
    optimizer = (
        f"{train.get('optimizer', 'an optimiser')}{' [@loshchilov2019]' if train.get('optimizer') == 'adamw' else ''}"
    )
    words = {"lr": "learning rate", "batch_size": "batches of", "weight_decay": "weight decay", "momentum": "momentum"}
    listed = [f"{word} {train[key]:g}" for key, word in words.items() if isinstance(train.get(key), int | float)]
    told.append(
        f"The student was {network}, trained for {train.get('epochs', '?')} epochs by {optimizer}"
        + (f" ({', '.join(listed)})" if listed else "")
        + "."
    )
    augmented = [
        key for key in ("crop", "flip", "cutout", "colour", "rand_augment", "mixup", "cutmix") if train.get(key)
    ]
    told += (
        [f"Training images were augmented by {_and([f'{key} ({train[key]})' for key in augmented])}."]
        if augmented
        else []
    )
    kept = {
        "last": "the last epoch's",
        "val": "those of the best epoch on validation images",
        "test": "chosen on the TEST images",
    }
    told += [f"The weights kept were {kept[train['select']]}."] if train.get("select") in kept else []
    return told


def _teachers(found: Findings) -> list[str]:
    settings = _of_brain(found)
    teacher, target = (
        settings.get("train-teacher", {}).get("teacher") or {},
        settings.get("export", {}).get("target") or {},
    )
    method = settings.get("distill", {}).get("method") or {}
    told = []
    if teacher.get("name") == "human":
        told.append("The teacher was people: the distribution of the labels that they gave to each image.")
    elif teacher:
        parts = [f"decoder {teacher['decoder']}"] if teacher.get("decoder") else []
        if teacher.get("encoder"):
            parts.insert(0, f"encoder {teacher['encoder']} on {teacher.get('features')}")
        told.append(
            f"The brain teacher ({teacher.get('name')}, ROI {_words(teacher.get('roi'))}) consisted of {_and(parts) or 'a model of responses'}."
        )
        folds = teacher.get("n_folds")
        told.append(
            (
                f"It was cross-fitted in {folds} folds: every target and score comes from a fold that saw neither that stimulus nor, where runs divide the folds, that run"
                if folds and folds > 1
                else "It was not cross-fitted"
            )
            + ("; encoder and decoder never shared a stimulus." if teacher.get("disjoint") else ".")
        )
    if target:
        told.append(
            f"Its targets were {str(target.get('name')).replace('_', ' ')} on {target.get('images', 'all')} images."
        )
    if method:
        told.append(
            f"Students learned from them by {method.get('name')}{_cite(_LEARNING, method.get('name'))}{_options(method)}."
        )
    return told


def _arms(found: Findings) -> list[str]:
    differing = [
        f"{arm} ({' '.join(entry.get('overrides') or []) or 'the settings as described'})"
        for arm, entry in found.arms.items()
    ]
    told = [f"Arms differ in the following options and in no others: {'; '.join(differing)}."]
    controls = [f"{arm} rules out {PURPOSE[arm]}" for arm in found.arms if PURPOSE.get(arm, "").startswith("that ")]
    told += [f"Of the controls, {'; '.join(controls)}."] if controls else []
    used = {
        str((entry.get("distill", {}).get("method") or {}).get("name")) for entry in found.upstream.settings.values()
    }
    cited = sorted({_LEARNING[name] for name in used if name in _LEARNING})
    told += [f"For the methods that arms learn by see [{'; '.join('@' + key for key in cited)}]."] if cited else []
    tuning = found.results.get("tuning") or {}
    if tuning.get("trials"):
        told.append(f"Each arm was tuned with the same {tuning['trials']} trials on validation images.")
    marks = [f"{arm}: {mark}" for arm, entry in found.arms.items() for mark in entry.get("marks") or []]
    return [*told, *([f"To be noted: {'; '.join(marks)}."] if marks else [])]


def _statistics(found: Findings) -> list[str]:
    crossed = "three-way random-effects model, subjects crossed with seeds" if found.results.get("subjects") else ""
    told = [
        f"Intervals are 95 % intervals of a {crossed or 'two-way random-effects model, seeds crossed'} with test images, from the "
        "t distribution with Satterthwaite's degrees of freedom [@satterthwaite1946].",
        "The claim that the brain helped is an intersection–union test [@berger1982]: the brain arm must beat each of the "
        "controls named for it, and its p is the largest of theirs.",
    ]
    if any(row.get("p_adjusted") is not None for row in found.results.get("comparisons") or []):
        told.append("All other comparisons are exploratory, and their p values are adjusted after Holm [@holm1979].")
    if found.results.get("respects"):
        told.append(
            "Measures beside accuracy were compared in pairs: losses of single images by the same model, others by a paired t; adjusted after Holm as a family of their own."
        )
    if found.results.get("equivalence"):
        margin = percent((found.results["equivalence"][0] or {}).get("margin"))
        told.append(
            f"Equivalence was tested by two one-sided tests [@schuirmann1987] with a margin of {margin} points."
        )
    return told


def _measures(found: Findings) -> list[str]:
    told = []
    if found.measured("reliability") or any(entry.get("ece") is not None for entry in found.arms.values()):
        told.append(
            "Calibration is measured by the negative log-likelihood and the expected calibration error over bins of equal size [@guo2017]."
        )
    if found.measured("brier"):
        told.append("The Brier score [@brier1950] is the mean squared distance of probabilities from the truth.")
    if found.measured("severity"):
        told.append(
            "Severity is the share of mistakes outside the true superclass, and the height of the lowest common ancestor in the class hierarchy [@bertinetto2020]."
        )
    if found.measured("selective"):
        told.append(
            "Precision at a chosen confidence uses the threshold that was best on validation images; AURC is the area under the curve of risk against coverage [@geifman2019]."
        )
    if found.measured("human"):
        told.append("Agreement with people is against the distributions of their labels [@peterson2019].")
    robust = found.measured("robustness")
    if any(entry.get("families") for entry in robust.values()):
        told.append("Robustness is the accuracy on common corruptions at five severities [@hendrycks2019].")
    if any(entry.get("fgsm") or entry.get("pgd") for entry in robust.values()):
        told.append(
            "Attacks are the fast gradient sign method [@goodfellow2015] and projected gradient descent [@madry2018]."
        )
    if found.measured("brain_score"):
        told.append(
            "Brain scores are correlations of held-out responses with a ridge regression on the student's features, out of fold [@schrimpf2018], and rank correlations of representational dissimilarity matrices [@kriegeskorte2008], with noise ceilings from halves of the repeats [@nili2014]."
        )
    explain = found.results.get("explain") or {}
    if explain.get("contributions"):
        told.append(
            "Contributions of ROIs to soft labels are gradient × input and Shapley values over ROIs [@shapley1953], of held-out responses."
        )
    if explain.get("saliency") or explain.get("decoder_cam"):
        told.append("Maps of attention are Grad-CAM [@selvaraju2017].")
    return told


def _software(found: Findings) -> list[str]:
    versions = found.results.get("versions") or {}
    named = [
        f"{name} {versions[name]}"
        for name in ("braindistill", "torch", "scikit-learn", "himalaya", "scipy")
        if name in versions
    ]
    command = found.results.get("command")
    told = [f"Computed with {_and(named)}."] if named else []
    return [*told, *([f"Command: {command}."] if command else [])]


def _of_brain(found: Findings) -> dict[str, dict[str, Any]]:
    """The settings of the first arm with a claim or a brain, or of the first arm with any."""
    known = found.upstream.settings
    claimed = [str(claim.get("arm")) for claim in found.results.get("claims") or []]
    brains = [arm for arm in (*claimed, *filter(is_brain, known)) if known.get(arm)]
    return known[brains[0]] if brains else next((entry for entry in known.values() if entry), {})


def _options(group: dict[str, Any]) -> str:
    """`` (width 16, temperature 4)``; options that are off are not said."""
    said = {key: value for key, value in group.items() if key not in _UNSAID and value not in (None, False, [], {}, "")}
    listed = [
        f"{key.replace('_', ' ')} {number(value) if isinstance(value, int | float) else _words(value)}"
        for key, value in said.items()
    ]
    return f" ({', '.join(listed)})" if listed else ""


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cite(table: dict[str, str], name: Any) -> str:
    return f" [@{table[name]}]" if name in table else ""


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def _reference(key: str) -> str:
    _, _, authors, title, where, year = SOURCES[key]
    names = [name.split(",")[0] for name in authors.replace("{\\'e}", "é").split(" and ")]
    return f"{', '.join(names)} ({year}). {title.replace(' -- ', ' – ')}. {where}."
