"""The long-tailed protocol: its images, its methods, and what is measured of it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.workloads.small_trials import CNN, MLP, NOISE, TRAINING, Bench, Finished
from workloads.contract import AddedSet, DataConfig, EvaluationConfig, OODConfig
from workloads.data.long_tail import long_tail_counts, long_tail_index
from workloads.evaluation.imbalance import imbalance_metrics
from workloads.head import HeadSpec
from workloads.models.build import build_model
from workloads.protocols.long_tailed import LongTailedTrial
from workloads.run import prepare, rescore
from workloads.training.batches import Batches, Normaliser
from workloads.training.engine import Engine
from workloads.training.objective import ClassWeights
from workloads.training.seeds import derive_seed

MEASURED = EvaluationConfig(ood=OODConfig(("msp", "energy", "knn")))


def tail(bench: Bench, factor: float = 8.0, seed: int = 0) -> tuple[tuple[int, ...], Any, Any]:
    """The counts, and the images and labels that are kept."""
    train = bench.data().train()
    counts = long_tail_counts(np.bincount(train.labels).tolist(), "exp", factor)
    index = long_tail_index(train.labels, counts, seed)
    return counts, train.images[index], train.labels[index]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engine of each stage that is opened."""
    found: list[Engine] = []
    opened = LongTailedTrial.opened

    def noting(trial: LongTailedTrial, stage: int) -> Engine:
        found.append(opened(trial, stage))
        return found[-1]

    monkeypatch.setattr(LongTailedTrial, "opened", noting)
    return found


@pytest.mark.parametrize("method", ["plain", "crt", "resampling"])
def test_the_training_images_are_the_tail_and_nothing_else(
    bench: Bench, tmp_path: Path, engines: list[Engine], method: str
) -> None:
    bench.run(bench.tail(method, subset_seed=4), tmp_path)
    counts, images, labels = tail(bench, seed=4)
    assert min(counts) < max(counts) / 7
    for engine in engines:
        assert np.bincount(engine.batches.labels).tolist() == list(counts)
        assert (engine.batches.images.numpy() == images).all()
        assert (engine.batches.labels.numpy() == labels).all()


def test_a_loss_is_told_the_counts_of_the_tail(bench: Bench, tmp_path: Path, engines: list[Engine]) -> None:
    bench.run(bench.tail(loss="hem_plus"), tmp_path)
    counts = tail(bench)[0]
    margins = [(2000 / (6 * n)) ** 0.5 for n in counts]
    cap = 10 * (2000 / sum(counts)) ** 0.5
    expected = [min(margin, cap) for margin in margins]
    assert engines[0].loss.margins.tolist() == pytest.approx(expected, rel=1e-9)  # type: ignore[operator]


def by_hand(bench: Bench, weights: list[list[float]], beta: float = 0.9999) -> dict[str, torch.Tensor]:
    """A plain loop on the same batches: F.cross_entropy with the class weights of each step."""
    _, images, labels = tail(bench)
    torch.manual_seed(derive_seed(0, "model"))
    model = build_model(MLP, bench.facts().image_shape, 6, HeadSpec())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    batches = Batches(torch.from_numpy(images), torch.from_numpy(labels), 6, TRAINING, 0)
    normalise = Normaliser(bench.data().mean, bench.data().std, torch.device("cpu"))
    steps = iter(weights)
    for epoch in (1, 2):
        for batch in batches.epoch(epoch, normalise):
            value = F.cross_entropy(model(batch.images).logits, batch.labels, torch.tensor(next(steps)))
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert next(steps, None) is None
    return model.state_dict()


def effective(bench: Bench, beta: float) -> list[float]:
    """(1 - beta) / (1 - beta^n), scaled to a sum of the classes."""
    raw = [(1 - beta) / (1 - beta**n) for n in tail(bench)[0]]
    return [each / sum(raw) * 6 for each in raw]


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"method": "class_balanced"}, 0),
        ({"method": "class_balanced", "beta": 0.9}, 0),
        # Eight steps: half of the training is over before the fifth, five eighths before the sixth.
        ({"method": "drw", "drw_from": 0.5}, 4),
        ({"method": "drw", "drw_from": 0.65}, 6),
        ({"method": "drw", "drw_from": 1.0}, 8),
    ],
)
def test_classes_are_weighted_as_torch_would_from_the_step_that_is_due(
    bench: Bench, tmp_path: Path, settings: dict[str, Any], first: int
) -> None:
    done = bench.run(bench.tail(**settings), tmp_path)
    steps = 2 * len(range(0, sum(tail(bench)[0]), 16))
    assert steps == 8
    weights = effective(bench, settings.get("beta", 0.9999))
    assert max(weights) > 1.5 > 0.6 > min(weights)
    expected = by_hand(bench, [[1.0] * 6] * first + [weights] * (steps - first))
    for key, value in expected.items():
        torch.testing.assert_close(done.weights[key], value, rtol=1e-5, atol=1e-6)


