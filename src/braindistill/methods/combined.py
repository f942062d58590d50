"""A sum of methods, each with a target, a teacher and a weight of its own."""

from __future__ import annotations


def combined_loss(
    *,
    terms: dict[str, list[str]] = {},  # noqa: B006 (read as config schema, never called)
    label_weight: float = 1.0,
) -> None:
    """A sum of methods. Read as the options of ``method=combined``; its terms are composed when a student is planned.

    label_weight · (cross-entropy) + Σ over terms of target_weight · (its method over the images that have its target). A
    method on labels (``label_smoothing``, ``teacher_free``) takes the place of the cross-entropy.

    Parameters
    ----------
    terms : name → the overrides that make the term on top of the command line: its ``method``, with that method's options,
        and its ``teacher`` and ``target``, with theirs
    label_weight : of the cross-entropy; that of a term's method is not used
    """
