"""The regimes of a study: each a protocol with its settings and one method or strategy.

``standard``, ``long_tailed/drw``, ``continual/replay``: every arm is confirmed in every regime.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.study.spec import Params, ProtocolSpec, StudySpec
from workloads.catalogue import Value
from workloads.contract import Protocol, TrainingConfig
from workloads.losses.catalogue import LOSSES
from workloads.protocol_config import ContinualConfig, LongTailedConfig

NAMESPACES: Mapping[str, Protocol] = {"imbalance": "long_tailed", "continual": "continual"}
"""Protocols whose trials alone have metrics that begin so."""


@dataclass(frozen=True)
class Regime:
    """What a confirm trial adds to its arm, parameters and seed."""

    name: str
    """``standard``, or ``<key of the study's protocols>/<method or strategy>``."""
    entry: str
    """The key under ``protocols``."""
    protocol: Protocol
    variant: str
    spec: ProtocolSpec

    @property
    def long_tailed(self) -> LongTailedConfig | None:
        settings = self.spec.settings
        if not isinstance(settings, LongTailedConfig):
            return None
        return dataclasses.replace(settings, method=self.variant)  # type: ignore[arg-type]

    @property
    def continual(self) -> ContinualConfig | None:
        settings = self.spec.settings
        if not isinstance(settings, ContinualConfig):
            return None
        return dataclasses.replace(settings, strategy=self.variant)  # type: ignore[arg-type]

    def training(self, spec: StudySpec) -> TrainingConfig:
        """The recipe of its trials, before an arm sets anything."""
        return self.spec.training or spec.training


def regimes(spec: StudySpec) -> dict[str, Regime]:
    """All regimes by name, in the study's order."""
    found = [
        Regime(f"{entry}/{variant}" if variant else entry, entry, each.protocol, variant, each)
        for entry, each in spec.protocols.items()
        for variant in each.variants
    ]
    return {regime.name: regime for regime in found}


def main_regime(spec: StudySpec) -> str:
    """The one whose results a report shows first: the standard one, or else the first."""
    names = list(regimes(spec))
    return "standard" if "standard" in names else names[0]


def split_name(name: str, spec: StudySpec) -> tuple[str, str]:
    """A metric's name as regime and name: ``long_tailed/drw:imbalance/worst_class``.

    Without a regime, ``imbalance/...`` is of the first long-tailed one, ``continual/<scenario>/...`` of the
    first continual one of that scenario, and any other of the main one.
    """
    regime, colon, metric = name.partition(":")
    # A score may have a colon in its name too: ood/near/energy:T=0.1/auroc.
    if colon and regime in regimes(spec):
        return regime, metric
    return home_of(name, spec), name


def home_of(metric: str, spec: StudySpec) -> str:
    """The regime that a metric's name means where it names none."""
    parts = metric.split("/")
    protocol = NAMESPACES.get(parts[0])
    if protocol is not None:
        for regime in regimes(spec).values():
            scenario = regime.continual.scenario if regime.continual else None
            if regime.protocol == protocol and (scenario is None or scenario in parts[1:2]):
                return regime.name
    return main_regime(spec)


def full_name(regime: str, metric: str, spec: StudySpec) -> str:
    """The inverse of :func:`split_name`, as short as it can be."""
    return metric if home_of(metric, spec) == regime else f"{regime}:{metric}"


def default_params(spec: StudySpec, arm: str) -> Params:
    """What an arm fixes, and the learning rate that its loss recommends; all else stays at its default."""
    chosen = spec.arms[arm]
    params: dict[str, Value] = {n: t.values[0] for n, t in chosen.space.items() if t.kind == "fixed"}
    entry = LOSSES.get(chosen.loss)
    if "lr" not in params and entry is not None and entry.lr is not None:
        recommended = entry.lr.default
        if isinstance(recommended, int | float):
            params["lr"] = recommended
    return params
