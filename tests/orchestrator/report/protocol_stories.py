"""Tells the story of a study with several protocols, for the tests of the report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from orchestrator.study.regimes import regimes
from orchestrator.study.spec import ConfirmSpec, ProtocolSpec, ReportSpec, StudySpec
from workloads.contract import TrainingConfig
from workloads.protocol_config import ContinualConfig, LongTailedConfig
from workloads.sealed import sealed

from .stories import SPEC, Story, confirm_metrics, trial_key

SPLIT = ContinualConfig(tasks=3, buffer=40)
TURNED = ContinualConfig(scenario="domain_il", stream="rotated", tasks=3, order="natural", counts="total")
PROTOCOLS = {
    "standard": ProtocolSpec("standard"),
    "long_tailed": ProtocolSpec("long_tailed", ("plain", "drw"), LongTailedConfig(factor=15.0)),
    # A joint run comes first, and yet what a stream comes to is that of replay.
    "continual": ProtocolSpec("continual", ("joint", "replay"), SPLIT, training=TrainingConfig(epochs=4)),
    "turned": ProtocolSpec("continual", ("naive",), TURNED, parameters="defaults"),
}
STUDY = dataclasses.replace(SPEC, protocols=PROTOCOLS, confirm=ConfirmSpec((100, 101, 102)))
REASON = "the loss re-weights classes by itself: twice would be too much"
IMAGES = (150, 60, 10)
"""Training images of the three classes: one has many, one medium, one few."""
QUALITY = {"cross_entropy": 0.0, "logitnorm": 0.02, "hem": -0.04}
"""What is added to an arm's accuracies: logitnorm is best."""


def with_protocols(*entries: str, **changes: object) -> StudySpec:
    """The study with only these entries, and the primary metric that such a study would have."""
    primary = {
        "standard": "ood/near/fpr95",
        "long_tailed": "imbalance/balanced_accuracy",
        "continual": "continual/class_il/accuracy",
        "turned": "continual/domain_il/accuracy",
    }
    report = ReportSpec((primary[entries[0]],))
    kept = {entry: PROTOCOLS[entry] for entry in entries}
    return dataclasses.replace(STUDY, protocols=kept, report=report, **changes)  # type: ignore[arg-type]


def long_tailed_metrics(quality: float, luck: float) -> dict[str, float]:
    """Recalls fall with the images of a class; all else follows from them."""
    recalls = [0.95 + luck, 0.8 + quality + luck, 0.5 + 2 * quality + luck]
    metrics = {
        "imbalance/balanced_accuracy": sum(recalls) / 3,
        "imbalance/worst_class": min(recalls),
        "imbalance/macro_f1": 0.7 + quality,
        "imbalance/g_mean": (recalls[0] * recalls[1] * recalls[2]) ** (1 / 3),
    }
    for place, group in enumerate(("many", "medium", "few")):
        metrics[f"imbalance/accuracy/{group}"] = recalls[place]
        metrics[f"imbalance/ece_15/{group}"] = 0.02 + 0.1 * place
        metrics[f"imbalance/recall/{place}"] = recalls[place]
        metrics[f"imbalance/train_images/{place}"] = float(IMAGES[place])
    return metrics


def matrix(
    quality: float, luck: float, *, joint: bool = False, later: bool = False
) -> list[list[float | None]]:
    """R of three tasks, the first of which is best after the second.

    Args:
        later: whether tasks to come, above the diagonal, were measured.
    """
    if joint:
        return [[0.96 + luck, 0.97 + luck, 0.95 + luck]]
    above = 0.3 if later else None
    return [
        [0.98 + luck, above, above],
        [0.99 + luck, 0.96 + luck, above],
        [0.6 + quality + luck, 0.74 + quality + luck, 0.94 + luck],
    ]


