"""AutoAttack, through the optional package ``pyautoattack``."""

from __future__ import annotations

import importlib
import sys

import torch
from torch import Tensor

from workloads.evaluation.attacks import Logits, answer, batches, checked, share


def autoattack(
    logits: Logits, images: Tensor, labels: Tensor, *, epsilon: float, seed: int, batch: int = 64
) -> float:
    """Accuracy under AutoAttack's standard version: APGD-CE, APGD-T, FAB-T and Square.

    Args: as :func:`pgd`. The random numbers, and with them the result, depend on ``batch``.
    Returns: share of images that survive, judged by ``logits`` on the examples that came back.
    Raises: ModuleNotFoundError without the optional package ``pyautoattack``; ValueError with fewer than four
        classes, which the targeted attacks need, or for arguments out of range.
    Source: Croce and Hein 2020 (arXiv 2003.01690), through their code.
    Differs from source: with ten classes or fewer every other class is a target, where nine are asked for.
    """
    pixels, radius = checked(images, labels, epsilon, batch), epsilon / 255.0
    with torch.no_grad():
        classes = answer(logits, pixels[:1]).shape[1]
    if classes < 4:
        raise ValueError(f"AutoAttack needs four or more classes; got {classes}")
    try:
        library = importlib.import_module("pyautoattack")
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("AutoAttack needs pyautoattack: pip install pyautoattack") from missing
    trace = sys.gettrace()
    devices = [images.device] if images.device.type == "cuda" else []
    # The library seeds the global generators and drops the trace function of a debugger.
    with torch.random.fork_rng(devices=devices):
        try:
            attack = library.AutoAttack(logits, eps=radius, seed=seed, device=images.device)
            attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = min(9, classes - 1)
            found: Tensor = attack.run_standard_evaluation(pixels, labels, batch_size=batch)[0].detach()
        finally:
            sys.settrace(trace)
    if not ((found - pixels).abs().max() <= radius + 1e-6 and found.min() >= 0.0 and found.max() <= 1.0):
        raise RuntimeError(f"AutoAttack went further than epsilon = {epsilon}/255, or out of [0, 1]")
    with torch.no_grad():
        hits = [answer(logits, x).argmax(dim=1) == y for x, y in batches(found, labels, batch)]
    return share(torch.cat(hits))
