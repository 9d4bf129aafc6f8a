"""The continual protocol: columns of classes to come, what a loss is told of, the order of tasks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workloads.small_trials import CNN, SIX, TRAINING, Bench
from workloads.data.streams import make_stream
from workloads.head import HeadSpec
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.hem import HighErrorMargin, HighErrorMarginPlus
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.protocols.continual import ContinualTrial
from workloads.training.batches import Batches, Normaliser
from workloads.training.engine import Engine
from workloads.training.seeds import derive_seed
from workloads.training.strategies.replay import Replay

STRATEGIES = ("naive", "replay", "derpp", "ewc", "l2", "lwf")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("loss", ["cross_entropy", "normface", "hem"])
def test_columns_of_classes_to_come_are_neither_trained_with_nor_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, loss: str
) -> None:
    config = bench.stream(strategy, loss=loss, lr=0.01, epochs=1, model=CNN)
    whole = bench.run(config, tmp_path / "as it is")
    prepared = ContinualTrial.prepared

    def disturbed(trial: ContinualTrial) -> Classifier:
        model = prepared(trial)
        later = [c for task in trial.stream.tasks[1:] for c in task.columns]
        with torch.no_grad():
            model.head.weight[later] += 3.0
            if model.head.bias is not None:
                model.head.bias[later] += 30.0
        return model

    monkeypatch.setattr(ContinualTrial, "prepared", disturbed)
    other = bench.run(config, tmp_path / "disturbed")

    # L2 holds every weight, and what decay takes from columns to come is a part of its penalty.
    def compared(metrics: Any) -> dict[str, float]:
        left_out = ("train/loss",) if strategy == "l2" else ()
        return {key: value for key, value in metrics.items() if key not in left_out}

    assert compared(other.metrics) == compared(whole.metrics)
    for mine, theirs in zip(other.reports, whole.reports, strict=True):
        assert compared(mine.metrics) == compared(theirs.metrics)
    outputs = "outputs/stream.json"
    assert (other.folder / outputs).read_bytes() == (whole.folder / outputs).read_bytes()
    # The last task's columns started anew: nothing is left of the disturbance.
    assert all(torch.equal(value, whole.weights[key]) for key, value in other.weights.items())


@pytest.mark.parametrize(
    ("loss", "scenario"), [("cross_entropy", "class_il"), ("normface", "class_il"), ("cosface", "task_il")]
)
def test_new_classes_start_from_their_first_rows_and_cosines_at_the_old_ones_length(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, scenario: str
) -> None:
    first: list[dict[str, torch.Tensor]] = []
    before: list[torch.Tensor] = []
    opened: list[dict[str, torch.Tensor]] = []
    opening = ContinualTrial.opened

    def noting(trial: ContinualTrial, stage: int) -> Engine:
        head = trial.model.head
        if not first:
            first.append({name: value.clone() for name, value in head.state_dict().items()})
        before.append(head.weight.detach().clone())
        engine = opening(trial, stage)
        opened.append({name: value.clone() for name, value in head.state_dict().items()})
        return engine

    monkeypatch.setattr(ContinualTrial, "opened", noting)
    bench.run(bench.stream("naive", scenario, loss=loss, weight_decay=0.01, seed=6), tmp_path)
    tasks = make_stream("split", scenario, 3, 6, bench.facts().image_shape, 6).tasks  # type: ignore[arg-type]
    for number in (1, 2):
        new = list(tasks[number].columns)
        old = [c for task in tasks[:number] for c in task.columns]
        rows, start = opened[number]["weight"][new], first[0]["weight"][new]
        assert not torch.allclose(before[number][new], start, rtol=1e-4)
        assert torch.equal(opened[number]["weight"][old], before[number][old])
        if loss == "cross_entropy":
            assert torch.equal(rows, start)
            assert torch.equal(opened[number]["bias"][new], first[0]["bias"][new])
            continue
        length = float(np.mean([float(before[number][c].norm()) for c in old]))
        torch.testing.assert_close(rows.norm(dim=1), torch.full((2,), length, dtype=rows.dtype))
        torch.testing.assert_close(
            rows / rows.norm(dim=1, keepdim=True), start / start.norm(dim=1, keepdim=True)
        )


def losses_of(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[list[Any], list[list[int]]]:
    """The loss of each task, and the labels of the reservoir when the task began."""
    losses: list[Any] = []
    kept: list[list[int]] = []
    opening = ContinualTrial.opened

    def noting(trial: ContinualTrial, stage: int) -> Engine:
        held: list[int] = []
        if isinstance(trial.strategy, Replay) and len(trial.strategy.reservoir):
            held = trial.strategy.reservoir.state_dict()["columns"]["labels"].tolist()
        kept.append(held)
        engine = opening(trial, stage)
        losses.append(engine.loss)
        return engine

    with monkeypatch.context() as patch:
        patch.setattr(ContinualTrial, "opened", noting)
        bench.run(bench.stream(seed=2, epochs=1, **settings), folder)
    return losses, kept


@pytest.mark.parametrize("counts", ["task", "seen", "total"])
@pytest.mark.parametrize("strategy", ["naive", "replay", "joint"])
@pytest.mark.parametrize("scenario", ["class_il", "domain_il"])
def test_a_loss_is_told_of_the_images_of_the_task_of_those_so_far_or_of_all(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: str, strategy: str, scenario: str
) -> None:
    settings = {"counts": counts, "strategy": strategy, "scenario": scenario}
    margins, kept = losses_of(bench, tmp_path / "plus", monkeypatch, loss="hem_plus", **settings)
    single, _ = losses_of(bench, tmp_path / "hem", monkeypatch, loss="hem", **settings)
    labels = bench.data().train().labels.tolist()
    tasks = make_stream("split", scenario, 3, 6, bench.facts().image_shape, 2).tasks  # type: ignore[arg-type]
    columns = 6 if scenario == "class_il" else 2
    assert len(margins) == (1 if strategy == "joint" else 3)
    for number, (plus, hem) in enumerate(zip(margins, single, strict=True)):
        seen = 3 if strategy == "joint" else number + 1
        of = {"task": range(number, seen), "seen": range(seen), "total": range(3)}[counts]
        n = [0] * columns
        for task in (tasks[t] for t in of):
            for label, target in zip(task.classes, task.targets, strict=True):
                n[target] += labels.count(label)
        if counts == "task":
            for label in kept[number]:
                n[label] += 1
        for task in tasks[:seen]:
            for column in task.columns:
                n[column] = max(n[column], 1)
        assert isinstance(hem, HighErrorMargin)
        assert isinstance(plus, HighErrorMarginPlus)
        assert hem.mu == pytest.approx(math.sqrt(2000 / sum(n)), rel=1e-12)
        occurring = sum(c > 0 for c in n)
        cap = 10 * math.sqrt(2000 / sum(n))
        for margin, c in zip(plus.margins.tolist(), n, strict=True):
            if c == 0:
                assert math.isnan(margin)
            else:
                assert margin == pytest.approx(min(math.sqrt(2000 / (occurring * c)), cap), rel=1e-12)


def test_the_reservoir_is_counted_with_the_task(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kept = losses_of(bench, tmp_path, monkeypatch, strategy="replay", counts="task", buffer=15)
    assert [len(labels) for labels in kept] == [0, 15, 15]


def test_joint_learning_is_one_training_on_everything(bench: Bench, tmp_path: Path) -> None:
    config = bench.stream("joint", loss="hem", model=CNN)
    done = bench.run(config, tmp_path)
    data, facts = bench.data(), bench.facts()
    train = data.train()
    order = make_stream("split", "class_il", 3, 6, facts.image_shape, 0).tasks
    index = np.concatenate([task.index(train.labels) for task in order])
    counts = tuple(np.bincount(train.labels).tolist())
    loss = build_loss("hem", {}, LossContext(sum(counts), 6, counts))
    torch.manual_seed(derive_seed(0, "model"))
    model = build_model(CNN, facts.image_shape, 6, HeadSpec())
    images = torch.from_numpy(np.array(train.images[index]))
    batches = Batches(images, torch.from_numpy(train.labels[index]), 6, TRAINING, derive_seed(0, "task", 0))
    normalise = Normaliser(data.mean, data.std, torch.device("cpu"))
    engine = Engine(model, loss, batches, normalise, TRAINING, derive_seed(0, "task", 0))
    for report in done.reports:
        assert engine.train_epoch()["train/loss"] == pytest.approx(report.metrics["train/loss"], rel=1e-6)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(done.weights[key], value, rtol=1e-4, atol=1e-6)


def shown(bench: Bench, folder: Path, **settings: Any) -> dict[str, Any]:
    done = bench.run(bench.stream(epochs=1, **settings), folder)
    found: dict[str, Any] = json.loads((done.folder / "outputs" / "stream.json").read_text())
    return found


def test_tasks_follow_the_seed_and_neither_the_loss_nor_the_strategy(bench: Bench, tmp_path: Path) -> None:
    cases = [("hem", "naive"), ("normface", "replay"), ("cross_entropy", "joint"), ("mse", "ewc")]
    orders = [
        shown(bench, tmp_path / loss, loss=loss, strategy=strategy, seed=1, lr=0.01)["tasks"]
        for loss, strategy in cases
    ]
    assert all(order == orders[0] for order in orders)
    others = [shown(bench, tmp_path / f"seed {n}", seed=n)["tasks"] for n in (2, 3, 4)]
    assert all(other != orders[0] for other in others)
    natural = [shown(bench, tmp_path / f"natural {n}", seed=n, order="natural")["tasks"] for n in (2, 3)]
    assert [task["classes"] for task in natural[0]] == [[0, 1], [2, 3], [4, 5]]
    assert natural[0] == natural[1]


def test_a_split_stream_of_domains_labels_each_group_from_zero(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[torch.Tensor] = []
    task_of = ContinualTrial._task

    def noting(trial: ContinualTrial, stage: int) -> Any:
        task = task_of(trial, stage)
        found.append(task.labels)
        return task

    monkeypatch.setattr(ContinualTrial, "_task", noting)
    bench.run(bench.stream("naive", "domain_il", epochs=1, order="natural"), tmp_path)
    labels = bench.data().train().labels
    for number, shown_labels in enumerate(found):
        mine = labels[(labels == 2 * number) | (labels == 2 * number + 1)]
        assert shown_labels.tolist() == (mine - 2 * number).tolist()


def test_validation_is_of_the_task_at_work_among_the_columns_that_it_has(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[tuple[list[int], list[int]]]] = {}
    validation = ContinualTrial.validation
    for scenario in ("class_il", "task_il", "domain_il"):
        into: list[tuple[list[int], list[int]]] = []

        def noting(trial: ContinualTrial, into: Any = into) -> Any:
            images, labels, active = validation(trial)
            assert active is not None
            into.append((active.tolist(), labels.tolist()))
            return images, labels, active

        monkeypatch.setattr(ContinualTrial, "validation", noting)
        bench.run(bench.stream("naive", scenario, epochs=1, order="natural"), tmp_path / scenario)
        found[scenario] = into
    held = bench.data(SIX).validation().labels
    for number in range(3):
        own = held[(held == 2 * number) | (held == 2 * number + 1)]
        assert found["class_il"][number] == (list(range(2 * number + 2)), own.tolist())
        assert found["task_il"][number] == ([2 * number, 2 * number + 1], (own - 2 * number).tolist())
        assert found["domain_il"][number] == ([0, 1], (own - 2 * number).tolist())


def test_what_a_loss_has_learned_goes_on_in_the_next_task(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: list[float] = []
    opening, closing = ContinualTrial.opened, ContinualTrial.closed

    def opened(trial: ContinualTrial, stage: int) -> Engine:
        engine = opening(trial, stage)
        scales.append(float(engine.loss.scale.detach()))  # type: ignore[operator]
        return engine

    def closed(trial: ContinualTrial, stage: int) -> None:
        scales.append(float(trial.engine.loss.scale.detach()))  # type: ignore[operator]
        closing(trial, stage)

    monkeypatch.setattr(ContinualTrial, "opened", opened)
    monkeypatch.setattr(ContinualTrial, "closed", closed)
    params = {"learn_s": True, "lr_scale": 1.0}
    bench.run(bench.stream(loss="normface", loss_params=params), tmp_path)
    assert scales[0] == pytest.approx(16)
    assert scales[1] != scales[0]
    assert scales[1::2][:2] == scales[2::2]
