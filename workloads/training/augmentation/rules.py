"""What the augmentation of images of a given shape may be asked for."""

from __future__ import annotations

from workloads.contract import AugmentationConfig

MAGNITUDES = 31
"""RandAugment's magnitudes are 0..30, as in torchvision."""


def check(config: AugmentationConfig, image_shape: tuple[int, int, int]) -> None:
    """Refuse what cannot be done to images of this shape (channels, height, width).

    Raises: ValueError with every problem: field, rule, value.
    """
    channels, height, width = image_shape
    crop = config.crop
    smaller = min(height, width)
    rules = (
        ("crop", crop is None or crop >= 1, "must be at least 1, or None for no crop", crop),
        ("padding", config.padding in ("zero", "reflect"), "must be 'zero' or 'reflect'", config.padding),
        (
            "crop",
            crop is None or config.padding != "reflect" or crop < smaller,
            f"must be below the image's smaller side ({smaller}) where padding is 'reflect'",
            crop,
        ),
        ("erasing", 0 <= config.erasing <= 1, "is a probability and must be in 0..1", config.erasing),
        ("randaugment", config.randaugment >= 0, "must be at least 0", config.randaugment),
        (
            "randaugment",
            config.randaugment <= 0 or channels in (1, 3),
            f"needs images of 1 or 3 channels, these have {channels}",
            config.randaugment,
        ),
        (
            "randaugment_magnitude",
            0 <= config.randaugment_magnitude < MAGNITUDES,
            f"must be in 0..{MAGNITUDES - 1}",
            config.randaugment_magnitude,
        ),
        ("mixup", 0 <= config.mixup < float("inf"), "must be at least 0 and finite", config.mixup),
        ("cutmix", 0 <= config.cutmix < float("inf"), "must be at least 0 and finite", config.cutmix),
        ("repeats", config.repeats >= 1, "must be at least 1", config.repeats),
    )
    problems = [
        f"augmentation.{field} {rule}; got {value!r}" for field, holds, rule, value in rules if not holds
    ]
    if problems:
        raise ValueError("\n".join(problems))
