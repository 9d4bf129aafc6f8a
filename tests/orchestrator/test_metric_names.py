"""What ``report.primary`` may name, and which regime a name means."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.errors import StudyInvalid
from orchestrator.study.loader import parse_study
from orchestrator.study.metric_names import metric_names, resolve, usual_primary
from orchestrator.study.regimes import full_name, home_of, main_regime, regimes, split_name
from orchestrator.study.spec import StudySpec

from .test_protocols import HEAD

PROTOCOLS = """\
protocols:
  continual: {strategies: [naive, replay]}
  standard:
  long_tailed: {methods: [plain, drw]}
  told: {protocol: continual, scenario: task_il, strategies: [joint, lwf]}
  tail_10: {protocol: long_tailed, factor: 10}
"""
TAIL = "protocols: {long_tailed: {methods: [drw, plain]}}\n"
STREAM = "protocols: {continual: {scenario: task_il, strategies: [joint, naive]}}\n"


def study(protocols: str = PROTOCOLS, primary: str = "") -> StudySpec:
    report = f"report: {{primary: [{primary}]}}\n" if primary else ""
    return parse_study(HEAD + protocols + report, "small.yaml")


@pytest.mark.parametrize(
    ("name", "regime"),
    [
        ("test/accuracy", "standard"),
        ("ood/far/msp/auroc", "standard"),
        ("imbalance/worst_class", "long_tailed/plain"),
        ("imbalance/ece_15/few", "long_tailed/plain"),
        ("continual/class_il/forgetting", "continual/naive"),
        # The first of the scenario, though a study has other streams before it.
        ("continual/task_il/accuracy", "told/joint"),
        # Nobody's: it is looked for where all else is.
        ("continual/domain_il/accuracy", "standard"),
    ],
)
def test_a_name_alone_means_the_first_regime_that_has_it(name: str, regime: str) -> None:
    assert home_of(name, study()) == regime
    assert split_name(name, study()) == (regime, name)
    assert full_name(regime, name, study()) == name


def test_a_regime_may_stand_before_a_name_and_goes_where_it_says_nothing() -> None:
    spec = study()
    assert split_name("long_tailed/drw:test/accuracy", spec) == ("long_tailed/drw", "test/accuracy")
    assert resolve("long_tailed/drw:test/accuracy", spec) == "long_tailed/drw:test/accuracy"
    assert resolve("long_tailed/plain:imbalance/g_mean", spec) == "imbalance/g_mean"
    assert resolve("standard:test/accuracy", spec) == "test/accuracy"
    assert resolve("tail_10/plain:imbalance/g_mean", spec) == "tail_10/plain:imbalance/g_mean"


def test_the_headline_score_and_the_usual_direction_are_filled_in_behind_a_regime() -> None:
    expected = "long_tailed/drw:ood/far/msp/fpr95_id_positive"
    assert resolve("long_tailed/drw:ood/far/fpr95", study()) == expected
    assert resolve("ood/far/fpr95", study()) == "ood/far/msp/fpr95_id_positive"


def test_the_colon_of_a_score_is_no_regimes() -> None:
    name = "ood/far/energy:T=0.1/auroc"
    assert split_name(name, study()) == ("standard", name)
    assert split_name(f"long_tailed/drw:{name}", study()) == ("long_tailed/drw", name)


def test_every_regime_has_the_names_of_its_protocol_and_no_others() -> None:
    spec = study()
    by_regime: dict[str, set[str]] = {name: set() for name in regimes(spec)}
    for full in metric_names(spec):
        regime, name = split_name(full, spec)
        by_regime[regime].add(name)
    standard = by_regime["standard"]
    assert {
        "test/accuracy",
        "ood/far/msp/auroc",
        "ood/cifar100/knn/oscr",
        "calibration/ece_15_ts",
    } <= standard
    imbalance = {f"imbalance/{word}" for word in ("balanced_accuracy", "worst_class", "macro_f1", "g_mean")}
    groups = {f"imbalance/{k}/{g}" for k in ("accuracy", "ece_15") for g in ("many", "medium", "few")}
    for regime in ("long_tailed/plain", "long_tailed/drw", "tail_10/plain"):
        assert by_regime[regime] == standard | imbalance | groups
    always = {"accuracy", "ece_15", "ece_15_ts", "auroc_near", "auroc_far"}
    forgetting = {
        *("average_incremental_accuracy", "bwt", "forgetting", "forgetting_avalanche"),
        *("forgetting_mammoth", "learning_accuracy"),
    }
    masked = {f"masked/{word}" for word in {"accuracy"} | forgetting}
    for regime in ("continual/naive", "continual/replay"):
        expected = {f"continual/class_il/{word}" for word in always | forgetting | masked}
        assert by_regime[regime] == expected
    assert by_regime["told/joint"] == {f"continual/task_il/{word}" for word in always}
    # Only where the labels mean something before they are learned is there a forward transfer.
    assert by_regime["told/lwf"] == {f"continual/task_il/{word}" for word in always | forgetting | {"fwt"}}


def test_a_name_stands_once_among_all() -> None:
    names = metric_names(study())
    assert len(names) == len(set(names))
    assert all(resolve(name, study()) == name for name in names)


def test_a_standard_study_has_no_regime_in_any_name() -> None:
    names = metric_names(study("protocols: [standard]\n"))
    assert names == metric_names(study(""))
    assert not any(name.startswith(("imbalance/", "continual/")) for name in names)


def test_the_primary_family_may_span_regimes() -> None:
    spec = study(
        primary="imbalance/balanced_accuracy, continual/class_il/forgetting, "
        '"long_tailed/drw:imbalance/worst_class", test/accuracy, "told/lwf:continual/task_il/bwt", '
        '"long_tailed/drw:ood/far/fpr95"'
    )
    assert len(spec.report.primary) == 6
    known = metric_names(spec)
    assert all(resolve(name, spec) in known for name in spec.report.primary)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("continual/class_il/fwt", "unknown metric"),
        ('"told/joint:continual/task_il/forgetting"', "unknown metric"),
        ('"long_tailed/drw:continual/class_il/accuracy"', "unknown metric"),
        ('"continual/naive:test/accuracy"', "unknown metric"),
        ("imbalance/ece_10/few", "Did you mean 'imbalance/ece_15/few'?"),
        ('"long_tailed/crt:imbalance/g_mean"', "Did you mean 'long_tailed/drw:imbalance/g_mean'?"),
    ],
)
def test_a_name_that_a_regime_has_not_is_refused(name: str, says: str) -> None:
    with pytest.raises(StudyInvalid, match=r"report\.primary: ") as refused:
        study(primary=name)
    assert says in str(refused.value)


def test_a_side_without_a_set_is_refused_behind_a_regime_too() -> None:
    text = HEAD.replace("near_ood: [cifar100], ", "") + TAIL
    text += 'report: {primary: ["long_tailed/plain:ood/near/fpr95"]}'
    with pytest.raises(StudyInvalid, match=r"needs near-OOD sets, and data\.near_ood is empty"):
        parse_study(text, "small.yaml")


@pytest.mark.parametrize(
    ("protocols", "main", "primary"),
    [
        (PROTOCOLS, "standard", ("ood/near/fpr95", "ood/far/fpr95")),
        (TAIL, "long_tailed/drw", ("imbalance/balanced_accuracy",)),
        (STREAM, "continual/joint", ("continual/task_il/accuracy",)),
    ],
)
def test_a_study_that_declares_nothing_rests_on_what_its_main_regime_is_about(
    protocols: str, main: str, primary: tuple[str, ...]
) -> None:
    spec = parse_study(f"{HEAD}report: {{confidence: 0.9}}\n{protocols}", "small.yaml")
    assert main_regime(spec) == main
    assert spec.report.primary == usual_primary(spec) == primary
    assert spec.report.confidence == 0.9


def test_what_a_study_declares_is_left_as_it_is() -> None:
    spec = study(TAIL, primary="test/accuracy")
    assert spec.report.primary == ("test/accuracy",)
    # Of the main regime, which is the long tail where a study has no other.
    assert resolve("test/accuracy", spec) == "test/accuracy"
    assert split_name("test/accuracy", spec)[0] == "long_tailed/drw"


def test_the_bins_of_calibration_are_in_the_names_of_every_regime() -> None:
    spec = study()
    fewer = dataclasses.replace(
        spec,
        evaluation=dataclasses.replace(
            spec.evaluation, calibration=dataclasses.replace(spec.evaluation.calibration, bins=7)
        ),
    )
    assert {"imbalance/ece_7/few", "continual/class_il/ece_7_ts", "calibration/ece_7"} <= set(
        metric_names(fewer)
    )
