"""The valid range of every number in a study file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.study.spec import (
    AuditSpec,
    BudgetSpec,
    ConfirmSpec,
    ExecutionSpec,
    GuardSpec,
    ProxySpec,
    PrunerSpec,
    ReportSpec,
    ResourcesSpec,
    RetrySpec,
    SearchSpec,
)
from workloads.catalogue import Parameter, Value
from workloads.contract import (
    AugmentationConfig,
    CalibrationConfig,
    DataConfig,
    ModelConfig,
    NoiseConfig,
    RobustnessConfig,
    SaturatedConfig,
    SkipConfig,
    TrainingConfig,
)
from workloads.protocol_config import ContinualConfig, LongTailedConfig


@dataclass(frozen=True)
class Range:
    """Bounds of a number; ``*_open`` excludes the bound itself, None means no bound."""

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    @classmethod
    def of(cls, parameter: Parameter) -> Range:
        """What a catalogue parameter accepts."""
        return cls(parameter.low, parameter.high, parameter.low_open)

    def holds(self, value: float) -> bool:
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        return self.high is None or (value < self.high or (value == self.high and not self.high_open))

    def __str__(self) -> str:
        parts = []
        if self.low is not None:
            parts.append(f"{'above' if self.low_open else 'at least'} {self.low:.15g}")
        if self.high is not None:
            parts.append(f"{'below' if self.high_open else 'at most'} {self.high:.15g}")
        return " and ".join(parts) or "any number"


_AT_LEAST_ZERO = Range(low=0)
_AT_LEAST_ONE = Range(low=1)
_POSITIVE = Range(low=0, low_open=True)
_INSIDE_UNIT = Range(0, 1, low_open=True, high_open=True)
_UNIT = Range(0, 1)
_BELOW_ONE = Range(0, 1, high_open=True)
_SEED = Range(0, 2**31 - 1)

RANGES: Mapping[type, Mapping[str, Range]] = {
    DataConfig: {
        "id_classes": _AT_LEAST_ZERO,
        "validation_fraction": _INSIDE_UNIT,
        "train_fraction": Range(0, 1, low_open=True),
        "split_seed": _SEED,
    },
    TrainingConfig: {
        "epochs": _AT_LEAST_ONE,
        "batch_size": _AT_LEAST_ONE,
        "lr": _POSITIVE,
        "min_lr": _AT_LEAST_ZERO,
        "momentum": _BELOW_ONE,
        "weight_decay": _AT_LEAST_ZERO,
        "milestones": _INSIDE_UNIT,
        "gamma": Range(0, 1, low_open=True),
        "warmup_epochs": _AT_LEAST_ZERO,
        "clip_grad_norm": _POSITIVE,
        "ema_decay": _INSIDE_UNIT,
        "evaluate_every": _AT_LEAST_ONE,
        "checkpoint_every": _AT_LEAST_ONE,
    },
    AugmentationConfig: {
        "crop": _AT_LEAST_ONE,
        "erasing": _UNIT,
        "randaugment": _AT_LEAST_ZERO,
        "randaugment_magnitude": Range(0, 30),
        "mixup": _AT_LEAST_ZERO,
        "cutmix": _AT_LEAST_ZERO,
        "repeats": _AT_LEAST_ONE,
    },
    SkipConfig: {"epochs": _AT_LEAST_ONE, "share": _BELOW_ONE, "recheck": _UNIT},
    SaturatedConfig: {"share": _BELOW_ONE, "operations": _AT_LEAST_ONE, "magnitude": Range(0, 30)},
    LongTailedConfig: {
        "factor": _AT_LEAST_ONE,
        "subset_seed": _SEED,
        "beta": _BELOW_ONE,
        "drw_from": _UNIT,
        "tau": _AT_LEAST_ZERO,
        "crt_epochs": _AT_LEAST_ONE,
    },
    ContinualConfig: {
        "tasks": Range(low=2),
        "buffer": _AT_LEAST_ONE,
        "replay_batch": _AT_LEAST_ONE,
        "derpp_alpha": _AT_LEAST_ZERO,
        "derpp_beta": _AT_LEAST_ZERO,
        "ewc_lambda": _AT_LEAST_ZERO,
        "fisher_images": _AT_LEAST_ONE,
        "l2_lambda": _AT_LEAST_ZERO,
        "lwf_lambda": _AT_LEAST_ZERO,
        "lwf_temperature": _POSITIVE,
        "ood_images": _AT_LEAST_ONE,
    },
    NoiseConfig: {"sigmas": _POSITIVE, "mean": _UNIT, "size": _AT_LEAST_ONE, "seed": _SEED},
    ModelConfig: {"projector": _AT_LEAST_ONE},
    CalibrationConfig: {"bins": Range(1, 1000)},
    RobustnessConfig: {
        "images": _AT_LEAST_ONE,
        "epsilons": Range(0, 255, low_open=True),
        "steps": _AT_LEAST_ONE,
        "severities": Range(1, 5),
    },
    SearchSpec: {
        "trials": _AT_LEAST_ONE,
        "seeds": _SEED,
        "sampler_seed": _SEED,
        "parallel": _AT_LEAST_ONE,
        "repeats": Range(1, 100),
    },
    PrunerSpec: {"warmup_epochs": _AT_LEAST_ZERO},
    GuardSpec: {"max_drop": _UNIT, "min_accuracy": _UNIT},
    ConfirmSpec: {"seeds": _SEED},
    AuditSpec: {"pruned": _AT_LEAST_ONE},
    ProxySpec: {"configurations": _AT_LEAST_ONE},
    BudgetSpec: {"trials": _AT_LEAST_ONE, "device_seconds": _POSITIVE, "wall_seconds": _POSITIVE},
    ResourcesSpec: {"cpu": _POSITIVE},
    RetrySpec: dict.fromkeys(("exception", "out_of_memory", "lost", "diverged", "timed_out"), Range(0, 100)),
    ExecutionSpec: {"max_concurrent": _AT_LEAST_ONE, "time_limit": _POSITIVE},
    ReportSpec: {"confidence": _INSIDE_UNIT},
}

ARM_SETTINGS: Mapping[str, Parameter] = {
    "lr": Parameter("float", None, "peak learning rate", low=0, low_open=True),
    "weight_decay": Parameter("float", None, "L2 penalty of the optimiser", low=0),
    "momentum": Parameter("float", None, "momentum of SGD", low=0, high=0.9999),
    "batch_size": Parameter("int", None, "images a step", low=1, unit="images"),
}
"""The training settings that an arm may set, or search, for itself."""


def plain(value: Value) -> str:
    """A value as a study file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)
