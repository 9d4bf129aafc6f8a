"""Whether every arm can be trained in every regime, asked before anything runs."""

from __future__ import annotations

from orchestrator.errors import Unavailable
from orchestrator.execution import trial
from orchestrator.study import terms
from orchestrator.study.regimes import Regime, regimes
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import StudySpec
from workloads.contract import DataFacts, Stage

Skipped = tuple[str, str, str]
"""Arm, regime and the reason, of what does not fit."""


def require_fitting(spec: StudySpec, facts: DataFacts) -> list[Skipped]:
    """One configuration of every arm in every regime, before anything runs.

    Settings that no arm can be trained in, or an arm that cannot be trained at all (a model too deep for
    the images, say) or in any regime, end the session. A regime that one loss alone does not fit is
    skipped for its arm.

    Returns: what is skipped.
    Raises: Unavailable with everything that is wrong.
    """
    skipped: list[Skipped] = []
    asked: list[tuple[str, Regime | None]] = [(arm, None) for arm in spec.arms]
    others = [regime for regime in regimes(spec).values() if regime.protocol != "standard"]
    asked += [(arm, regime) for regime in others for arm in spec.arms]
    configs = []
    for name, regime in asked:
        space = spec.arms[name].space
        params = {parameter: terms.example(term) for parameter, term in space.items()}
        stage: Stage = "search" if regime is None else "confirm"
        configs.append(trial_config(spec, name, params, 0, stage, facts.hash, regime))
    wrong: dict[str, None] = {}
    misfits: dict[str, list[str]] = {}
    for (name, regime), misfit in zip(asked, trial.misfits(configs, facts), strict=True):
        if misfit is None:
            continue
        if regime is None:
            wrong[f"arms.{name}: {misfit.reason}"] = None
        elif misfit.whose == "settings":
            wrong[f"protocols.{regime.entry}: {misfit.reason}"] = None
        else:
            skipped.append((name, regime.name, misfit.reason))
            misfits.setdefault(name, []).append(misfit.reason)
    for name, reasons in misfits.items():
        if len(reasons) == len(regimes(spec)):
            wrong[f"arms.{name}: fits none of the study's protocols: {reasons[0]}"] = None
    if wrong:
        raise Unavailable("\n".join([*wrong, "Nothing was run."]))
    return skipped
