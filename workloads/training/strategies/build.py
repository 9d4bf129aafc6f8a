"""Makes a strategy from its name."""

from __future__ import annotations

from workloads.contract import TrainingConfig
from workloads.models.base import Classifier
from workloads.protocol_config import ContinualConfig
from workloads.training.batches import Normaliser
from workloads.training.strategies.distillation import LwF
from workloads.training.strategies.penalties import EWC, L2
from workloads.training.strategies.replay import DarkReplay, Replay
from workloads.training.strategies.strategy import Strategy


def build_strategy(
    config: ContinualConfig, model: Classifier, normalise: Normaliser, training: TrainingConfig, seed: int
) -> Strategy:
    """The strategy that ``config`` names, at the beginning of a stream.

    Raises: ValueError for an unknown one.
    """
    plain: dict[str, type[Strategy]] = {
        "naive": Strategy,
        "joint": Strategy,
        "ewc": EWC,
        "l2": L2,
        "lwf": LwF,
    }
    replaying: dict[str, type[Replay]] = {"replay": Replay, "derpp": DarkReplay}
    if config.strategy in replaying:
        return replaying[config.strategy](config, model, normalise, training, seed)
    if config.strategy not in plain:
        known = ", ".join([*plain, *replaying])
        raise ValueError(f"strategy must be one of {known}; got {config.strategy!r}")
    return plain[config.strategy](config, model, normalise, training)
