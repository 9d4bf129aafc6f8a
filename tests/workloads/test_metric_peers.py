"""Every metric against other programs: scikit-learn, pytorch-ood, and loops written from the definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_ood.metrics import OODMetrics, aurra, calibration_error, oscr_score
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    auc,
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from tests.workloads.score_cases import finite_scores
from workloads.evaluation.calibration import calibration_metrics, reliability
from workloads.evaluation.calibration_errors import (
    adaptive_calibration_error,
    expected_calibration_error,
    kolmogorov_smirnov_error,
)
from workloads.evaluation.ood import oscr, rejection_metrics
from workloads.evaluation.selective import selective_metrics

Array = npt.NDArray[Any]


CASES = sorted(finite_scores())


def _fpr95(positive: Array, ranked: Array) -> float:
    fpr, tpr, _ = roc_curve(positive, ranked, drop_intermediate=False)
    return float(fpr[np.flatnonzero(tpr >= 0.95)[0]])


@pytest.mark.parametrize("case", CASES)
def test_every_rejection_metric_agrees_with_scikit_learn(case: str) -> None:
    known, unknown = finite_scores()[case]
    truth = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    scores = np.concatenate([known, unknown])
    expected = {
        "fpr95_id_positive": _fpr95(truth, scores),
        "fpr95_ood_positive": _fpr95(1 - truth, -scores),
        "auroc": float(roc_auc_score(truth, scores)),
        "aupr_in": float(average_precision_score(truth, scores)),
        "aupr_out": float(average_precision_score(1 - truth, -scores)),
        "id_prevalence": float(truth.mean()),
    }
    metrics = rejection_metrics(known, unknown)
    # Sums of at most 800 quotients of whole numbers.
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


def _pytorch_ood(known: Array, unknown: Array) -> dict[str, float]:
    """Its metrics; it wants the OOD images as the class to be found, with high scores and labels below 0."""
    outlier_scores = -torch.from_numpy(np.concatenate([known, unknown]))
    labels = torch.cat([torch.zeros(len(known)), -torch.ones(len(unknown))]).long()
    found: dict[str, float] = OODMetrics().update(outlier_scores, labels).compute()
    return found


@pytest.mark.filterwarnings("ignore:.*AUTC")
@pytest.mark.parametrize("case", CASES)
def test_auroc_and_both_fpr95_agree_with_pytorch_ood(case: str) -> None:
    known, unknown = finite_scores()[case]
    metrics = rejection_metrics(known, unknown)
    theirs, swapped = _pytorch_ood(known, unknown), _pytorch_ood(-unknown, -known)
    # It sums trapezoids of float64 shares where we count.
    assert metrics["auroc"] == pytest.approx(theirs["AUROC"], abs=1e-12)
    assert metrics["fpr95_ood_positive"] == pytest.approx(theirs["FPR95TPR"], abs=1e-15)
    assert metrics["fpr95_id_positive"] == pytest.approx(swapped["FPR95TPR"], abs=1e-15)


@pytest.mark.filterwarnings("ignore:.*AUTC")
@pytest.mark.parametrize("case", CASES)
def test_aupr_of_pytorch_ood_is_the_trapezoid_of_the_curve_that_ours_steps_along(case: str) -> None:
    known, unknown = finite_scores()[case]
    theirs, ours = _pytorch_ood(known, unknown), rejection_metrics(known, unknown)
    truth = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    scores = np.concatenate([known, unknown])
    for name, key, positive, ranked in (
        ("AUPR-IN", "aupr_in", truth, scores),
        ("AUPR-OUT", "aupr_out", 1 - truth, -scores),
    ):
        precision, recall, _ = precision_recall_curve(positive, ranked)
        assert theirs[name] == pytest.approx(auc(recall, precision), abs=1e-12)
        steps = float(-(np.diff(recall) * precision[:-1]).sum())
        triangles = float(-(np.diff(recall) * np.diff(precision)).sum()) / 2
        assert ours[key] == pytest.approx(steps, abs=1e-12)
        assert theirs[name] - ours[key] == pytest.approx(triangles, abs=1e-12)


def test_the_two_auprs_agree_where_precision_never_changes_and_part_where_scores_tie() -> None:
    separated, equal = finite_scores()["perfectly separated"], finite_scores()["all equal"]
    assert rejection_metrics(*separated)["aupr_in"] == 1.0
    assert _pytorch_ood(*separated)["AUPR-IN"] == pytest.approx(1.0, abs=1e-15)
    with pytest.warns(UserWarning, match="AUTC"):
        trapezoid = _pytorch_ood(*equal)["AUPR-IN"]
    # One threshold, precision .6: the trapezoid joins it to precision 1 at recall 0, and flatters by .2.
    assert rejection_metrics(*equal)["aupr_in"] == pytest.approx(0.6, abs=1e-15)
    assert trapezoid == pytest.approx(0.8, abs=1e-15)


def test_saturation_in_float32_is_lost_in_the_scores_and_not_in_the_metrics() -> None:
    rng = np.random.default_rng(6)
    known, unknown = rng.normal(25, 6, 2000), rng.normal(12, 4, 2000)
    saturated = [1 / (1 + np.exp(-z.astype(np.float32))) for z in (known, unknown)]
    assert saturated[0].dtype == np.float32
    exact, lost = rejection_metrics(known, unknown), rejection_metrics(saturated[0], saturated[1])
    for ours, theirs in ((exact, _pytorch_ood(known, unknown)), (lost, _pytorch_ood(*saturated))):
        assert ours["fpr95_ood_positive"] == pytest.approx(theirs["FPR95TPR"], abs=1e-15)
        assert ours["auroc"] == pytest.approx(theirs["AUROC"], abs=1e-12)
    assert exact["tied_fraction"] == 0.0
    assert lost["tied_fraction"] > 0.5
    assert lost["fpr95_ood_positive"] > exact["fpr95_ood_positive"] + 0.2


@pytest.mark.parametrize("case", CASES)
def test_oscr_agrees_with_pytorch_ood(case: str) -> None:
    known, unknown = finite_scores()[case]
    correct = np.random.default_rng(4).random(len(known)) < 0.8
    labels = torch.cat([torch.ones(len(known)), -torch.ones(len(unknown))]).long()
    predictions = torch.from_numpy(np.concatenate([correct, np.zeros(len(unknown))])).long()
    theirs = oscr_score(-torch.from_numpy(np.concatenate([known, unknown])), predictions, labels)
    assert oscr(known, correct, unknown) == pytest.approx(theirs, abs=1e-12)  # it sums trapezoids


@pytest.mark.parametrize("case", ["random", "heavily tied", "saturated"])
def test_failure_detection_agrees_with_scikit_learn(case: str) -> None:
    scores = finite_scores()[case][0]
    correct = np.random.default_rng(5).random(len(scores)) < 0.3 + 0.6 * (scores > np.median(scores))
    metrics = selective_metrics(scores, correct)
    assert metrics["failure_auroc"] == pytest.approx(roc_auc_score(~correct, -scores), abs=1e-12)
    assert metrics["failure_aupr"] == pytest.approx(average_precision_score(~correct, -scores), abs=1e-12)
    assert metrics["failure_fpr95"] == pytest.approx(_fpr95(~correct, -scores), abs=1e-15)


def test_aurc_is_one_less_the_mean_accuracy_of_pytorch_ood_without_ties() -> None:
    # With ties its result depends on the order of the images.
    rng = np.random.default_rng(7)
    scores, correct = rng.permutation(500) * 1.0, rng.random(500) < 0.8
    theirs = aurra(torch.from_numpy(scores), torch.from_numpy(correct))
    assert selective_metrics(scores, correct)["aurc"] == pytest.approx(1 - theirs, abs=1e-12)


def _network(images: int) -> tuple[Array, Array]:
    """Logits, and labels drawn from their own softmax."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(images, 6)) * 2.0
    p = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((images, 1)) > p).sum(axis=1).clip(0, 5)


