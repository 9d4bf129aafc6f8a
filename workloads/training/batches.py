"""Training data on the device: a batch is one gather from a resident uint8 tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.contract import TrainingConfig
from workloads.training.seeds import generator

PADDING_SHARE = 8
"""Crops are padded by 1/8 of the image's height: the usual 4 pixels at 32x32."""


class Normaliser:
    """uint8 pixels to float32 with the training data's mean 0 and standard deviation 1 in each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device).mul(255).reshape(1, -1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=device).mul(255).reshape(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Images uint8 [batch, C, H, W] to float32, channels last in memory (the faster layout)."""
        return images.float().sub_(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)


class Batches:
    """Batches of one training set in an order that depends on the seed and the epoch only.

    Every image is seen once an epoch; the last batch may be smaller. A last batch of a single image is joined
    to the one before it, because batch norm needs two.
    """

    def __init__(self, images: Tensor, labels: Tensor, config: TrainingConfig, seed: int) -> None:
        """Images uint8 [N, C, H, W] and labels int64 [N], both on the device they stay on.

        Raises: ValueError for fewer than two images or a batch size below 2.
        """
        if len(labels) < 2 or config.batch_size < 2:
            raise ValueError(
                f"training needs two images or more, in batches of two or more; "
                f"got {len(labels)} images, batch_size {config.batch_size}"
            )
        self.labels = labels
        self.augmentation = config.augmentation
        self.seed = seed
        self.ends = _ends(len(labels), config.batch_size)
        height, width = images.shape[2:]
        self.padding = 0 if self.augmentation == "none" else max(1, height // PADDING_SHARE)
        # A view on every crop of every padded image: a batch of random crops is a single gather.
        self.crops = F.pad(images, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)

    def __len__(self) -> int:
        return len(self.ends)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch (1-based): images uint8 [batch, C, H, W], labels int64 [batch]."""
        device = self.labels.device
        count = len(self.labels)
        order = torch.randperm(count, generator=generator(self.seed, "order", epoch)).to(device)
        shifts = torch.zeros(2, count, dtype=torch.int64)
        flips = torch.zeros(count, dtype=torch.bool)
        if self.augmentation != "none":
            source = generator(self.seed, "augmentation", epoch)
            shifts = torch.randint(2 * self.padding + 1, (2, count), generator=source)
            if self.augmentation == "crop_flip":
                flips = torch.rand(count, generator=source) < 0.5
        top, left = shifts.to(device)
        flips = flips.to(device)
        start = 0
        for end in self.ends:
            batch = order[start:end]
            images = self.crops[batch, :, top[start:end], left[start:end]]
            if self.augmentation == "crop_flip":
                images = torch.where(flips[start:end, None, None, None], images.flip(3), images)
            yield images, self.labels[batch]
            start = end


def _ends(count: int, batch_size: int) -> list[int]:
    ends = [*range(batch_size, count, batch_size), count]
    if len(ends) > 1 and ends[-1] - ends[-2] == 1:
        del ends[-2]
    return ends