def test_weights_hold_from_their_share_of_the_training_on() -> None:
    weights = ClassWeights(torch.tensor([0.5, 2.0]), 0.6)
    labels = torch.tensor([1, 0, 1])
    for progress, expected in ((0.0, [1, 1, 1]), (0.599, [1, 1, 1]), (0.6, [2, 0.5, 2]), (1.0, [2, 0.5, 2])):
        now = torch.tensor(progress, dtype=torch.float64)
        assert weights.of(labels, now).tolist() == expected


def test_resampling_draws_every_class_equally_often(
    bench: Bench, tmp_path: Path, engines: list[Engine]
) -> None:
    bench.run(bench.tail("resampling", epochs=1), tmp_path)
    batches = engines[0].batches
    drawn = np.zeros(6)
    images: set[int] = set()
    for epoch in range(1, 101):
        order = batches._order(epoch, None)
        images |= set(order.tolist())
        assert len(order) == len(batches.labels)
        drawn += np.bincount(batches.labels[order].numpy(), minlength=6)
    expected = drawn.sum() / 6
    # 20.5: the 99.9 % quantile of chi-square with 5 degrees of freedom. Unbalanced draws give thousands.
    assert ((drawn - expected) ** 2 / expected).sum() < 20.5
    assert len(images) == len(batches.labels)


def saved(done: Finished, name: str) -> dict[str, Any]:
    return dict(np.load(done.folder / "outputs" / f"{name}.npz"))


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_logit_adjustment_takes_the_log_of_the_class_shares_off_a_plain_training(
    bench: Bench, tmp_path: Path, tau: float
) -> None:
    plain = bench.run(bench.tail(), tmp_path / "plain")
    done = bench.run(bench.tail("logit_adjustment", tau=tau), tmp_path / "adjusted")
    assert all(torch.equal(done.weights[key], value) for key, value in plain.weights.items())
    counts = np.array(tail(bench)[0])
    shares = counts / counts.sum()
    for name in ("id_test", "id_validation", "held_out", "uniform", "noise_0.25"):
        Z, adjusted = saved(plain, name)["logits"], saved(done, name)["logits"]
        np.testing.assert_allclose(adjusted, Z - tau * np.log(shares), atol=1e-5)
    Z, y = saved(plain, "id_test")["logits"], saved(plain, "id_test")["labels"]
    right = ((Z - tau * np.log(shares)).argmax(1) == y).mean()
    assert done.metrics["test/accuracy"] == pytest.approx(right, abs=1e-12)
    held = saved(done, "id_validation")
    right = (held["logits"].argmax(1) == held["labels"]).mean()
    assert done.metrics["validation/accuracy"] == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "normface", "godin"])