def _ece(promised: list[float], kept: list[bool], bins: int) -> float:
    ece = 0.0
    for i in range(bins):
        inside = [k for k, c in enumerate(promised) if i / bins < c <= (i + 1) / bins or (c == 0 and i == 0)]
        if inside:
            mean = math.fsum(promised[k] for k in inside) / len(inside)
            accuracy = sum(kept[k] for k in inside) / len(inside)
            ece += len(inside) / len(promised) * abs(mean - accuracy)
    return ece


def _adaptive(promised: list[float], kept: list[bool], bins: int) -> float:
    n, total = len(promised), 0.0
    ranked = sorted(promised)
    rate = {c: np.mean([k for p, k in zip(promised, kept, strict=True) if p == c]) for c in ranked}
    for i in range(bins):
        inside = ranked[i * n // bins : (i + 1) * n // bins]
        total += abs(math.fsum(inside) - math.fsum(float(rate[c]) for c in inside))
    return total / n


def _ks(promised: list[float], kept: list[bool]) -> float:
    def gap(t: float) -> float:
        return abs(math.fsum(c - k for c, k in zip(promised, kept, strict=True) if c <= t))

    return max(gap(t) for t in set(promised)) / len(promised)


def _naive(logits: Array, labels: Array, temperature: float, bins: int) -> dict[str, float]:
    """The same metrics, image after image, as the definitions read."""
    p = softmax(logits / temperature, axis=1)
    promised = [float(row.max()) for row in p]
    kept = [bool(row.argmax() == y) for row, y in zip(p, labels, strict=True)]
    one_hot = np.eye(p.shape[1])[labels]
    log_p = log_softmax(logits / temperature, axis=1)
    by_class = [_ece(p[:, c].tolist(), (labels == c).tolist(), bins) for c in range(p.shape[1])]
    return {
        f"ece_{bins}": _ece(promised, kept, bins),
        f"ece_adaptive_{bins}": _adaptive(promised, kept, bins),
        f"ece_classwise_{bins}": sum(by_class) / len(by_class),
        "ks": _ks(promised, kept),
        "nll": -math.fsum(log_p[np.arange(len(p)), labels]) / len(p),
        "brier": math.fsum(((p - one_hot) ** 2).sum(axis=1)) / len(p),
    }


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_metrics_agree_with_a_plain_loop(temperature: float, bins: int) -> None:
    logits, labels = _network(400)
    metrics = calibration_metrics(logits, labels, temperature, bins)
    # Sums of 400 numbers of 0..1, of which each may be an ulp off (scipy's softmax is not ours).
    assert metrics == pytest.approx(_naive(logits, labels, temperature, bins), abs=1e-12)


def _promises(case: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(9)
    drawn = {
        "random": rng.random(101),
        "tied": rng.integers(3, 9, 101) / 9,
        "saturated": np.where(rng.random(101) < 0.5, 1.0, rng.random(101)),
        "all equal": np.full(101, 0.7),
        "zero and one": rng.integers(0, 2, 101) * 1.0,
        "fewer than bins": rng.random(4),
    }[case]
    return drawn, (rng.random(len(drawn)) < 0.6).astype(np.float64)


@pytest.mark.parametrize(
    "case", ["random", "tied", "saturated", "all equal", "zero and one", "fewer than bins"]
)
def test_the_errors_agree_with_plain_loops_and_know_no_order_of_images(case: str) -> None:
    promised, kept = _promises(case)
    order = np.random.default_rng(0).permutation(len(promised))
    sample: tuple[list[float], list[bool]] = promised.tolist(), (kept == 1).tolist()
    expected = (_ece(*sample, 15), _adaptive(*sample, 15), _ks(*sample))
    for p, k in ((promised, kept), (promised[order], kept[order])):
        errors = (
            expected_calibration_error(p, k, 15),
            adaptive_calibration_error(p, k, 15),
            kolmogorov_smirnov_error(p, k),
        )
        assert errors == pytest.approx(expected, abs=1e-13)  # sums of 101 numbers of 0..1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_brier_and_nll_agree_with_scikit_learn(temperature: float) -> None:
    logits, labels = _network(2000)
    p = softmax(logits / temperature, axis=1)
    metrics = calibration_metrics(logits, labels, temperature, 15)
    brier = brier_score_loss(labels, p, labels=range(6), scale_by_half=False)
    assert metrics["brier"] == pytest.approx(brier, abs=1e-12)
    assert metrics["nll"] == pytest.approx(log_loss(labels, p, labels=range(6)), abs=1e-12)


def _of_curve(promised: Array, kept: Array, bins: int) -> float:
    """ECE from scikit-learn's reliability curve, which leaves out empty bins and does not count."""
    accuracy, confidence = calibration_curve(kept, promised, n_bins=bins, strategy="uniform")
    index = np.ceil(promised * bins).clip(1).astype(int)
    counts = np.unique(index, return_counts=True)[1]
    return float((counts * np.abs(accuracy - confidence)).sum() / len(promised))


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_ece_and_the_diagram_agree_with_scikit_learns_curve(temperature: float, bins: int) -> None:
    logits, labels = _network(2000)
    p = softmax(logits / temperature, axis=1)
    top, right = p.max(axis=1), p.argmax(axis=1) == labels
    metrics = calibration_metrics(logits, labels, temperature, bins)
    assert metrics[f"ece_{bins}"] == pytest.approx(_of_curve(top, right, bins), abs=1e-12)
    by_class = [_of_curve(p[:, c], labels == c, bins) for c in range(6)]
    assert metrics[f"ece_classwise_{bins}"] == pytest.approx(np.mean(by_class), abs=1e-12)
    diagram = reliability(logits, labels, temperature, bins)
    present = np.array(diagram["count"]) > 0
    accuracy, confidence = calibration_curve(right, top, n_bins=bins, strategy="uniform")
    assert np.array(diagram["accuracy"])[present] == pytest.approx(accuracy, abs=1e-12)
    assert np.array(diagram["confidence"])[present] == pytest.approx(confidence, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 4, 20])
def test_adaptive_ece_agrees_with_scikit_learns_quantiles_and_with_pytorch_ood(bins: int) -> None:
    # 2000 images without ties in bins of equal size, where all three part the images alike. pytorch-ood 0.4
    # counts the most confident bin, which the code that it follows leaves out.
    logits, labels = _network(2000)
    p = softmax(logits, axis=1)
    top, right = p.max(axis=1), p.argmax(axis=1) == labels
    ours = calibration_metrics(logits, labels, 1.0, bins)[f"ece_adaptive_{bins}"]
    accuracy, confidence = calibration_curve(right, top, n_bins=bins, strategy="quantile")
    assert ours == pytest.approx(np.abs(accuracy - confidence).mean(), abs=1e-12)
    theirs = calibration_error(torch.from_numpy(top), torch.from_numpy(right), p="1", beta=2000 // bins)
    assert ours == pytest.approx(theirs, abs=1e-12)
