"""Which images an epoch shows, and which it augments more, by what their loss was when they were shown last.

HEM leaves many images without a loss. Whether these may sit out some epochs, or should be made harder, are
questions that its authors pose; the same rules with other choices of images are the controls.

What is remembered lies on the device that trains, and every random decision is a function of (seed, epoch,
place in the training set) only: an epoch waits for the device once, to learn what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.contract import AugmentationConfig, SaturatedConfig, SkipConfig, TrainingConfig
from workloads.losses.base import Loss
from workloads.training.augmentation import draw
from workloads.training.augmentation.philox import chance, words
from workloads.training.augmentation.rules import MAGNITUDES
from workloads.training.seeds import derive_seed

RECHECK, SKIP, STRESS = range(3)
"""Blocks of random words, one for each kind of decision."""
FEWEST = 2
"""Images that an epoch must show: batch norm needs two."""


@dataclass(frozen=True)
class Choice:
    """What one epoch does with each training image."""

    shown: Tensor | None = None
    """bool [images], on the CPU; None: all."""
    stressed: Tensor | None = None
    """Images to augment more, bool [images], on the CPU; None: none."""

    def of(self, order: Tensor) -> Tensor:
        """Those of ``order`` that are shown, int64, on the CPU; all, where fewer than two would be.

        (An epoch that draws with replacement may not draw the images that are shown.)
        """
        if self.shown is None:
            return order
        kept = order[self.shown[order]]
        return order if len(kept) < FEWEST else kept

    def metrics(self) -> dict[str, float]:
        """``train/skipped`` and ``train/stressed``: shares of the training images."""
        skipped = 0.0 if self.shown is None else int((~self.shown).sum()) / len(self.shown)
        stressed = 0.0 if self.stressed is None else int(self.stressed.sum()) / len(self.stressed)
        return {"train/skipped": skipped, "train/stressed": stressed}


class Selection:
    """Remembers each image's loss, and chooses by it.

    An image's loss is that of the last epoch that showed it; where this epoch showed it several times
    (repeated augmentation), the highest: it counts as zero only if it was zero every time. The images of an
    epoch are judged once, at its end; one that sat out keeps its old loss. Where fewer than two images would
    be shown, all are, and are judged anew.
    """

    def __init__(self, skip: SkipConfig, saturated: SaturatedConfig, images: int, device: torch.device):
        self.skip = skip
        self.saturated = saturated
        self.losses = torch.full((images,), torch.nan, device=device)
        """Of the last visit that was judged, float32 [images]; NaN: none."""
        self.latest = torch.full((images,), -torch.inf, device=device)
        """Highest loss in the epoch that runs or ended last, float32 [images]; -inf: not shown."""
        self.until = torch.zeros((images,), dtype=torch.int32, device=device)
        """The last epoch that an image sits out, int32 [images]."""
        self.places = torch.arange(images, device=device)

    @classmethod
    def of(cls, config: TrainingConfig, images: int, device: torch.device) -> Selection | None:
        """What the configuration asks for; None where every epoch shows every image as it is."""
        if config.skip.rule == "none" and config.saturated.rule == "none":
            return None
        return cls(config.skip, config.saturated, images, device)

    def choose(self, seed: int, epoch: int) -> Choice:
        """Of an epoch (1-based), once the one before it has ended. Waits for the device."""
        key = derive_seed(seed, "selection", epoch)
        self._judge(key, epoch - 1)
        shown = self.until < epoch
        if self.skip.recheck:
            shown = shown | chance(words(key, self.places, RECHECK)[0], self.skip.recheck)
        shown = shown | (shown.sum() < FEWEST)
        shown, stressed = torch.stack((shown, self._stressed(key, shown))).cpu()
        return Choice(
            shown if self.skip.rule != "none" else None,
            stressed if self.saturated.rule != "none" else None,
        )

    def saw(self, index: Tensor, losses: Tensor) -> None:
        """Take in the losses, float [batch], of the images ``index``, int64 [batch], both on the device."""
        self.latest.scatter_reduce_(0, index, losses.to(self.latest.dtype), "amax")

    def _judge(self, key: int, epoch: int) -> None:
        """Decide who of the images that ``epoch`` showed sits out the next ones."""
        visited = self.latest > -torch.inf
        self.losses = torch.where(visited, self.latest, self.losses)
        self.latest = torch.full_like(self.latest, -torch.inf)
        rule, share = self.skip.rule, self.skip.share
        if rule == "none":
            return
        if rule == "zero_loss":
            out = self.losses == 0
        else:
            by = self.losses if rule == "lowest_loss" else words(key, self.places, SKIP)[0]
            out = _lowest(by, visited, _count(visited, share))
        verdict = torch.where(out, epoch + self.skip.epochs, 0)
        self.until = torch.where(visited, verdict, self.until).to(self.until.dtype)

    def _stressed(self, key: int, shown: Tensor) -> Tensor:
        """Which of the images ``shown`` are augmented more, both bool [images]; one without a loss is not."""
        rule, share = self.saturated.rule, self.saturated.share
        if rule == "none":
            return torch.zeros_like(shown)
        known = shown & ~self.losses.isnan()
        zero = known & (self.losses == 0)
        if rule == "zero_loss":
            return zero
        if rule == "lowest_loss":
            return _lowest(self.losses, known, _count(known, share))
        number = _count(known, share) if share else zero.sum()
        return _lowest(words(key, self.places, STRESS)[0], known, number)

    def state_dict(self) -> dict[str, Tensor]:
        return {"losses": self.losses, "latest": self.latest, "until": self.until}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue after the epoch that ``state`` was taken at."""
        for name in ("losses", "latest", "until"):
            getattr(self, name).copy_(state[name])


