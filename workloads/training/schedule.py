"""The learning rate as a closed form of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from workloads.contract import TrainingConfig

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 25.0
ONE_CYCLE_END = 1e4


def place(index: int, taken: int, whole: int) -> float:
    """Where step ``index`` (0-based) of an epoch of ``taken`` steps stands among the ``whole`` steps of one
    that shows every image: where it sees the schedules.

    The steps are spread evenly: an epoch of any length begins and ends at the rates of a whole one, warm-up
    reaches its peak, and one_cycle its end. A single step stands in the middle.
    """
    if taken == 1:
        return (whole - 1) / 2
    return index * (whole - 1) / (taken - 1)


def learning_rate(config: TrainingConfig, step: float, steps_per_epoch: int) -> float:
    """The rate of optimiser step ``step`` (0-based, over the whole training; a fraction where an epoch has
    fewer steps than others, see :func:`place`).

    Warm-up is linear and reaches ``config.lr`` with its last step. ``cosine`` then falls to ``min_lr``, which
    it would reach one step after the last; ``step`` multiplies by ``gamma`` at each milestone, a fraction of
    the whole training, warm-up included. ``one_cycle`` rises on a cosine from lr / 25 to ``lr`` over the
    first three tenths of the training and falls on another to lr / 250,000 (the defaults of torch's
    OneCycleLR, Smith and Topin 2018); it has its own warm-up.
    """
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "cosine":
        return _cosine(config.lr, config.min_lr, (step - warmup) / (total - warmup))
    if config.schedule == "one_cycle":
        start, last = config.lr / ONE_CYCLE_START, total - 1
        peak = ONE_CYCLE_RISE * total - 1
        if step <= peak:
            return _cosine(start, config.lr, step / peak)
        return _cosine(config.lr, start / ONE_CYCLE_END, (step - peak) / (last - peak))
    if config.schedule == "step":
        # Rounded, because 0.7 * 10 steps would otherwise be 7.000000000000001, and a third of 20 too small.
        passed = sum(round(step, 6) >= round(milestone * total, 6) for milestone in config.milestones)
        return config.lr * config.gamma**passed
    return config.lr


def _cosine(start: float, end: float, share: float) -> float:
    """From ``start`` at share 0 to ``end`` at share 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
