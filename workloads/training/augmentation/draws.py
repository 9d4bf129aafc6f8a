"""Every random decision of an epoch's augmentation, drawn before its first batch.

A decision is a function of (seed, epoch, position in the epoch) only. Each kind has a block of random words
of its own, so switching one on leaves the others as they were.

Drawing takes place on the CPU, where logarithms and cosines do not depend on the device that trains;
:meth:`Draws.to` moves the decisions.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.contract import AugmentationConfig
from workloads.training.augmentation.philox import below, chance, uniform, words
from workloads.training.augmentation.rules import check
from workloads.training.seeds import derive_seed

CROP_FLIP, ERASING, ERASING_PLACE, MIXING, CUTMIX_PLACE, NOISE, RANDAUGMENT = range(7)
"""Blocks of random words; RandAugment's operations take this one and those that follow."""
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = 0.3
"""Height over width of an erased rectangle is between this and its inverse."""
NOISE_STARTS = 2**16
"""Places at which an image's noise may begin in the epoch's noise."""


@dataclass(frozen=True)
class Draws:
    """Decisions for a number of images, in order; a field is None where the configuration asks for none."""

    shifts: Tensor | None = None
    """Top and left edge of the crop in the padded image, int64 [count, 2]."""
    flips: Tensor | None = None
    """Which images are mirrored, bool [count]."""
    operations: Tensor | None = None
    """RandAugment's, int64 [count, operations]: twice the place in ``OPERATIONS``, plus 1 where the magnitude
    is negated. On the CPU always: images are grouped by operation without asking the device."""
    erased: Tensor | None = None
    """Boxes (top, left, bottom, right; the last two excluded), int64 [count, 4]; empty: nothing is erased."""
    noise_starts: Tensor | None = None
    """Where an image's noise begins in ``noise``, int64 [count]."""
    noise: Tensor | None = None
    """Standard normal numbers that the whole epoch shares, float32 [NOISE_STARTS + C * H * W - 1]."""
    pasted: Tensor | None = None
    """CutMix's boxes of the partner, int64 [count, 4]; empty for an image that mixup takes."""
    blends: Tensor | None = None
    """mixup's weight of the partner, float32 [count]; 0 for an image that CutMix takes."""

    def __getitem__(self, images: slice) -> Draws:
        """The decisions for some of the images: ``draws[start:end]`` for a batch."""
        return Draws(**{name: t if name == "noise" else t[images] for name, t in self._present().items()})

    def to(self, device: torch.device) -> Draws:
        """The same decisions beside the images."""
        return Draws(
            **{name: t if name == "operations" else t.to(device) for name, t in self._present().items()}
        )

    def _present(self) -> dict[str, Tensor]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if value is not None}


def repeated(order: Tensor, config: AugmentationConfig) -> Tensor:
    """An epoch's order with every image ``config.repeats`` times, its copies side by side.

    Source: Hoffer et al. 2020, "Augment your batch": one batch sees the copies. An epoch has
    ``repeats`` times as many steps.
    """
    return order.repeat_interleave(config.repeats)


def draw(
    config: AugmentationConfig, seed: int, epoch: int, positions: Tensor, image_shape: tuple[int, int, int]
) -> Draws:
    """The decisions for these positions of an epoch.

    Args:
        seed: of the trial.
        epoch: 1-based.
        positions: places in the epoch's order (copies of an image have places of their own), int64 [count],
            on the CPU. ``torch.arange(count)`` for the whole epoch.
        image_shape: channels, height, width.
    Raises: ValueError where the configuration does not fit these images, or positions lie elsewhere.
    """
    check(config, image_shape)
    if positions.device.type != "cpu":
        raise ValueError(f"positions must be on the CPU; got {positions.device}")
    key = derive_seed(seed, "augmentation", epoch)
    _, height, width = image_shape
    fields: dict[str, Tensor] = {}
    if config.crop is not None or config.flip:
        top, left, flip, _ = words(key, positions, CROP_FLIP)
        if config.crop is not None:
            fields["shifts"] = below(torch.stack((top, left), 1), 2 * config.crop + 1)
        if config.flip:
            fields["flips"] = chance(flip, 0.5)
    if config.randaugment:
        fields["operations"] = _operations(key, positions, config.randaugment)
    if config.erasing:
        fields["erased"] = _erased(key, positions, config.erasing, height, width)
        fields["noise_starts"] = below(words(key, positions, ERASING_PLACE)[2], NOISE_STARTS)
        fields["noise"] = _normal(key, NOISE_STARTS + math.prod(image_shape) - 1)
    if config.mixup or config.cutmix:
        fields["pasted"], fields["blends"] = _mixing(key, positions, config, height, width)
    return Draws(**fields)


