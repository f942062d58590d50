"""The options of a training, ``train.*`` on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from braindistill.errors import UserError

#: options that say how images are augmented
AUGMENTATION = ("crop", "flip", "zoom", "cutout", "colour", "rand_augment", "rand_magnitude")
#: option → its smallest and largest value
_RANGES: dict[str, tuple[float, float | None]] = {
    "epochs": (1, None),
    "batch_size": (1, None),
    "patience": (1, None),
    "accumulate": (1, None),
    "parallel_seeds": (1, None),
    "threads": (1, None),
    "ema": (0, 1),
    "sam": (0, None),
    "mixup": (0, None),
    "cutmix": (0, None),
}


@dataclass(frozen=True)
class TrainOptions:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch_size : an incomplete last batch is used unless it is a single image (BatchNorm can't take one)
    optimizer, lr, momentum, nesterov, weight_decay : SGD, or AdamW (which ignores ``momentum`` and ``nesterov``)
    schedule : of the rate after the warm-up: ``cosine`` to 0, ``step`` (times ``decay`` at each of the ``milestones``, in
        epochs) or ``constant``
    warmup : fraction of all steps in which the rate rises linearly
    clip : largest norm of all gradients together; None: any
    accumulate : passes that a batch is split into, to save memory; BatchNorm and relations between images see a part
    ema : decay of a moving average of the weights, which is what is kept and scored; 0: none
    sam : ρ of sharpness-aware minimisation (Foret et al. 2021), which costs a second pass; 0: none
    crop, flip : augmentation: random shift by up to ``crop`` pixels; random horizontal mirror (He et al. 2016)
    zoom : smallest share of the area in a random resized crop (Szegedy et al. 2015); 1: none
    cutout : side of a square that is erased (DeVries and Taylor 2017); 0: none
    colour : largest relative change of brightness, contrast and saturation; 0: none
    rand_augment, rand_magnitude : operations an image, and how strong they are, 0 to 30 (Cubuk et al. 2020); 0: none
    mixup, cutmix : α of the Beta distribution that shares are drawn from (Zhang et al. 2018; Yun et al. 2019); 0: none. With
        both, a batch gets one of them
    select : the weights kept: of the last epoch, or of the best one on the validation images; ``test`` picks it on the
        test images (the caller passes them as the validation), which only serves to show what that does
    patience : stop after so many epochs without a better score on the validation images; None: never
    precision : fp32, or autocast to bf16 or fp16 (with loss scaling; CUDA only)
    channels_last : memory layout; 1.5 times faster for convolutions on CPU
    compile : ``torch.compile``, whose mode ``reduce-overhead`` records CUDA graphs; half a minute that long trainings get back
    deterministic : only operations that give the same bits again; on CUDA some are slower. On a CPU all are such
    threads : threads of one training (they change the last bits, so they are keyed). One is best for small networks
    parallel_seeds : so many seeds are trained at once, stacked into one network where that is faster. What a seed gives may
        differ from a training on its own in the last bits, so the seeds of a stack are keyed
    """

    epochs: int = 60
    batch_size: int = 32
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: list[int] = ()  # type: ignore[assignment]
    decay: float = 0.1
    warmup: float = 0.1
    clip: float | None = None
    accumulate: int = 1
    ema: float = 0.0
    sam: float = 0.0
    crop: int = 0
    flip: bool = False
    zoom: float = 1.0
    cutout: int = 0
    colour: float = 0.0
    rand_augment: int = 0
    rand_magnitude: int = 9
    mixup: float = 0.0
    cutmix: float = 0.0
    select: Literal["last", "validation", "test"] = "last"
    patience: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    deterministic: bool = True
    threads: int = 1
    parallel_seeds: int = 1

    def __post_init__(self) -> None:
        for option, (low, high) in _RANGES.items():
            value = getattr(self, option)
            if value is not None and (value < low or (high is not None and value >= high)):
                expected = f"must be at least {low}" if high is None else f"must be at least {low} and below {high}"
                raise UserError(f"train.{option}={value}: {expected}")
        if self.clip is not None and self.clip <= 0:
            raise UserError(f"train.clip={self.clip}: must be positive, or null for none")
        if self.schedule == "step" and not self.milestones:
            raise UserError("train.schedule=step needs train.milestones=[EPOCH,…], the epochs at which the rate falls")

    @property
    def augmentation(self) -> dict[str, Any]:
        """The options that say how images are augmented."""
        return {name: getattr(self, name) for name in AUGMENTATION}
