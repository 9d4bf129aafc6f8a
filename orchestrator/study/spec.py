"""What a study is: typed, frozen, complete. Every default stands here and is printed by ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workloads.catalogue import Term, Value
from workloads.contract import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    ParameterValue,
    Protocol,
    TrainingConfig,
)
from workloads.protocol_config import ContinualConfig, LongTailedConfig


@dataclass(frozen=True)
class ArmSpec:
    """One loss with its search space.

    ``space`` maps a flat parameter name to its term. Names are those of the loss (``tau``), an expression of
    one of its parameters (``mu.scale``), or a training setting that an arm may set for itself (``lr``,
    ``weight_decay``). Parameters that the study does not mention stay at the loss's defaults.
    """

    name: str
    loss: str
    space: Mapping[str, Term]


@dataclass(frozen=True)
class PrunerSpec:
    """When a trial is stopped early."""

    name: Literal["median", "successive_halving", "hyperband", "wilcoxon", "none"] = "median"
    warmup_epochs: int = 0
    """No trial is stopped before it has finished this many epochs."""
    params: Mapping[str, Value] = field(default_factory=dict)
    """The pruner's own parameters, by their Optuna names (``n_startup_trials``, ``reduction_factor`` ...)."""


@dataclass(frozen=True)
class GuardSpec:
    """Keeps a network that rejects noise but cannot classify from winning."""

    max_drop: float = 0.05
    """Largest loss of validation accuracy against the arm's best configuration (0.05: five points)."""
    min_accuracy: float | None = None
    """Smallest validation accuracy, whatever the others reach; None: midway between chance and 1."""


@dataclass(frozen=True)
class SearchSpec:
    """How each arm's parameters are found; validation data only."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: int = 20
    """Configurations an arm (``grid``: at most; the whole grid where it is smaller)."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds of each configuration; its value is the mean over them."""
    sampler_seed: int = 0
    parallel: int = 2
    """Configurations of one arm in flight at once. In deterministic mode part of what is decided."""
    deterministic: bool = True
    """Decisions depend on results only, never on the order in which they arrive."""
    repeats: int = 1
    """How often the whole search of an arm is done, each time with other draws and other training seeds, so
    that the variance of selection itself is seen. Tables rest on the first; the others stand beside it."""
    objective: Literal["noise_fpr95"] = "noise_fpr95"
    pruner: PrunerSpec = PrunerSpec()
    guard: GuardSpec = GuardSpec()


@dataclass(frozen=True)
class ProtocolSpec:
    """One way to present training data, in the variants in which every arm is confirmed."""

    protocol: Protocol
    variants: tuple[str, ...] = ("",)
    """Methods of ``long_tailed``, strategies of ``continual``; the standard protocol has none."""
    settings: LongTailedConfig | ContinualConfig | None = None
    """What all variants share."""
    parameters: Literal["winner", "defaults"] = "winner"
    """Each arm's: those of its search's winner, or what the arm fixes, the loss's defaults and the learning
    rate that the loss recommends."""
    training: TrainingConfig | None = None
    """The recipe; None: the study's."""


@dataclass(frozen=True)
class ConfirmSpec:
    """The winners, trained again on fresh seeds, with the sealed test opened."""

    seeds: tuple[int, ...] = (100, 101, 102, 103, 104)
    """The same for every arm: seeds are paired. Disjoint from the search seeds."""


@dataclass(frozen=True)
class RetrySpec:
    """How often a trial is tried again, by what ended it."""

    exception: int = 1
    out_of_memory: int = 1
    lost: int = 3
    """The worker or its node went away."""
    diverged: int = 0
    """NaN or infinity; the same seed gives the same NaN on CPU."""
    timed_out: int = 1
    """It took longer than ``execution.time_limit``; the next attempt goes on from its last checkpoint."""


@dataclass(frozen=True)
class BudgetSpec:
    """When the search of an arm ends at the latest; what is there by then is confirmed and reported.

    The limits of seconds count what was really spent: retries, and trials that were stopped early. At one of
    these an arm without a complete configuration goes on with its first, as there would be nothing to confirm
    without it.
    """

    trials: int | None = None
    """Search trials an arm, one a configuration and seed, whatever their end; None: no limit. A trial that is
    tried again after a failure is still the same trial, so this limit gives the same study twice."""
    device_seconds: float | None = None
    """Seconds that an arm's search may keep its devices busy, added over its trials. Depends on the machine:
    a study with this limit, or the next, need not come out the same twice."""
    wall_seconds: float | None = None
    """Seconds from the study's start that all searches may take, those of interrupted runs added up. A repeat
    (``search.repeats``) that has nothing complete by then is given up."""


