"""RandAugment (Cubuk et al. 2020) on a batch: torchvision's operations, each on all images that drew it.

Cost: an operation of RandAugment is up to 23 calls (5 + 9 * 2 by operation and sign) on small groups and two
gathers of the batch, and on no image twice. The groups follow from draws that lie on the CPU, so a batch on
another device is cut up without waiting for that device; only the order of its images travels there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from workloads.training.augmentation.rules import MAGNITUDES

TRANSLATION = 150 / 331
"""Largest shift as a share of the side: the paper's 150 pixels of ImageNet's 331."""


def _affine(
    images: Tensor, *, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    # Shears turn about the top left corner, as in the official code; a shift has no centre.
    center = [0, 0] if any(shear) else None
    moved: Tensor = F.affine(images, angle=0.0, translate=[*shift], scale=1.0, shear=[*shear], center=center)
    return moved


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


@dataclass(frozen=True)
class Operation:
    """An operation and its strength, which rises evenly from magnitude 0 to the largest."""

    apply: Callable[[Tensor, float], Tensor]
    """Images uint8 [group, 1 or 3, H, W] and the strength."""
    strongest: float = 0.0
    weakest: float = 0.0
    side: int | None = None
    """Dimension of the images in whose lengths the strength is measured; None: it has no unit."""
    signed: bool = False
    """Negated with probability 1/2."""

    def strength(self, magnitude: int, images: Tensor) -> float:
        length = 1 if self.side is None else images.shape[self.side]
        return _steps(self.weakest * length, self.strongest * length)[magnitude]


@cache
def _steps(weakest: float, strongest: float) -> list[float]:
    # In float32, as in torchvision: shifts and thresholds are cut to whole numbers, where rounding shows.
    return [float(step) for step in torch.linspace(weakest, strongest, MAGNITUDES)]


OPERATIONS = {
    "Identity": Operation(lambda images, _: images),
    "ShearX": Operation(lambda images, s: _affine(images, shear=(_degrees(s), 0.0)), 0.3, signed=True),
    "ShearY": Operation(lambda images, s: _affine(images, shear=(0.0, _degrees(s))), 0.3, signed=True),
    "TranslateX": Operation(
        lambda images, s: _affine(images, shift=(int(s), 0)), TRANSLATION, side=3, signed=True
    ),
    "TranslateY": Operation(
        lambda images, s: _affine(images, shift=(0, int(s))), TRANSLATION, side=2, signed=True
    ),
    "Rotate": Operation(lambda images, s: F.rotate(images, angle=s), 30.0, signed=True),
    "Brightness": Operation(lambda images, s: F.adjust_brightness(images, 1 + s), 0.9, signed=True),
    "Color": Operation(lambda images, s: F.adjust_saturation(images, 1 + s), 0.9, signed=True),
    "Contrast": Operation(lambda images, s: F.adjust_contrast(images, 1 + s), 0.9, signed=True),
    "Sharpness": Operation(lambda images, s: F.adjust_sharpness(images, 1 + s), 0.9, signed=True),
    "Posterize": Operation(lambda images, s: F.posterize(images, bits=round(s)), 4.0, 8.0),
    "Solarize": Operation(lambda images, s: F.solarize(images, threshold=255 * s), 0.0, 1.0),
    "AutoContrast": Operation(lambda images, _: F.autocontrast(images)),
    "Equalize": Operation(lambda images, _: F.equalize(images)),
}
SIGNED = tuple(operation.signed for operation in OPERATIONS.values())


def randaugment(images: Tensor, operations: Tensor, magnitude: int) -> Tensor:
    """Every image through its operations, one after the other.

    Args:
        images: uint8 [batch, 1 or 3, H, W].
        operations: int64 [batch, operations] on the CPU: twice the place in ``OPERATIONS``, plus 1 for a
            negated magnitude.
        magnitude: 0..30.
    Returns: uint8 [batch, 1 or 3, H, W].
    Differs from source: torchvision's 14 operations and their ranges; what has no pixel is black.
    """
    table = list(OPERATIONS.values())
    for codes in operations.unbind(1):
        order = codes.argsort(stable=True)
        back = order.argsort().to(images.device, non_blocking=True)
        sizes = codes.bincount(minlength=2 * len(table)).tolist()
        sorted_images = images.index_select(0, order.to(images.device, non_blocking=True))
        done = []
        for code, group in enumerate(torch.split(sorted_images, sizes)):
            if len(group):
                operation = table[code // 2]
                strength = operation.strength(magnitude, group)
                done.append(operation.apply(group, -strength if code % 2 else strength))
        images = torch.cat(done).index_select(0, back)
    return images
