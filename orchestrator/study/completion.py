"""A study with every default written out, so that what ran is on record even when a default changes later."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from orchestrator.study.arms import recommended_space
from orchestrator.study.catalogue import PRUNERS
from orchestrator.study.spec import ArmSpec, StudySpec
from workloads.catalogue import Parameter, Term, Value
from workloads.losses.catalogue import LOSSES
from workloads.models.catalogue import MODELS


def completed(spec: StudySpec) -> StudySpec:
    """The same study with its baseline and the parameters of its model and pruner filled in.

    An arm without any term is given the study's learning rate as a fixed one: an arm that says nothing would
    search the recommended ranges when read back. A second application changes nothing.
    """
    pruner = spec.search.pruner
    known = MODELS[spec.model.name].parameters if spec.model.name in MODELS else {}
    return dataclasses.replace(
        spec,
        baseline=spec.baseline or next(iter(spec.arms), ""),
        model=dataclasses.replace(spec.model, params=defaults(known) | dict(spec.model.params)),
        search=dataclasses.replace(
            spec.search,
            pruner=dataclasses.replace(
                pruner, params=defaults(PRUNERS[pruner.name].parameters) | dict(pruner.params)
            ),
        ),
        arms={name: _arm(arm, spec.training.lr) for name, arm in spec.arms.items()},
    )


def defaults(parameters: Mapping[str, Parameter]) -> dict[str, Value]:
    """The defaults that are plain values."""
    return {n: p.default for n, p in parameters.items() if isinstance(p.default, float | int | str | bool)}


def _arm(arm: ArmSpec, lr: float) -> ArmSpec:
    entry = LOSSES.get(arm.loss)
    if arm.space or entry is None or not recommended_space(entry):
        return arm
    return dataclasses.replace(arm, space={"lr": Term("fixed", (float(lr),))})
