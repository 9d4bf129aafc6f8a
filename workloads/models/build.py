"""Makes a model from its configuration."""

from __future__ import annotations

from workloads.catalogue import load
from workloads.contract import ModelConfig
from workloads.head import HeadSpec
from workloads.models.base import Classifier
from workloads.models.catalogue import MODELS


def build_model(
    config: ModelConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    head: HeadSpec | None = None,
) -> Classifier:
    """The model named by ``config``, with the head that a loss needs (None: linear).

    Freshly initialised from torch's global generator.

    Raises: ValueError where the name is unknown, this version cannot run it, or a parameter is wrong.
    """
    entry = MODELS.get(config.name)
    if entry is None:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {config.name!r}")
    unknown = set(config.params) - set(entry.parameters)
    if unknown:
        known = ", ".join(entry.parameters) or "none"
        raise ValueError(f"model {config.name!r} has the parameters {known}; got {sorted(unknown)}")
    constructor = load(entry.path)
    if config.projector is not None and config.projector < 1:
        raise ValueError(f"model.projector must be at least 1; got {config.projector}")
    trunk = constructor(image_shape, **config.params)
    return Classifier(trunk, num_classes, head, config.projector)