def continual_metrics(R: Sequence[Sequence[float | None]], scenario: str) -> dict[str, float]:
    """Written out for three tasks, apart from the code that trials use."""
    known = [[0.0 if value is None else value for value in row] for row in R]
    last = known[-1]
    found = {"accuracy": sum(last) / 3, "auroc_near": 0.6, "auroc_far": 0.7, "ece_15": 0.2, "ece_15_ts": 0.1}
    if len(R) > 1:
        first = [known[0][0], known[1][1], known[2][2]]
        found["average_incremental_accuracy"] = (known[0][0] + sum(known[1][:2]) / 2 + sum(last) / 3) / 3
        found["learning_accuracy"] = sum(first) / 3
        best = [max(known[0][0], known[1][0]), max(known[0][1], known[1][1])]
        found["forgetting"] = (best[0] - last[0] + best[1] - last[1]) / 2
        found["forgetting_avalanche"] = (first[0] - last[0] + first[1] - last[1]) / 2
        found["bwt"] = -found["forgetting_avalanche"]
    if scenario == "class_il":
        found["masked/accuracy"] = found["accuracy"] / 2 + 0.5
    elif len(R) > 1:
        found["fwt"] = 0.05
    return {f"continual/{scenario}/{name}": value for name, value in found.items()}


def protocol_story(spec: StudySpec = STUDY, *, skip: bool = True) -> Story:
    """Every arm confirmed in every regime; hem cannot be trained with drw."""
    story = Story(spec).opened()
    for arm in spec.arms:
        if skip and arm == "hem" and "long_tailed/drw" in regimes(spec):
            story.add("skipped", arm=arm, regime="long_tailed/drw", reason=REASON)
        story.configured(arm, 0, {"lr": 0.1})
        story.selected(arm, 0, {"lr": 0.1})
    for name in regimes(spec):
        for arm in spec.arms:
            if not (skip and arm == "hem" and name == "long_tailed/drw"):
                confirm_in(story, arm, name)
    story.add("closed", reason="done")
    return story


def confirm_in(story: Story, arm: str, name: str, seeds: Sequence[int] = STUDY.confirm.seeds) -> None:
    """The arm's confirm trials of one regime."""
    spec, quality = story.spec, QUALITY[arm]
    regime = regimes(spec)[name]
    for seed in seeds:
        luck = 0.01 * (seed - 101)
        metrics = {"train/forward_passes": 1000.0 + seed}
        if regime.continual is not None:
            metrics |= continual_metrics(matrix_of(spec, arm, name, seed), regime.continual.scenario)
        else:
            accuracy = 0.95 + quality / 2 + luck
            metrics |= confirm_metrics(spec, 0.3 - quality + luck, 0.1 - quality / 2, accuracy)
        if regime.long_tailed is not None:
            better = quality + (0.01 if name.endswith("drw") else 0.0)
            metrics |= long_tailed_metrics(better, luck)
        story.confirmed(arm, 0, seed, metrics, name, seconds=2.0 + luck)


def matrix_of(spec: StudySpec, arm: str, name: str, seed: int) -> list[list[float | None]]:
    regime = regimes(spec)[name]
    assert regime.continual is not None
    later = regime.continual.scenario != "class_il"
    return matrix(QUALITY[arm], 0.01 * (seed - 101), joint=regime.variant == "joint", later=later)


def write_streams(story: Story, study_dir: Path) -> None:
    """What every complete continual trial saves."""
    for arm, record in story.record().arms.items():
        for name, trials in record.confirms.items():
            if regimes(story.spec)[name].continual is None:
                continue
            for seed, trial in trials.items():
                if trial.state == "complete":
                    stream_path(study_dir, arm, seed, name).parent.mkdir(parents=True)
                    saved = {"accuracy": matrix_of(story.spec, arm, name, seed)}
                    stream_path(study_dir, arm, seed, name).write_text(json.dumps(sealed(saved)))


def stream_path(study_dir: Path, arm: str, seed: int, name: str) -> Path:
    key = trial_key(arm, "confirm", 0, seed, name)
    return study_dir / "trials" / key / "outputs" / "stream.json"
