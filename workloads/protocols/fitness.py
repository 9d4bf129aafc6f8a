"""Whether a loss can be trained in a protocol: tried on a few drawn images, before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.contract import TrialConfig
from workloads.data.long_tail import long_tail_counts
from workloads.data.streams import make_stream
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.cross_entropy import CrossEntropy
from workloads.losses.focal import Focal
from workloads.losses.ldam import LDAM
from workloads.losses.logit_adjustment import LogitAdjustment
from workloads.models.build import build_model
from workloads.training.augmentation import check
from workloads.training.optimizers import build_optimizer

_IMAGES = 4


@dataclass(frozen=True)
class Presentation:
    """What a trial shows its loss at first."""

    image_shape: tuple[int, int, int]
    context: LossContext
    active: tuple[int, ...] | None
    """Columns of the first task; None: all."""


def presented(config: TrialConfig, facts: Mapping[str, Any]) -> Presentation:
    """What the settings make of the data, whatever the loss.

    Args:
        facts: a :class:`workloads.contract.DataFacts` as a mapping.
    Raises: ValueError where these data cannot be presented so.
    """
    shape, classes = tuple(facts["image_shape"]), facts["num_classes"]
    counts = tuple(facts["train_counts"]) or (max(1, facts["num_train"] // classes),) * classes
    check(config.training.augmentation, shape)
    if config.long_tailed is not None:
        counts = long_tail_counts(counts, config.long_tailed.profile, config.long_tailed.factor)
    settings = config.continual
    if settings is None:
        return Presentation(shape, LossContext(sum(counts), classes, counts), None)
    _check_buffer(config, facts["num_train"])
    stream = make_stream(settings.stream, settings.scenario, settings.tasks, classes, shape, None)
    if settings.scenario == "domain_il" and settings.stream == "split":
        width = stream.num_columns
        counts = (max(1, sum(counts) // width),) * width
    active = stream.tasks[0].columns
    if len(active) == stream.num_columns or settings.strategy == "joint":
        return Presentation(shape, LossContext(sum(counts), len(counts), counts), None)
    shown = tuple(count if c in active else 0 for c, count in enumerate(counts))
    return Presentation(shape, LossContext(sum(shown), len(shown), shown, active), active)


def _check_buffer(config: TrialConfig, images: int) -> None:
    settings = config.continual
    if settings is None:
        return
    shown = images * (1 if settings.stream == "split" else settings.tasks)
    if settings.strategy in ("replay", "derpp") and settings.buffer > shown:
        raise ValueError(
            f"buffer must be at most the images of the stream ({shown}): a larger one is joint training; "
            f"got {settings.buffer}"
        )
    augmentation = config.training.augmentation
    for name in ("mixup", "cutmix"):
        if getattr(augmentation, name) > 0:
            raise ValueError(
                f"a stream is not trained with {name}: it would mix labels with those of replayed images; "
                f"got augmentation.{name} {getattr(augmentation, name)}"
            )


def tried(config: TrialConfig, presentation: Presentation) -> None:
    """Build the trial's loss, model and optimiser, and take the loss of a few drawn images.

    Raises: ValueError with the reason where the loss cannot be trained so; whatever else a user's own loss
        raises.
    """
    loss = build_loss(config.loss, config.loss_params, presentation.context)
    classes = presentation.context.num_classes
    model = build_model(config.model, presentation.image_shape, classes, loss.head)
    build_optimizer(model, loss, config.training)
    images = torch.rand(_IMAGES, *presentation.image_shape)
    with torch.no_grad():
        loss.eval_logits(model.eval()(torch.zeros(2, *presentation.image_shape)))
    if config.protocol == "standard":
        return
    output = model.train()(images)
    active = None if presentation.active is None else torch.tensor(presentation.active)
    columns = torch.arange(classes) if active is None else active
    labels = columns[torch.arange(_IMAGES) % len(columns)]
    value = loss(output, labels, active, weights=_weights(config, loss))
    if not bool(value.isfinite()):
        raise ValueError(f"its loss of {_IMAGES} drawn images is {float(value.detach())}")
    if config.long_tailed is not None and config.long_tailed.method == "crt":
        model.trunk.requires_grad_(False)
        build_optimizer(model, loss, config.training)


def _weights(config: TrialConfig, loss: Loss) -> Tensor | None:
    """Weights for the drawn images where the method weights them."""
    method = None if config.long_tailed is None else config.long_tailed.method
    if method == "logit_adjustment" and isinstance(loss, LogitAdjustment):
        raise ValueError("the loss takes class frequencies off the logits by itself: twice would be too much")
    if method not in ("class_balanced", "drw"):
        return None
    if isinstance(loss, LDAM) and loss.drw < 1:
        raise ValueError(
            "the loss re-weights classes by itself (drw): twice would be too much. An arm of ldam with drw 1 "
            "does not"
        )
    if (isinstance(loss, CrossEntropy) and loss.weights is not None) or (
        isinstance(loss, Focal) and loss.alpha is not None
    ):
        raise ValueError(
            "the loss weights classes by itself: twice would be too much. An arm without weights does not"
        )
    return torch.ones(_IMAGES)
