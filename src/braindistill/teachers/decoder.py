"""Decoder: voxels → class log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.runtime import Runtime
from braindistill.teachers.linear_continuation import continue_linear_decoder
from braindistill.teachers.linear_decoder import LINEAR, LinearDecoder, fit_linear_decoder
from braindistill.teachers.options import DecoderOptions
from braindistill.teachers.prototype_decoder import PrototypeDecoder, fit_prototypes
from braindistill.teachers.voxel_layout import VoxelLayout

if TYPE_CHECKING:
    from braindistill.teachers.network_decoder import NetworkDecoder

    Decoder = LinearDecoder | PrototypeDecoder | NetworkDecoder

DECODERS = ("lda", "logistic", "ridge", "prototype", "mlp", "resnet1d")


def fit_decoder_model(
    options: DecoderOptions,
    responses: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    groups: np.ndarray | None = None,
    layout: VoxelLayout | None = None,
    together: bool = False,
    seed: int = 0,
    start: Decoder | None = None,
    folder: Path | None = None,
    runtime: Runtime | None = None,
) -> Decoder:
    """Fit the decoder that ``options`` describe.

    ``lda`` is linear discriminant analysis with the pooled within-class covariance shrunk towards a multiple of the
    identity by Ledoit and Wolf's (2004) analytic amount, as Blankertz et al. (2011) recommend for few trials and many
    channels. ``logistic`` is multinomial logistic regression with an L2 penalty. ``ridge`` is ridge regression onto
    one-hot classes, ``prototype`` correlation with class means; both choose their setting, and the temperature of their
    softmax, on left-out groups. ``mlp`` and ``resnet1d`` are networks that choose epochs and rate on held-out groups.

    Parameters
    ----------
    options : kind and settings
    responses : (trials × voxels)
    labels : (trials) class indices
    n_classes : a class without trials gets a floor of probability
    groups : (trials) what is left out together wherever something is chosen inside: stimulus or run; None: single trials
    layout : of ``resnet1d``: where each voxel stands; None: one channel, in the order of the columns
    together : scale all columns by one number, to the same total variance, instead of z-scoring each. Voxels have no
        common unit; pixels have, and z-scoring would blow up those that hardly ever change
    seed : of the networks' weights, batches and inner split
    start : an older decoder of the same kind to go on from; its classes that have no new trials are kept
    folder, runtime : of the networks' training: where it writes (None: nowhere), and its device

    Raises
    ------
    UserError
        Unknown decoder; fewer than two classes among the labels; an older decoder of another kind or other voxels.
    """
    kind = options.decoder
    if kind not in DECODERS:
        raise UserError(f"teacher.decoder={kind}: no such decoder; {nearest(kind, DECODERS)}")
    if len(np.unique(labels)) < 2:
        raise UserError(
            "the decoder needs trials of at least two classes to be fitted on; give more labels (images.n_train)"
        )
    if start is not None and start.describe()["kind"] != kind:
        raise UserError(
            f"teacher.init_from: the older decoder is {start.describe()['kind']}, this one is to be {kind}; "
            f"give teacher.decoder={start.describe()['kind']}"
        )
    if kind in LINEAR:
        if isinstance(start, LinearDecoder):
            return continue_linear_decoder(start, responses, labels, n_classes, options.penalty, groups, together)
        return fit_linear_decoder(kind, responses, labels, n_classes, options.penalty, groups, together)
    if kind == "prototype":
        older = start if isinstance(start, PrototypeDecoder) else None
        return fit_prototypes(responses, labels, n_classes, groups, together, older)
    from braindistill.teachers.network_decoder import NetworkDecoder, fit_network_decoder

    return fit_network_decoder(
        options, responses, labels, n_classes, groups=groups, layout=layout, together=together, seed=seed,
        start=start if isinstance(start, NetworkDecoder) else None, folder=folder, runtime=runtime,
    )  # fmt: skip


def load_decoder(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> Decoder:
    """The inverse of a decoder's ``describe`` and ``arrays``."""
    kind = description["kind"]
    if kind == "prototype":
        return PrototypeDecoder(**arrays, beta=description["beta"])
    if kind in ("mlp", "resnet1d"):
        from braindistill.teachers.network_decoder import load_network_decoder

        return load_network_decoder(description, arrays)
    return LinearDecoder(**arrays, description=description)