def test_crt_trains_a_new_head_on_balanced_batches_and_leaves_the_trunk_alone(
    bench: Bench, tmp_path: Path, engines: list[Engine], monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    heads: list[dict[str, torch.Tensor]] = []
    renew = LongTailedTrial._renew_head

    def noting(trial: LongTailedTrial) -> None:
        heads.append(copy.deepcopy(trial.model.head.state_dict()))
        renew(trial)
        heads.append(copy.deepcopy(trial.model.head.state_dict()))

    monkeypatch.setattr(LongTailedTrial, "_renew_head", noting)
    model = dataclasses.replace(CNN, projector=5)
    plain = bench.run(bench.tail(loss=loss, model=model), tmp_path / "plain")
    engines.clear()
    done = bench.run(bench.tail("crt", loss=loss, model=model, crt_epochs=3), tmp_path / "crt")
    assert [engine.config.epochs for engine in engines] == [2, 3]
    assert len(done.reports) == 5
    for key, value in plain.weights.items():
        same = torch.equal(done.weights[key], value)
        assert same == (not key.startswith("head.")), key
    before, after = heads
    assert all(torch.equal(before[key], plain.weights[f"head.{key}"]) for key in before)
    weight = after["weight"]
    assert not torch.allclose(weight, before["weight"])
    # Nor is it the first stage's head at its start, which one seed would have drawn again.
    torch.manual_seed(derive_seed(0, "model"))
    first = build_model(model, bench.facts().image_shape, 6, engines[1].loss.head)
    assert not torch.allclose(weight, first.head.weight)
    assert not torch.allclose(done.weights["head.weight"], weight)
    trained = {id(p) for p in engines[1].parameters}
    assert trained == {id(p) for p in engines[1].model.head.parameters()}
    order = torch.cat([engines[1].batches._order(epoch, None) for epoch in range(1, 51)])
    drawn = np.bincount(engines[1].batches.labels[order], minlength=6) / len(order)
    assert np.abs(drawn - 1 / 6).max() < 0.02
    assert engines[0].batches.weights is None
    assert engines[1].seed != engines[0].seed


def test_crt_keeps_its_warm_up_shorter_than_its_second_stage(
    bench: Bench, tmp_path: Path, engines: list[Engine]
) -> None:
    config = bench.tail("crt", crt_epochs=1, epochs=3, warmup_epochs=2, schedule="cosine")
    bench.run(config, tmp_path)
    assert [engine.config.warmup_epochs for engine in engines] == [2, 0]


@pytest.mark.parametrize("method", ["drw", "logit_adjustment", "crt"])
def test_all_measures_are_there_and_those_of_imbalance_are_of_the_saved_outputs(
    bench: Bench, tmp_path: Path, method: str
) -> None:
    done = bench.run(bench.tail(method, evaluation=MEASURED), tmp_path)
    tested = saved(done, "id_test")
    expected = imbalance_metrics(tested["logits"], tested["labels"], tail(bench)[0], 15)
    assert {k: v for k, v in done.metrics.items() if k.startswith("imbalance/")} == expected
    recalls = [(tested["logits"][tested["labels"] == c].argmax(1) == c).mean() for c in range(6)]
    assert done.metrics["imbalance/balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert done.metrics["imbalance/recall/5"] == pytest.approx(recalls[5], abs=1e-12)
    assert done.metrics["imbalance/train_images/0"] == max(tail(bench)[0])
    for metric in (
        "ood/near/msp/auroc",
        "ood/far/knn/auroc",
        "ood/uniform/energy/fpr95_id_positive",
        "calibration/ece_15",
        "calibration/temperature",
        "geometry/wc_intra",
    ):
        assert metric in done.metrics, sorted(done.metrics)
    assert len(saved(done, "id_train")["labels"]) == sum(tail(bench)[0])
    assert any("thirds" in note for note in done.result.notes)


@pytest.mark.parametrize("method", ["logit_adjustment", "crt"])
def test_a_long_tailed_trial_is_scored_again_with_the_numbers_that_it_had(
    bench: Bench, tmp_path: Path, method: str
) -> None:
    scores = ("msp", "energy", "odin", "knn")
    evaluation = EvaluationConfig(measures=("ood",), ood=OODConfig(scores))
    whole = bench.run(bench.tail(method, evaluation=evaluation, model=CNN), tmp_path / "whole")
    bare = bench.run(bench.tail(method, model=CNN), tmp_path / "bare")
    other = DataConfig("digits", id_classes=(0, 1, 2, 3, 4, 5), far_ood=("blobs",), train_fraction=0.25)
    facts = prepare(other, NOISE, bench.root)
    added = {"blobs": AddedSet("blobs", other, facts.hash)}
    found, _ = rescore(bare.config, scores, added, folder=bare.folder, data_root=bench.root)
    before = {k: v for k, v in whole.metrics.items() if k.startswith(("ood/", "selective/"))}
    assert len(before) > 20
    assert any("odin" in name for name in before)
    same = {name: found[name] for name in before}
    assert same == pytest.approx(before, abs=1e-12)
    new = saved(bare, "blobs")["logits"]
    assert new.shape[1] == 6
    assert "ood/blobs/odin/auroc" in found
    for name in ("id_test", "uniform"):
        np.testing.assert_array_equal(saved(bare, name)["logits"], saved(whole, name)["logits"])
