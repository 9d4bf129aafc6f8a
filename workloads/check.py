"""Whether configurations can be built at all, said before anything is trained.

``python -m workloads.check`` reads a JSON object from standard input, ``{"configs": [...], "facts": {...}}``,
and writes a JSON list: one sentence for each configuration, or null where it can be built.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from workloads.contract import TrialConfig


def problem(config: TrialConfig, facts: Mapping[str, Any]) -> str | None:
    """Why this trial cannot be built, or None: its loss, its model, and the one on top of the other.

    Args:
        config: a trial of any stage.
        facts: a :class:`workloads.contract.DataFacts` as a mapping.
    """
    import torch

    from workloads.losses.base import LossContext
    from workloads.losses.build import build_loss
    from workloads.models.build import build_model
    from workloads.training.augmentation import check
    from workloads.training.optimizers import build_optimizer

    shape, classes = tuple(facts["image_shape"]), facts["num_classes"]
    # How many images a class has is not known here; that each has one is checked with the data.
    context = LossContext(facts["num_train"], classes, (max(1, facts["num_train"] // classes),) * classes)
    try:
        check(config.training.augmentation, shape)
        loss = build_loss(config.loss, config.loss_params, context)
        model = build_model(config.model, shape, classes, loss.head)
        build_optimizer(model, loss, config.training)
        with torch.no_grad():
            loss.eval_logits(model.eval()(torch.zeros(2, *shape)))
    except Exception as error:
        first = str(error).strip().splitlines()
        return first[0] if isinstance(error, ValueError) and first else f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    request = json.load(sys.stdin)
    configs = [TrialConfig.from_dict(record) for record in request["configs"]]
    json.dump([problem(config, request["facts"]) for config in configs], sys.stdout)


if __name__ == "__main__":
    main()
