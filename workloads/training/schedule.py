"""The learning rate as a closed form of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from workloads.contract import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of optimiser step ``step`` (0-based, over the whole training).

    Warm-up is linear and reaches ``config.lr`` with its last step. ``cosine`` then falls to zero, which it
    would reach one step after the last; ``step`` multiplies by ``gamma`` at each milestone, a fraction of the
    whole training, warm-up included.
    """
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    if config.schedule == "step":
        # Rounded, because 0.7 * 10 steps would otherwise be 7.000000000000001.
        passed = sum(step >= round(milestone * total, 6) for milestone in config.milestones)
        return config.lr * config.gamma**passed
    return config.lr
