"""What a user would write instead: ordinary PyTorch, which ``benchmark.py`` measures ours against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

Batches = Iterable[tuple[Tensor, Tensor]]


def train_plainly(network: nn.Module, rule: torch.optim.Optimizer, batches: Batches) -> None:
    """Forward, cross-entropy, backward, step."""
    network.train()
    for images, labels in batches:
        rule.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        rule.step()


def train_online(network: nn.Module, teacher: nn.Module, rule: torch.optim.Optimizer, batches: Batches) -> None:
    """Distillation with a teacher that is asked in every step (Hinton et al. 2015), at temperature 4."""
    network.train()
    teacher.eval()
    for images, labels in batches:
        with torch.no_grad():
            soft = F.softmax(teacher(images) / 4, dim=1)
        logits = network(images)
        distilled = F.kl_div(F.log_softmax(logits / 4, dim=1), soft, reduction="batchmean") * 16
        loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * distilled
        rule.zero_grad()
        loss.backward()
        rule.step()


class Pictures(Dataset[tuple[Any, int]]):
    """Images as torchvision's CIFAR classes hold them: an array, made a PIL image one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def load_pictures(images: Tensor, labels: Tensor, batch: int, workers: int) -> DataLoader[Any]:
    """A DataLoader that crops, flips and normalises uint8 images, n × 3 × H × W, as torchvision does with PIL."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(images.shape[-1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    pictures = Pictures(images.permute(0, 2, 3, 1).numpy(), labels.numpy(), transform)
    # the workers stay, as they would over the epochs of a training
    return DataLoader(pictures, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
