"""Makes a model from its configuration."""

from __future__ import annotations

import importlib

from workloads.contract import ModelConfig
from workloads.models.base import Classifier
from workloads.models.catalogue import MODELS


def build_model(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> Classifier:
    """The model named by ``config``, freshly initialised from torch's global generator.

    Raises: ValueError where the name is unknown, this version cannot run it, or a parameter is wrong.
    """
    entry = MODELS.get(config.name)
    if entry is None:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {config.name!r}")
    if entry.path is None:
        raise ValueError(f"model {config.name!r} cannot be run by this version. {entry.missing}")
    unknown = set(config.params) - set(entry.parameters)
    if unknown:
        known = ", ".join(entry.parameters) or "none"
        raise ValueError(f"model {config.name!r} has the parameters {known}; got {sorted(unknown)}")
    module, _, attribute = entry.path.partition(":")
    constructor = getattr(importlib.import_module(module), attribute)
    model: Classifier = constructor(image_shape, num_classes, **config.params)
    return model