@dataclass(frozen=True)
class ProxySpec:
    """Does the noise FPR95 that the search minimises order configurations as real OOD FPR95 does?"""

    configurations: int = 10
    """Of each arm, drawn at random from all that were searched, complete and pruned, and measured on real
    OOD; at most as many as there are. Five can only show a perfect order."""


ProxyAudit = ProxySpec | None


@dataclass(frozen=True)
class AuditSpec:
    """Checks on the method itself, run when everything is chosen; nothing that was chosen can change by them.
    They may be added to a finished study."""

    pruned: int | None = None
    """Configurations of each arm that are run to the end, drawn at random from those that its pruner stopped;
    at most as many as there are; None: none."""
    proxy: ProxyAudit = None
    """``true``, or ``{configurations: K}``; None: none."""


GpuShare = float | Literal["auto"]


@dataclass(frozen=True)
class ResourcesSpec:
    """What a trial takes of a machine; changes no result and may be changed between two runs of one study."""

    cpu: float = 1.0
    """CPUs a trial."""
    gpu: GpuShare = 0.0
    """GPUs a trial: 0.25 puts four on one; ``auto``: as many as fit, by the memory that an arm's first trial
    was seen to need."""

    @property
    def on_gpu(self) -> bool:
        return self.gpu != 0.0

    @property
    def most_gpu(self) -> float:
        """The largest share that a trial may ask for: with ``auto`` the first of an arm has a whole GPU."""
        return 1.0 if self.gpu == "auto" else float(self.gpu)


@dataclass(frozen=True)
class ExecutionSpec:
    """How it runs; changes no result and may be changed between two runs of one study."""

    max_concurrent: int | None = None
    """Trials side by side; None: as many as the cluster holds."""
    time_limit: float | None = None
    """Seconds that one attempt at a trial may take; None: no limit. What hangs is ended and tried again."""
    retries: RetrySpec = RetrySpec()


@dataclass(frozen=True)
class TrackingSpec:
    """Where MLflow records go; may be changed between two runs of one study."""

    uri: str | None = None
    """None: ``MLFLOW_TRACKING_URI``, else an SQLite store in the output folder."""
    experiment: str | None = None
    """None: the study's name."""


@dataclass(frozen=True)
class ReportSpec:
    """What the answer rests on; declared before anything runs."""

    primary: tuple[str, ...] = ("ood/near/fpr95", "ood/far/fpr95")
    """The primary family (Holm-corrected together); ``ood/...`` names are of the headline score."""
    confidence: float = 0.95


@dataclass(frozen=True)
class StudySpec:
    """A study, as one question with arms to compare."""

    name: str = field(metadata={"key": "study"})
    data: DataConfig
    model: ModelConfig
    arms: Mapping[str, ArmSpec]
    question: str = ""
    baseline: str = ""
    """The arm that the others are compared with; default: the first arm."""
    protocols: Mapping[str, ProtocolSpec] = field(
        default_factory=lambda: {"standard": ProtocolSpec("standard")}
    )
    """How training data are presented to the confirm trials; search trials are always standard."""
    recipe: str | None = None
    """Named training settings that ``training`` overrides; None: the defaults."""
    training: TrainingConfig = TrainingConfig()
    noise: NoiseConfig = NoiseConfig()
    evaluation: EvaluationConfig = field(default=EvaluationConfig(), metadata={"key": "evaluate"})
    search: SearchSpec = SearchSpec()
    budget: BudgetSpec = BudgetSpec()
    confirm: ConfirmSpec = ConfirmSpec()
    audit: AuditSpec = AuditSpec()
    resources: ResourcesSpec = ResourcesSpec()
    execution: ExecutionSpec = ExecutionSpec()
    tracking: TrackingSpec = TrackingSpec()
    report: ReportSpec = ReportSpec()


Params = Mapping[str, Value]
"""One point of an arm's space: flat names, plain values."""

__all__ = [
    "ArmSpec",
    "AuditSpec",
    "BudgetSpec",
    "ConfirmSpec",
    "ExecutionSpec",
    "GpuShare",
    "GuardSpec",
    "ParameterValue",
    "Params",
    "ProtocolSpec",
    "ProxyAudit",
    "ProxySpec",
    "PrunerSpec",
    "ReportSpec",
    "ResourcesSpec",
    "RetrySpec",
    "SearchSpec",
    "StudySpec",
    "TrackingSpec",
]
