"""A trial's complete configuration, from the study and one point of an arm's space."""

from __future__ import annotations

import dataclasses

from orchestrator.study.ranges import ARM_SETTINGS
from orchestrator.study.regimes import Regime
from orchestrator.study.spec import ParameterValue, Params, StudySpec
from workloads.catalogue import Value
from workloads.contract import EvaluationConfig, Measure, OODConfig, Stage, TrialConfig


def trial_config(
    spec: StudySpec,
    arm: str,
    params: Params,
    seed: int,
    stage: Stage,
    data_hash: str,
    regime: Regime | None = None,
) -> TrialConfig:
    """What ``workloads.run`` needs to train one configuration of an arm under one seed.

    ``params`` are flat: ``mu.scale`` becomes the expression ``mu: {scale: ...}`` of the loss; ``lr``,
    ``weight_decay``, ``momentum`` and ``batch_size`` replace the study's training settings. Fixed terms of
    the arm need not be among them. An arm that does not set ``lr`` trains with ``training.lr`` of the study,
    whatever its loss recommends. ``regime``: of a confirm trial; None: the standard protocol.
    """
    chosen = spec.arms[arm]
    fixed = {name: term.values[0] for name, term in chosen.space.items() if term.kind == "fixed"}
    settings: dict[str, Value] = {}
    loss_params: dict[str, ParameterValue] = {}
    for name, value in {**fixed, **params}.items():
        parameter, _, expression = name.partition(".")
        if name in ARM_SETTINGS:
            settings[name] = value
        else:
            loss_params[parameter] = {expression: value} if expression else value
    training = spec.training if regime is None else regime.training(spec)
    return TrialConfig(
        arm=arm,
        stage=stage,
        protocol="standard" if regime is None else regime.protocol,
        seed=seed,
        loss=chosen.loss,
        loss_params=loss_params,
        data=spec.data,
        data_hash=data_hash,
        model=spec.model,
        training=dataclasses.replace(training, **settings),  # type: ignore[arg-type]
        noise=spec.noise,
        evaluation=_evaluation(spec, stage),
        long_tailed=None if regime is None else regime.long_tailed,
        continual=None if regime is None else regime.continual,
    )


def _evaluation(spec: StudySpec, stage: Stage) -> EvaluationConfig:
    """What is measured; of a search trial the objective alone, whatever the study asks of the winners, of an
    audited one also the rejection of real OOD by the same score."""
    if stage == "confirm":
        return spec.evaluation
    headline = spec.evaluation.headline
    # What an audit asks, and no more: its trials are many.
    measures: tuple[Measure, ...] = ("ood",) if stage == "audit" and "ood" in spec.evaluation.measures else ()
    return EvaluationConfig(measures, OODConfig((headline,), headline))