def _operations(key: int, positions: Tensor, count: int) -> Tensor:
    # Here because it brings torchvision's transforms, which take a second to import.
    from workloads.training.augmentation.randaugment import OPERATIONS, SIGNED

    columns = []
    for number in range(count):
        pair = words(key, positions, RANDAUGMENT + number // 2)
        which, sign = pair[:2] if number % 2 == 0 else pair[2:]
        operation = below(which, len(OPERATIONS))
        columns.append(2 * operation + (chance(sign, 0.5) & torch.tensor(SIGNED)[operation]))
    return torch.stack(columns, 1)


def _erased(key: int, positions: Tensor, probability: float, height: int, width: int) -> Tensor:
    """Boxes of Zhong et al. 2017, "Random erasing data augmentation": uniform area, log-uniform aspect.

    Differs from source: (1) the aspect is drawn among those whose box fits, not again and again until one
    does; (2) torchvision's largest area (0.33, the paper has 0.4) and log-uniform aspect.
    """
    happens, size, aspect, _ = words(key, positions, ERASING)
    place_top, place_left, _, _ = words(key, positions, ERASING_PLACE)
    low, high = ERASED_AREA
    pixels = height * width * (low + (high - low) * uniform(size))
    # Aspects whose box fits; in a strip, where none of the paper's does, the nearest one keeps the area.
    fits = (pixels / width**2, height**2 / pixels)
    flattest = torch.full_like(pixels, ERASED_ASPECT).clamp(*fits).log()
    steepest = torch.full_like(pixels, 1 / ERASED_ASPECT).clamp(*fits).log()
    ratio = (flattest + (steepest - flattest) * uniform(aspect)).exp()
    rows = (pixels * ratio).sqrt().round().long().clamp(1, height)
    columns = (pixels / ratio).sqrt().round().long().clamp(1, width)
    top = below(place_top, height - rows + 1)
    left = below(place_left, width - columns + 1)
    boxes = torch.stack((top, left, top + rows, left + columns), 1)
    return boxes * chance(happens, probability)[:, None]


def _mixing(
    key: int, positions: Tensor, config: AugmentationConfig, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """CutMix's boxes (Yun et al. 2019) and mixup's weights (Zhang et al. 2018), lambda drawn for each image.

    Differs from sources: lambda is one for each image, not one for each batch.
    """
    which, u, v, _ = words(key, positions, MIXING)
    cut = chance(which, 0.5 if config.mixup and config.cutmix else float(config.cutmix > 0))
    alpha = torch.tensor((config.mixup, config.cutmix), dtype=torch.float64)[cut.long()]
    partner = _symmetric_beta(alpha, uniform(u), uniform(v))
    centre_y, centre_x, _, _ = words(key, positions, CUTMIX_PLACE)
    side = partner.sqrt() * cut
    edges = []
    for word, length in ((centre_y, height), (centre_x, width)):
        centre, half = below(word, length), (side * length).long() // 2
        edges.append(((centre - half).clamp(min=0), (centre + half).clamp(max=length)))
    (top, bottom), (left, right) = edges
    boxes = torch.stack((top, left, bottom, right), 1)
    return boxes, (partner * ~cut).float()


def _symmetric_beta(alpha: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Beta(alpha, alpha) from two uniform numbers, without rejection, for any alpha > 0; float64.

    T = sqrt(2 alpha (u^(-1/alpha) - 1)) cos(2 pi v) has Student's t distribution with 2 alpha degrees of
    freedom (Bailey 1994), and (1 + T / sqrt(2 alpha + T^2)) / 2 is then Beta(alpha, alpha) (Devroye 1996).
    """
    cosine = (2 * math.pi * v).cos()
    squared = (u ** (-1 / alpha) - 1) * cosine**2
    return (1 + cosine.sign() / (1 + 1 / squared).sqrt()) / 2


def _normal(key: int, count: int) -> Tensor:
    """Standard normal numbers, float32 [count], by Box and Muller's transform in float64."""
    u0, v0, u1, v1 = words(key, torch.arange(-(-count // 4)), NOISE)
    radius = (-2 * uniform(torch.cat((u0, u1))).log()).sqrt()
    angle = 2 * math.pi * uniform(torch.cat((v0, v1)))
    return torch.cat((radius * angle.cos(), radius * angle.sin()))[:count].float()
