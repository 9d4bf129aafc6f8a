"""Training batches: one gather from a uint8 array, augmented and normalised as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from workloads.contract import TrainingConfig
from workloads.training.augmentation import augment, check, draw, erase, mix, repeated
from workloads.training.seeds import generator
from workloads.training.selection import Choice, operations, stress


class Batch(NamedTuple):
    """Images of one step, with what is known of them; all on the device."""

    images: Tensor
    """Augmented and normalised, float32 [batch, C, H, W]."""
    labels: Tensor
    """int64 [batch]."""
    targets: Tensor
    """The labels, or (mixup, cutmix) probabilities, float32 [batch, classes]."""
    index: Tensor  # type: ignore[assignment]  # nobody looks for an item of the tuple
    """Where each image stands in the training set, int64 [batch]."""


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
        self,
        images: Tensor,
        labels: Tensor,
        num_classes: int,
        config: TrainingConfig,
        seed: int,
        *,
        balanced: bool = False,
    ) -> None:
        """Images uint8 [N, C, H, W] and labels int64 [N], both on the device they stay on.

        Args:
            balanced: an epoch draws as many images as there are, with replacement, every class that has any
                with the same probability.
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
        self.batch_size = config.batch_size
        self.ends = _ends(len(labels) * config.augmentation.repeats, config.batch_size)
        """Where the batches of an epoch that shows every image end."""
        self.stronger = config.saturated
        self.weights: Tensor | None = None
        if balanced:
            counts = torch.bincount(labels, minlength=num_classes).double()
            self.weights = (1 / counts)[labels].cpu()

    def __len__(self) -> int:
        """Steps of an epoch that shows every image."""
        return len(self.ends)

    def steps(self, epoch: int, choice: Choice | None) -> int:
        """Steps of an epoch (1-based) that shows what ``choice`` says."""
        if choice is None or choice.shown is None:
            return len(self)
        return len(_ends(len(self._order(epoch, choice)), self.batch_size))

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def mixes(self) -> bool:
        """Whether the targets are mixtures of labels."""
        return self.augmentation.mixup > 0 or self.augmentation.cutmix > 0

    def epoch(self, epoch: int, normalise: Normaliser, choice: Choice | None = None) -> Iterator[Batch]:
        """The batches of an epoch (1-based).

        Args:
            choice: which images are shown, and which are augmented more; None: all, and none.
        """
        order = self._order(epoch, choice)
        positions = torch.arange(len(order))
        draws = draw(self.augmentation, self.seed, epoch, positions, self.image_shape).to(self.device)
        codes: Tensor | None = None
        if choice is not None and choice.stressed is not None:
            chosen = choice.stressed[order]
            codes = operations(chosen, self.stronger, self.seed, epoch, self.image_shape)
        order = order.to(self.device)
        start = 0
        for end in _ends(len(order), self.batch_size):
            index, decided = order[start:end], draws[start:end]
            images = augment(self.images[index], decided, self.augmentation)
            if codes is not None:
                images = stress(images, codes[start:end], self.stronger.magnitude)
            start = end
            labels = self.labels[index]
            images = erase(normalise(images), decided)
            targets = labels
            if self.mixes:
                images, targets = mix(images, labels, self.num_classes, decided, self.augmentation)
            yield Batch(images, labels, targets, index)

    def _order(self, epoch: int, choice: Choice | None) -> Tensor:
        """Positions of the epoch's images, copies included, int64, on the CPU."""
        random = generator(self.seed, "order", epoch)
        if self.weights is not None:
            order = torch.multinomial(self.weights, len(self.labels), replacement=True, generator=random)
        else:
            order = torch.randperm(len(self.labels), generator=random)
        return repeated(order if choice is None else choice.of(order), self.augmentation)


def _ends(count: int, batch_size: int) -> list[int]:
    ends = [*range(batch_size, count, batch_size), count]
    if len(ends) > 1 and ends[-1] - ends[-2] == 1:
        del ends[-2]
    return ends