def check(config: TrainingConfig, loss: Loss, channels: int) -> None:
    """Refuse a selection that cannot be made.

    Raises: ValueError where a rule meets a loss without losses of single images, or images that are mixed,
        or where RandAugment cannot be done to images of so many channels.
    """
    rules = {"training.skip": config.skip.rule, "training.saturated": config.saturated.rule}
    asked = " and ".join(f"{name} ({rule})" for name, rule in rules.items() if rule != "none")
    if not asked:
        return
    if not loss.splits:
        raise ValueError(
            f"{asked}: needs the loss of each image, and {type(loss).__name__} has one for a batch only"
        )
    for name in ("mixup", "cutmix"):
        if getattr(config.augmentation, name) > 0:
            raise ValueError(
                f"{asked}: needs the loss of each image, and a mixed image has none of its own; "
                f"got augmentation.{name} {getattr(config.augmentation, name)}"
            )
    stronger = config.saturated
    if stronger.rule == "none":
        return
    if channels not in (1, 3):
        raise ValueError(f"training.saturated: RandAugment needs images of 1 or 3 channels; got {channels}")
    if stronger.operations < 1 or not 0 <= stronger.magnitude < MAGNITUDES:
        raise ValueError(
            f"training.saturated: operations must be at least 1 and magnitude in 0..{MAGNITUDES - 1}; "
            f"got {stronger.operations} and {stronger.magnitude}"
        )


def operations(
    chosen: Tensor, config: SaturatedConfig, seed: int, epoch: int, image_shape: tuple[int, int, int]
) -> Tensor:
    """What RandAugment does to the images of an epoch that are ``chosen``, bool [count], on the CPU.

    Its draws are its own: other augmentation, RandAugment of all images among it, stays as it was.

    Returns: codes as in :class:`Draws`, int64 [count, operations], on the CPU; -1 for an image not chosen.
    """
    asked = AugmentationConfig(randaugment=config.operations, randaugment_magnitude=config.magnitude)
    places = chosen.nonzero().squeeze(1)
    drawn = draw(asked, derive_seed(seed, "selection"), epoch, places, image_shape).operations
    assert drawn is not None
    codes = torch.full((len(chosen), config.operations), -1)
    codes[places] = drawn
    return codes


def stress(images: Tensor, codes: Tensor, magnitude: int) -> Tensor:
    """RandAugment on the images that have ``codes`` of operations; the others stay as they are.

    Args:
        images: uint8 [batch, 1 or 3, H, W].
        codes: what :func:`operations` gives for these images.
    Returns: uint8 [batch, 1 or 3, H, W].
    """
    chosen = (codes[:, 0] >= 0).nonzero().squeeze(1)
    if len(chosen) == 0:
        return images
    # Here because it brings torchvision's transforms, which take a second to import.
    from workloads.training.augmentation.randaugment import randaugment

    rows = chosen.to(images.device)
    return images.index_copy(0, rows, randaugment(images[rows], codes[chosen], magnitude))


def _count(among: Tensor, share: float) -> Tensor:
    """So many images are ``share`` of those marked, to the nearest; a scalar on the device."""
    return (among.sum().double() * share).round()


def _lowest(values: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """The ``count`` lowest values of those marked, bool [images]; of equal ones those that stand first."""
    order = torch.where(among, values.double(), torch.inf).argsort(stable=True)
    return among & (order.argsort() < count)
