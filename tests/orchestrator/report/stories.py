"""Tells a study's story as ledger events, for the tests of the report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.campaign.record import StudyRecord
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import ArmSpec, ConfirmSpec, SearchSpec, StudySpec
from workloads.arrays import packed
from workloads.catalogue import Term, Value
from workloads.contract import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OODConfig,
    RobustnessConfig,
    TrainingConfig,
)
from workloads.evaluation.score_names import parse_score
from workloads.sealed import sealed

LR = Term("log_uniform", (0.01, 1.0))
SPEC = StudySpec(
    name="digits",
    question="Does LogitNorm or HEM beat cross-entropy at rejecting unknown inputs?",
    data=DataConfig("digits", near_ood=("held_out",), far_ood=("patches", "blobs")),
    model=ModelConfig("small_cnn_8x8"),
    arms={
        "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {"lr": LR}),
        "logitnorm": ArmSpec("logitnorm", "logitnorm", {"tau": Term("log_uniform", (0.01, 10.0)), "lr": LR}),
        "hem": ArmSpec("hem", "hem", {"mu.scale": Term("log_uniform", (100.0, 10000.0)), "lr": LR}),
    },
    baseline="cross_entropy",
    training=TrainingConfig(epochs=10),
    search=SearchSpec(trials=8, seeds=(0, 1)),
    confirm=ConfirmSpec((100, 101, 102, 103, 104)),
)
FULL = dataclasses.replace(
    SPEC,
    evaluation=EvaluationConfig(
        measures=("ood", "calibration", "geometry", "robustness"),
        ood=OODConfig(("msp", "mls", "energy:T=tuned", "cosine")),
        robustness=RobustnessConfig(images=500, objectives=("ce", "scaled_ce", "dlr"), epsilons=(2.0, 8.0)),
    ),
)
"""Everything measured; a score that is tuned, and one that fits no arm."""
RATES = ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out", "oscr")


class Story:
    """Events in order; each method adds what happened, :meth:`record` folds them."""

    def __init__(self, spec: StudySpec = SPEC) -> None:
        self.spec = spec
        self.events: list[dict[str, Any]] = []
        self._clock = 1_760_000_000.0

    def add(self, event: str, **fields: Any) -> None:
        self._clock += 1.0
        self.events.append({"event": event, "t": self._clock, **fields})

    def opened(self) -> Story:
        self.add(
            "opened",
            study=self.spec.name,
            arms=list(self.spec.arms),
            versions={"torch": "2.15.0", "ray": "2.60.0"},
            commit="0123abcd",
            hardware={"cpus": 2, "gpu": "none"},
            data={"hash": "feedbeef", "num_train": 860, "num_classes": 10, "image_shape": [1, 8, 8]},
            command=["orchestrate", "study", "studies/my digits.yaml"],
            session=1,
        )
        return self

    def configured(self, arm: str, number: int, params: Mapping[str, Value]) -> None:
        self.add("configured", arm=arm, number=number, params=dict(params))

    def started(
        self, arm: str, stage: str, number: int, seed: int, attempt: int = 1, regime: str = "standard"
    ) -> str:
        key = trial_key(arm, stage, number, seed, regime)
        self.add(
            "started",
            key=key,
            arm=arm,
            stage=stage,
            protocol=regimes(self.spec)[regime].protocol if stage == "confirm" else "standard",
            regime=regime,
            number=number,
            seed=seed,
            attempt=attempt,
        )
        return key

    def finished(
        self, key: str, state: str, metrics: Mapping[str, float], seconds: float = 1.5, reason: str = ""
    ) -> None:
        self.add("finished", key=key, state=state, metrics=dict(metrics), seconds=seconds, reason=reason)

    def searched(
        self,
        arm: str,
        number: int,
        seed: int,
        fpr95: float,
        *,
        state: str = "complete",
        epochs: int = 10,
        auroc: float = 0.95,
        reason: str = "",
    ) -> str:
        """One search trial from start to end, with reports up to ``epochs``."""
        key = self.started(arm, "search", number, seed)
        metrics = {
            "noise/fpr95": fpr95,
            "noise/auroc": auroc,
            "validation/accuracy": 0.97,
            "validation/ece_15": 0.2,
        }
        for epoch in range(5, epochs + 1, 5):
            self.add("reported", key=key, epoch=epoch, metrics=metrics)
        self.finished(key, state, {} if state == "failed" else metrics, 0.15 * epochs, reason)
        return key

    def selected(self, arm: str, number: int, params: Mapping[str, Value], value: float | None = 0.1) -> None:
        self.add("selected", arm=arm, number=number, params=dict(params), value=value, reason="best of 4")

    def confirmed(
        self,
        arm: str,
        number: int,
        seed: int,
        metrics: Mapping[str, float],
        regime: str = "standard",
        seconds: float = 1.5,
    ) -> str:
        key = self.started(arm, "confirm", number, seed, regime=regime)
        self.finished(key, "complete", metrics, seconds)
        return key

    def record(self) -> StudyRecord:
        return StudyRecord.fold(self.events)


def trial_key(arm: str, stage: str, number: int, seed: int, regime: str = "standard") -> str:
    place = "" if regime == "standard" else f"-{regime.replace('/', '-')}"
    return f"{arm}-{stage}-{number}-{seed}{place}"


def confirm_metrics(spec: StudySpec, near: float, far: float, accuracy: float = 0.97) -> dict[str, float]:
    """Metrics of a confirm trial whose near and far FPR95 are given: all that the study measures."""
    measured = {"ood": _rejection, "calibration": _calibration, "geometry": _geometry, "robustness": _robust}
    metrics = {"test/accuracy": accuracy}
    for name in spec.evaluation.measures:
        metrics |= measured[name](spec, near, far, accuracy)
    return metrics


def _rejection(spec: StudySpec, near: float, far: float, accuracy: float) -> dict[str, float]:
    metrics: dict[str, float] = {}
    sets = {"near": near, "far": far}
    sets |= dict.fromkeys(spec.data.near_ood, near) | dict.fromkeys(spec.data.far_ood, far)
    for score in map(parse_score, spec.evaluation.ood.scores):
        if score.name == "cosine":
            continue
        for name, fpr95 in sets.items():
            values = (fpr95, fpr95 / 2, 1 - fpr95 / 3, 1 - fpr95 / 4, 1 - fpr95 / 5, accuracy - fpr95 / 3)
            metrics |= {f"ood/{name}/{score.label}/{r}": v for r, v in zip(RATES, values, strict=True)}
            metrics[f"ood/{name}/{score.label}/id_prevalence"] = 0.6 if name in ("near", "held_out") else 0.25
        error = 1 - accuracy
        found = {"aurc": error / 9, "e_aurc": error / 12, "failure_auroc": 0.9 - error}
        metrics |= {f"selective/{score.label}/{name}": value for name, value in found.items()}
        if "tuned" in score.label:
            metrics[f"tuned/{score.label}/T"] = 0.1 if accuracy < 0.9715 else 0.2
    return metrics


def _calibration(spec: StudySpec, near: float, far: float, accuracy: float) -> dict[str, float]:
    before = {"ece_15": 0.041, "ece_adaptive_15": 0.043, "ece_classwise_15": 0.011, "ks": 0.039}
    before |= {"nll": 0.12, "brier": 0.05}
    metrics = {f"calibration/{name}": value for name, value in before.items()}
    metrics |= {f"calibration/{name}_ts": 0.3 * value for name, value in before.items()}
    metrics |= {"calibration/temperature": 1.7, "calibration/temperature_at_bound": 0.0}
    sets = {"id_test": accuracy + 0.02, **dict.fromkeys(spec.data.near_ood, 0.5 + near)}
    sets |= {name: 0.6 + 0.1 * place for place, name in enumerate(spec.data.far_ood)}
    metrics |= {f"calibration/confidence/{name}": value for name, value in sets.items()}
    return metrics | {f"calibration/confidence_ts/{name}": 0.9 * value for name, value in sets.items()}


def _geometry(spec: StudySpec, near: float, far: float, accuracy: float) -> dict[str, float]:
    angles = {"wc_intra": 0.4, "w_inter": 1.6, "c_inter": 1.2, "wc_inter": 1.5, "within_class": 0.3}
    collapse = {"nc1": 0.12, "nc2_equinorm": 0.2, "nc2_equiangular": 0.1, "nc2_w_equinorm": 0.08}
    collapse |= {"nc2_w_equiangular": 0.09, "nc3": 0.3, "nc4": 0.004}
    metrics = {f"geometry/{name}": value + near / 100 for name, value in (angles | collapse).items()}
    for place, name in enumerate(("id_test", *spec.data.near_ood, *spec.data.far_ood)):
        metrics[f"geometry/logit_norm_mean/{name}"] = 12.0 - 2 * place
        metrics[f"geometry/logit_norm_std/{name}"] = 1.5
    return metrics


def _robust(spec: StudySpec, near: float, far: float, accuracy: float) -> dict[str, float]:
    robust = spec.evaluation.robustness
    metrics = {"robustness/clean": accuracy, "robustness/corruption/mean": 0.81}
    for epsilon in robust.epsilons:
        for attack in robust.attacks:
            for place, objective in enumerate(robust.objectives):
                weakened = 0.02 * place + (0.05 if attack == "pgd" else 0.0)
                metrics[f"robustness/{attack}/{objective}/eps_{epsilon:g}"] = 0.9 - 0.08 * epsilon - weakened
        metrics[f"robustness/worst/eps_{epsilon:g}"] = 0.8 - 0.08 * epsilon
    kinds = ("clean", "corrupt", "adversarial", "novel", "unrecognisable", "mean")
    return metrics | {f"robustness/dar_star/{kind}": 0.5 + 0.05 * n for n, kind in enumerate(kinds)}


def whole_story(spec: StudySpec = SPEC) -> Story:
    """Three arms searched and confirmed: logitnorm clearly better on near OOD, hem much like the baseline."""
    story = Story(spec).opened()
    generator = np.random.default_rng(7)
    near = {"cross_entropy": 0.41, "logitnorm": 0.287, "hem": 0.40}
    for arm, entry in spec.arms.items():
        winner = _search(story, arm, entry, generator)
        for seed in spec.confirm.seeds:
            shared = 0.01 * (seed % 5)
            noise = generator.normal(0, 0.012, 2)
            accuracy = 0.968 + 0.004 * generator.random()
            story.confirmed(
                arm,
                winner,
                seed,
                confirm_metrics(spec, near[arm] + shared + noise[0], 0.06 + abs(noise[1]), accuracy),
            )
    story.add("closed", reason="done")
    return story


def _search(story: Story, arm: str, entry: ArmSpec, generator: np.random.Generator) -> int:
    """Eight configurations of two seeds; number 1 wins."""
    for number in range(8):
        params: dict[str, Value] = {}
        for name, term in entry.space.items():
            low, high = (np.log(float(value)) for value in term.values)
            share = 0.5 if number == 1 else generator.uniform(0.05, 0.95)
            params[name] = float(np.exp(low + share * (high - low)))
        story.configured(arm, number, params)
        centre = 0.08 if number == 1 else float(generator.uniform(0.15, 0.9))
        for seed in story.spec.search.seeds:
            fpr95 = float(np.clip(centre + generator.normal(0, 0.04), 0, 1))
            if number == 6 and seed == 1:
                continue
            if number == 5:
                story.searched(arm, number, seed, fpr95, state="pruned", epochs=5, reason="median")
            elif number == 7 and seed == 1:
                story.searched(arm, number, seed, fpr95, state="failed", epochs=0, reason="the loss is NaN")
            else:
                story.searched(arm, number, seed, fpr95)
        state = {5: "pruned", 6: "pruned", 7: "failed"}.get(number, "complete")
        story.add("settled", arm=arm, number=number, state=state, value=centre, reason="")
        if number == 1:
            chosen = params
    story.selected(arm, 1, chosen, 0.08)
    return 1


def write_outputs(spec: StudySpec, record: StudyRecord, study_dir: Path) -> None:
    """Scores, reliability bins and logits of five classes, of every complete confirm trial."""
    generator = np.random.default_rng(3)
    for arm in record.arms.values():
        for trial in arm.confirms.get("standard", {}).values():
            if trial.state != "complete":
                continue
            folder = study_dir / "trials" / trial.key / "outputs"
            folder.mkdir(parents=True)
            shift = 1.2 if arm.name == "logitnorm" else 0.0
            scores = {
                "id_test": generator.normal(4 + shift, 1.5, 400),
                "noise_0.25": generator.normal(0, 1, 90),
            }
            scores |= {name: generator.normal(2, 1.2, 300) for name in spec.data.near_ood}
            scores |= {name: generator.normal(0, 1.0, 200) for name in spec.data.far_ood}
            named: dict[str, Any] = {f"msp/{name}": each for name, each in scores.items()}
            (folder / "scores.npz").write_bytes(packed(named))
            for name in ("id_test", *spec.data.near_ood, *spec.data.far_ood):
                logits = generator.normal(0, 3 if name == "id_test" else 1, (30, 5)).astype(np.float32)
                (folder / f"{name}.npz").write_bytes(packed({"logits": logits}))
            (folder / "reliability.json").write_text(json.dumps(sealed(reliability(generator))))


def reliability(generator: np.random.Generator) -> dict[str, Any]:
    """Fifteen bins; the first three are empty, as they are for ten classes."""
    edges = np.linspace(0, 1, 16)
    centres = (edges[:-1] + edges[1:]) / 2
    count = np.where(centres < 0.2, 0, (centres * 12) ** 2).round()
    drop = {"before": 0.12, "after": 0.02}
    saved: dict[str, Any] = {"temperature": 1.7}
    for when, gap in drop.items():
        accuracy = np.clip(centres - gap * centres + generator.normal(0, 0.02, 15), 0, 1)
        saved[when] = {
            "confidence": [float(c) if n else 0.0 for c, n in zip(centres, count, strict=True)],
            "accuracy": [float(a) if n else 0.0 for a, n in zip(accuracy, count, strict=True)],
            "count": count.tolist(),
            "edges": edges.tolist(),
        }
    return saved


def with_arms(*names: str) -> StudySpec:
    """The study with only these arms."""
    arms = {name: SPEC.arms[name] for name in names}
    return dataclasses.replace(SPEC, arms=arms, baseline=names[0])
