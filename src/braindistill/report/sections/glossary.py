"""Words of the page, each explained once; the first use of one in a caption links here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from braindistill.report.parts import Findings

TERMS = {
    "arm": "One way of training the student: a row of the tables. All arms share labels, images, seeds and student.",
    "ROI": "Region of interest: a named set of voxels, e.g. V1.",
    "voxel": "The smallest volume of which fMRI measures a response; on a surface, a vertex.",
    "pool": "Unlabelled training images about which a teacher speaks; every teacher has the same.",
    "soft label": "A teacher's probabilities over classes for an image.",
    "out of fold": "Said by a model that was fitted without that stimulus, and without its run.",
    "two-way": "Interval of a mean over seeds and test images, both taken as random and crossed, with Satterthwaite's degrees "
    "of freedom: it says what other seeds and other images would give.",
    "intersection–union test": "A claim that holds only if every one of its components does; its p is the largest of theirs.",
    "Holm": "Holm's correction of p values for the number of comparisons in the table; the claim itself needs none.",
    "TOST": "Two one-sided tests: shows that a difference is smaller than a stated margin.",
    "NLL": "Negative log-likelihood of the true class, in nats; lower is better.",
    "Brier": "Mean squared distance of the probabilities from the truth; 0 is perfect.",
    "ECE": "Expected calibration error: mean gap of confidence and accuracy over bins of equal size.",
    "LCA height": "Steps up the class hierarchy to the lowest ancestor that answer and truth share.",
    "FGSM": "Fast gradient sign method: one step against the student within ε.",
    "PGD": "Projected gradient descent: the same in many small steps, from a random start.",
    "noise ceiling": "The best score that a perfect model could reach, given how much responses vary over repeats.",
    "RSA": "Representational similarity analysis: compares which pairs of pictures two systems find alike.",
    "RDM": "Representational dissimilarity matrix: how different each pair of pictures is to a system.",
    "Shapley": "Mean gain from adding an ROI over all orders of adding ROIs; gains add up to the whole.",
    "gradient × input": "First-order estimate of what a part of the input adds to an output.",
    "Grad-CAM": "Map of the places that raise an output, from gradients at the last convolution.",
    "AURC": "Area under the risk–coverage curve: mean error rate over all thresholds of confidence; lower is better.",
    "entropy": "How undecided a teacher is: 0 nats for certainty, ln(classes) for a guess.",
}


def anchor_of(term: str) -> str:
    """The id of a term's entry."""
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def glossary(_: Findings) -> Iterable[tuple[str, str, str]]:
    """Anchor, term and meaning, in alphabetical order."""
    return [(anchor_of(term), term, TERMS[term]) for term in sorted(TERMS, key=str.lower)]


def link_terms(text: str, escape: object) -> str:
    """Escape a text and link the first use of each term to its entry.

    Parameters
    ----------
    escape : the function that makes text safe in HTML
    """
    safe = str(escape(text))  # type: ignore[operator]
    words = "|".join(re.escape(str(escape(term))) for term in sorted(TERMS, key=len, reverse=True))  # type: ignore[operator]
    pattern = re.compile(rf"(?<![\w-])({words})(s?)(?![\w-])")
    by_word = {str(escape(term)): anchor_of(term) for term in TERMS}  # type: ignore[operator]
    linked: set[str] = set()

    def link(match: re.Match[str]) -> str:
        word, plural = match.groups()
        if word in linked:
            return match[0]
        linked.add(word)
        return f'<a class="term" href="#{by_word[word]}">{word}{plural}</a>'

    return pattern.sub(link, safe)
