"""Holds docs/metrics.md against the metrics that real confirm trials record, one of each protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report.readings import describe
from workloads.contract import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    OODConfig,
    RobustnessConfig,
    SaturatedConfig,
    SkipConfig,
    TrainingConfig,
    TrialConfig,
)
from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.corruptions import CORRUPTIONS
from workloads.protocol_config import ContinualConfig, LongTailedConfig
from workloads.run import prepare, run

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
DATA = DataConfig("digits", id_classes=(0, 1, 2, 3), near_ood=("held_out",), far_ood=("uniform", "blobs"))
NOISE = NoiseConfig(sigmas=(0.1, 0.25), size=40)
EVALUATION = EvaluationConfig(
    measures=("ood", "calibration", "geometry", "robustness"),
    ood=OODConfig(("msp", "energy:T=tuned", "knn")),
    robustness=RobustnessConfig(
        images=10,
        attacks=("fgsm", "pgd", "autoattack"),
        objectives=("ce", "margin"),
        epsilons=(0.5, 8.0),
        steps=2,
        severities=(1, 5),
    ),
)
SETS = ("held_out", "uniform", "blobs")
PLACEHOLDERS = {
    "set": SETS,
    "side": ("near", "far"),
    "images": ("id_test", "id_validation", "id_train", "noise_0.1", "noise_0.25", *SETS),
    "score": ("msp", "energy-T_tuned", "knn"),
    "parameter": ("T",),
    "name": ("logit_norm",),
    "M": ("15",),
    "attack": ("fgsm", "pgd"),
    "objective": EVALUATION.robustness.objectives,
    "epsilon": ("0.5", "8"),
    "corruption": CORRUPTIONS,
    "severity": ("1", "5"),
    "kind": ("clean", "corrupt", "adversarial", "novel", "unrecognisable"),
    "group": ("many", "medium", "few"),
    "class": ("0", "1", "2", "3"),
    "scenario": ("class_il", "domain_il"),
    "i": ("1", "2"),
}
"""What each word in angle brackets may be in these trials, and nothing else."""
LONG_TAILED = {
    "protocol": "long_tailed",
    "long_tailed": LongTailedConfig(factor=10.0),
    # Images are chosen, so that what is said of it is recorded too.
    "training": TrainingConfig(
        epochs=1, skip=SkipConfig("random", share=0.2), saturated=SaturatedConfig("random", share=0.2)
    ),
    "evaluation": EvaluationConfig(("ood",), OODConfig(("msp",))),
}
STREAM = ContinualConfig("replay", tasks=2, buffer=20, ood_images=50)
STREAMS = (STREAM, replace(STREAM, scenario="domain_il", stream="permuted"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, float]:
    """The metrics of four confirm trials: standard, measuring everything; long-tailed; and two streams, of
    which one has masked accuracies and the other forward transfer."""
    root = tmp_path_factory.mktemp("trial")
    facts = prepare(DATA, NOISE, root / "data")
    standard = TrialConfig(
        arm="arm",
        stage="confirm",
        protocol="standard",
        seed=0,
        loss="cross_entropy",
        loss_params={},
        data=DATA,
        data_hash=facts.hash,
        model=ModelConfig("small_cnn_8x8", {"width": 4}),
        # So little training that some test images are misclassified: without, nothing is said of failures.
        training=TrainingConfig(epochs=2, batch_size=64, lr=0.03),
        noise=NOISE,
        evaluation=EVALUATION,
    )
    stream = replace(standard, protocol="continual", training=TrainingConfig(epochs=1))
    trials = [
        standard,
        replace(standard, **LONG_TAILED),  # type: ignore[arg-type]
        *(replace(stream, continual=each) for each in STREAMS),
    ]
    metrics: dict[str, float] = {}
    with pytest.MonkeyPatch.context() as patch:
        # AutoAttack is an extra package and takes minutes; its name is all that counts.
        patch.setattr("workloads.measurement.robustness.autoattack", lambda *_, **__: 0.0)
        for trial in trials:
            folder = root / trial.key
            metrics |= run(trial, lambda _: None, folder=folder, data_root=root / "data").metrics
    return metrics


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of every table row whose table begins with this heading."""
    inside = False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif inside and not cells[0].startswith("---"):
            yield cells
        elif not inside:
            inside = cells[0] == heading


def documented() -> dict[str, str]:
    """Every pattern of a name, with its better direction."""
    return {name: cells[3] for cells in rows("name") for name in re.findall(r"`([^`]+)`", cells[0])}


def matches(pattern: str, name: str) -> bool:
    parts = re.split(r"<(\w+)>", pattern)
    choices = [
        "|".join(map(re.escape, PLACEHOLDERS[part])) if place % 2 else re.escape(part)
        for place, part in enumerate(parts)
    ]
    return re.fullmatch("".join(f"(?:{choice})" for choice in choices), name) is not None


def test_every_recorded_metric_is_documented_once(recorded: Mapping[str, float]) -> None:
    found = {name: [p for p in documented() if matches(p, name)] for name in recorded}
    assert {name: patterns for name, patterns in found.items() if len(patterns) != 1} == {}


def test_every_documented_metric_is_recorded(recorded: Mapping[str, float]) -> None:
    assert [p for p in documented() if not any(matches(p, name) for name in recorded)] == []


def test_the_page_and_the_report_agree_on_the_better_direction(recorded: Mapping[str, float]) -> None:
    words = {"neither": "-"}
    page = {name: better for name in recorded for p, better in documented().items() if matches(p, name)}
    report = {name: describe(name, "msp").better for name in recorded}
    assert {name: words.get(better, better) for name, better in report.items()} == page


def test_the_report_has_a_name_for_every_recorded_metric(recorded: Mapping[str, float]) -> None:
    unread = [name for name in recorded if describe(name, "msp").group == name]
    assert [name for name in unread if not name.startswith("loss/")] == []


def test_every_metric_has_a_meaning_and_a_direction() -> None:
    for cells in rows("name"):
        assert len(cells) == 5, cells
        assert cells[1]
        assert cells[3] in ("lower", "higher", "-")


def test_the_scores_are_those_of_the_catalogue() -> None:
    page = {cells[0].strip("`"): (cells[2], cells[3]) for cells in rows("score")}
    catalogue = {}
    for entry in SCORES.values():
        defaults = [f"`{name}` = {_shown(each.default)}" for name, each in entry.parameters.items()]
        catalogue[entry.name] = (entry.facts["needs"], ", ".join(defaults) or "-")
    assert page == catalogue


def test_what_the_page_says_of_class_groups_is_what_the_trial_does(recorded: Mapping[str, float]) -> None:
    images = {int(n.rpartition("/")[2]): v for n, v in recorded.items() if "train_images/" in n}
    assert list(images) == [0, 1, 2, 3]
    # None has more than 100 images, so the classes are cut into thirds, the first of them larger.
    assert max(images.values()) <= 100
    recalls = [recorded[f"imbalance/recall/{c}"] for c in images]
    assert recorded["imbalance/accuracy/many"] == pytest.approx((recalls[0] + recalls[1]) / 2, rel=1e-12)
    assert recorded["imbalance/accuracy/medium"] == recalls[2]
    assert recorded["imbalance/accuracy/few"] == recalls[3]


def test_every_corruption_is_named() -> None:
    text = PAGE.read_text()
    assert [name for name in CORRUPTIONS if not re.search(rf"\b{name}\b", text)] == []


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
