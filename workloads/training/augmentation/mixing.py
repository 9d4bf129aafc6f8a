"""mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of a batch, lambda drawn for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.contract import AugmentationConfig
from workloads.training.augmentation.boxes import area, inside
from workloads.training.augmentation.draws import Draws


def mix(
    images: Tensor, labels: Tensor, num_classes: int, draws: Draws, config: AugmentationConfig
) -> tuple[Tensor, Tensor]:
    """Each image mixed with the one ``config.repeats`` places before it in the batch (cyclically).

    An epoch's order is random, so a fixed distance is a random partner; at this distance no image meets a
    copy of itself. The label's share is that of the pixels (CutMix) or of their weight (mixup).

    Args:
        images: float [batch, C, H, W].
        labels: int64 [batch].
        num_classes: C of the targets.
        draws: those of these images, on the same device.
        config: the one that the draws were made for.
    Returns: images float [batch, C, H, W] and soft targets float32 [batch, num_classes], which sum to 1.
    """
    classes = torch.arange(num_classes, device=labels.device)
    one_hot = (labels[:, None] == classes).float()
    if draws.pasted is None or draws.blends is None:
        return images, one_hot
    channels, height, width = images.shape[1:]
    weight = draws.blends[:, None, None, None]
    if config.cutmix:
        weight = torch.maximum(inside(draws.pasted, channels, height, width), weight)
    share = draws.blends + area(draws.pasted) / (height * width)
    mixed = torch.lerp(images, _shifted(images, config.repeats), weight.to(images.dtype))
    return mixed, torch.lerp(one_hot, _shifted(one_hot, config.repeats), share[:, None])


def _shifted(batch: Tensor, distance: int) -> Tensor:
    """The batch turned by ``distance``; unlike torch.roll, cat keeps channels last in memory."""
    split = len(batch) - distance % len(batch)
    return torch.cat((batch[split:], batch[:split]))
