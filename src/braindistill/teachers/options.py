"""Options that several teachers share. Each field is a config option of every teacher whose ``fit_…`` takes its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from braindistill.errors import UserError


@dataclass(frozen=True)
class VoxelOptions:
    """Which voxels a teacher is fitted on.

    Attributes
    ----------
    roi : ``all`` (every voxel outside the nuisance mask), ``each`` (one teacher for each ROI, averaged), an ROI, or a list;
        ``-V4`` leaves one out: every voxel of ``all`` that is not in it
    ensemble : a list of ROIs stands for one teacher each, whose log-probabilities are averaged, and not for their union
    nuisance : name of the mask of voxels outside visual cortex
    control : None, ``shuffled_fmri`` (responses dealt to other images), ``nuisance`` (voxels outside visual cortex) or
        ``random_readout`` (random linear readouts of the encoder's features in the place of voxels)
    """

    roi: str | Sequence[str] = "all"
    ensemble: bool = False
    nuisance: str = "nuisance"
    control: Literal["shuffled_fmri", "nuisance", "random_readout"] | None = None


@dataclass(frozen=True)
class FeatureOptions:
    """What is read from a picture, see `ImageFeatures`.

    Attributes
    ----------
    features : ``pixels``, ``gabor``, ``hog``, ``colour`` or ``network``
    network, layers : for ``network``: a name that torchvision knows or a student's, and the modules to read
    weights : a local file of the network's weights; None: untrained, seeded
    image_size : side in pixels that the network's pictures are resized to; None: as they are
    pool : adaptive average pooling of a layer's maps to so many × so many; 0: none
    project : width that a layer is brought to by a sparse random projection; None: none
    """

    features: Literal["pixels", "gabor", "hog", "colour", "network"] = "pixels"
    network: str | None = None
    layers: Sequence[str] = ()
    weights: Path | None = None
    image_size: int | None = 224
    pool: int = 2
    project: int | None = None


@dataclass(frozen=True)
class EncoderOptions:
    """The model from pictures to voxels.

    Attributes
    ----------
    encoder : ``ridge`` (a penalty a voxel), ``banded`` (and one a layer), or ``finetune`` (a network trained end to end,
        which reads pictures itself: ``network``, ``weights`` and the first of ``layers`` name its backbone)
    readout : of ``finetune``: ``factorised`` (a spatial and a feature mask a voxel) or ``pooled``
    encoder_epochs, encoder_lr : of ``finetune``: the most epochs (it stops early on held-out stimuli), and the rate
    """

    encoder: Literal["ridge", "banded", "finetune"] = "ridge"
    readout: Literal["factorised", "pooled"] = "factorised"
    encoder_epochs: int = 50
    encoder_lr: float = 0.003

    def __post_init__(self) -> None:
        _check_positive(self, "encoder_epochs", "encoder_lr")


@dataclass(frozen=True)
class DecoderOptions:
    """The model from voxels to classes.

    Attributes
    ----------
    decoder : ``lda`` (shrinkage discriminant analysis), ``logistic``, ``ridge``, ``prototype`` (correlation with class
        means), ``mlp`` or ``resnet1d`` (a residual network along the voxels)
    penalty : of ``logistic``: L2, on voxels z-scored and divided by √n_voxels
    depth, width : of ``resnet1d``: 18 or 34, and the channels of the first stage (64 in the original); of ``mlp``:
        ``4 · width`` hidden units
    channels : of ``resnet1d``: all voxels in ``one`` input channel, or one channel for each ``roi`` of the data
    epochs, lr : of ``mlp`` and ``resnet1d``: the most epochs, and learning rates to choose from; both are chosen on
        trials held out inside the training folds
    top_voxels : keep so many voxels, those whose means over classes differ most (one-way F) in a fold's training trials
    labels : ``student`` = the student's labelled images that were stimuli; ``all`` = every label the data have
    """

    decoder: Literal["lda", "logistic", "ridge", "prototype", "mlp", "resnet1d"] = "lda"
    penalty: float = 0.01
    depth: Literal[18, 34] = 18
    width: int = 64
    channels: Literal["one", "roi"] = "one"
    epochs: int = 30
    lr: Sequence[float] = (0.001, 0.003)
    top_voxels: int | None = None
    labels: Literal["all", "student"] = "all"

    def __post_init__(self) -> None:
        if not self.lr:
            raise UserError("teacher.lr=[]: give a learning rate, or several to choose from")
        _check_positive(self, "width", "epochs", "lr", "top_voxels")


def _check_positive(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, Sequence) else [value]:
            if number is not None and number <= 0:
                raise UserError(f"teacher.{name}={number}: expected more than 0")
