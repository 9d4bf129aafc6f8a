"""Training batches: one gather from a uint8 array, augmented and normalised as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workloads.contract import TrainingConfig
from workloads.training.augmentation import augment, check, draw, erase, mix, repeated
from workloads.training.seeds import generator


class Normaliser:
    """uint8 pixels to float32 with a mean and a standard deviation for each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        """``mean`` and ``std`` are of pixels in [0, 1]."""
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device).mul(255).reshape(1, -1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=device).mul(255).reshape(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Images uint8 [batch, C, H, W] to float32, channels last in memory (the faster layout)."""
        return images.float().sub_(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)


class Batches:
    """Batches of one training set: order and augmentation are functions of the seed and the epoch only.

    Every image is seen ``augmentation.repeats`` times an epoch; the last batch may be smaller. A last batch
    of a single image is joined to the one before it, because batch norm needs two.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, num_classes: int, config: TrainingConfig, seed: int
    ) -> None:
        """Images uint8 [N, C, H, W] and labels int64 [N], both on the device they stay on.

        Raises: ValueError for fewer than two images, a batch size below 2, a label that is not a class, or an
            augmentation that cannot be done to these images.
        """
        if len(labels) < 2 or config.batch_size < 2:
            raise ValueError(
                f"training needs two images or more, in batches of two or more; "
                f"got {len(labels)} images, batch_size {config.batch_size}"
            )
        lowest, highest = (int(label) for label in labels.aminmax())
        if lowest < 0 or highest >= num_classes:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(f"labels must be class indices in 0..{num_classes - 1}; got {wrong}")
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)
        check(config.augmentation, self.image_shape)
        self.images = images
        self.labels = labels
        self.num_classes = num_classes
        self.augmentation = config.augmentation
        self.seed = seed
        self.ends = _ends(len(labels) * config.augmentation.repeats, config.batch_size)

    def __len__(self) -> int:
        """Steps an epoch."""
        return len(self.ends)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def mixes(self) -> bool:
        """Whether the targets are mixtures of labels."""
        return self.augmentation.mixup > 0 or self.augmentation.cutmix > 0

    def epoch(self, epoch: int, normalise: Normaliser) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of an epoch (1-based).

        Yields: images float32 [batch, C, H, W], normalised; labels int64 [batch]; targets, which are the
            labels, or (mixup, cutmix) probabilities float32 [batch, classes].
        """
        order = torch.randperm(len(self.labels), generator=generator(self.seed, "order", epoch))
        order = repeated(order, self.augmentation)
        positions = torch.arange(len(order))
        draws = draw(self.augmentation, self.seed, epoch, positions, self.image_shape).to(self.device)
        order = order.to(self.device)
        start = 0
        for end in self.ends:
            batch, decided = order[start:end], draws[start:end]
            start = end
            labels = self.labels[batch]
            images = normalise(augment(self.images[batch], decided, self.augmentation))
            images = erase(images, decided)
            if self.mixes:
                mixed, targets = mix(images, labels, self.num_classes, decided, self.augmentation)
                yield mixed, labels, targets
            else:
                yield images, labels, labels


def _ends(count: int, batch_size: int) -> list[int]:
    ends = [*range(batch_size, count, batch_size), count]
    if len(ends) > 1 and ends[-1] - ends[-2] == 1:
        del ends[-2]
    return ends
