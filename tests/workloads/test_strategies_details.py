"""What strategies keep, and what they ask of a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workloads.small_trials import CNN, Bench
from workloads.contract import AugmentationConfig
from workloads.data.streams import make_stream
from workloads.head import HeadOutput
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.cosine import NormFace
from workloads.training.strategies.distillation import LwF
from workloads.training.strategies.penalties import L2
from workloads.training.strategies.replay import Replay


@pytest.mark.parametrize("stream", ["permuted", "split"])
def test_the_reservoir_holds_images_as_they_were_presented_with_the_task_that_showed_them(
    bench: Bench, tmp_path: Path, stream: str
) -> None:
    augmentation = AugmentationConfig(flip=True, crop=2, erasing=1.0)
    config = bench.stream(
        "replay", "domain_il", stream=stream, buffer=60, epochs=1, augmentation=augmentation, seed=2
    )
    rows = bench.run(config, tmp_path).checkpoint.engine["objective"]["reservoir"]["columns"]
    train, facts = bench.data().train(), bench.facts()
    tasks = make_stream(stream, "domain_il", 3, 6, facts.image_shape, 2).tasks  # type: ignore[arg-type]
    assert rows["images"].dtype == torch.uint8
    assert len(rows["images"]) == 60
    assert set(rows["tasks"].tolist()) == {0, 1, 2}
    for image, label, number in zip(rows["images"], rows["labels"], rows["tasks"], strict=True):
        task = tasks[int(number)]
        index = task.index(train.labels)
        shown, labels = task.present(train.images[index]), task.relabel(train.labels[index])
        same = (shown == image.numpy()).all(axis=(1, 2, 3))
        assert same.any()
        assert int(label) in labels[same]


def test_the_reservoir_is_offered_every_image_of_every_step(bench: Bench, tmp_path: Path) -> None:
    done = bench.run(bench.stream("replay", epochs=2), tmp_path)
    state = done.checkpoint.engine["objective"]
    images = bench.facts().num_train
    assert state["reservoir"]["seen"] == 2 * images
    # Two epochs of three tasks of 48 images or so, in batches of 16: a draw a step, but for the first step.
    counts = [sum(np.bincount(bench.data().train().labels)[list(t)]) for t in ((0, 1), (2, 3), (4, 5))]
    assert sum(counts) == images
    steps = done.reports[-1].metrics["train/forward_passes"] - 2 * images
    assert steps == 8 * state["drawn"]


def test_each_replayed_image_is_augmented_anew(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    presented = Replay._presented

    def noting(strategy: Replay, images: torch.Tensor) -> torch.Tensor:
        result = presented(strategy, images)
        pairs.append((images.clone(), result.clone()))
        return result

    monkeypatch.setattr(Replay, "_presented", noting)
    config = bench.stream("replay", buffer=1, replay_batch=1, augmentation=AugmentationConfig(crop=3))
    bench.run(config, tmp_path)
    seen: dict[bytes, set[bytes]] = {}
    for image, result in pairs:
        seen.setdefault(image.numpy().tobytes(), set()).add(result.contiguous().numpy().tobytes())
    assert max(len(views) for views in seen.values()) > 5


def test_classes_to_come_are_not_asked_by_derpp(bench: Bench, tmp_path: Path) -> None:
    # Class frequencies taken off the logits: there are none of classes that have not come.
    config = bench.stream("derpp", loss="logit_adjustment", loss_params={"apply": "evaluation"})
    rows = bench.run(config, tmp_path).checkpoint.engine["objective"]["reservoir"]["columns"]
    assert rows["logits"].isfinite().all()
    assert (rows["logits"] != 0).eq(rows["compared"]).all()
    assert sorted(set(rows["compared"].sum(dim=1).tolist())) == [2, 4, 6]


def test_a_scale_that_follows_the_batch_can_be_held_to_old_logits(bench: Bench, tmp_path: Path) -> None:
    done = bench.run(bench.stream("derpp", loss="adacos"), tmp_path)
    assert all(np.isfinite(each.metrics["train/loss"]) for each in done.reports)


@pytest.mark.parametrize("loss", ["t2fnorm", "modified_softmax", "normface"])
def test_what_is_kept_of_a_step_was_said_before_the_step(
    bench: Bench, tmp_path: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These losses read the head's rows, or a learned scale, once more where their logits are asked."""
    from workloads.training.strategies.replay import DarkReplay

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    said: list[torch.Tensor] = []
    value, kept = DarkReplay.value, DarkReplay.kept

    def noting(strategy: Any, of: Any, output: HeadOutput, batch: Any) -> Any:
        own = output.rows(slice(len(batch.labels)))
        said.append(strategy._answers(of, own, strategy.task.tasks[batch.index]).detach().clone())
        return value(strategy, of, output, batch)

    def keeping(strategy: Any, of: Any, output: HeadOutput, batch: Any) -> Any:
        rows = kept(strategy, of, output, batch)
        pairs.append((said[-1], rows["logits"].clone()))
        return rows

    monkeypatch.setattr(DarkReplay, "value", noting)
    monkeypatch.setattr(DarkReplay, "kept", keeping)
    params = {"learn_s": True} if loss == "normface" else {}
    bench.run(bench.stream("derpp", loss=loss, loss_params=params, epochs=1, lr=0.01), tmp_path)
    assert len(pairs) > 5
    assert all(torch.equal(before, after) for before, after in pairs)


def test_the_teacher_is_the_model_at_the_end_of_the_last_task_and_stays_so(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    end = LwF.end_task

    def noting(strategy: LwF, loss: Any) -> None:
        if strategy.teacher is not None:
            now = strategy.teacher.state_dict()
            assert all(torch.equal(now[key], value) for key, value in kept[-1].items())
        kept.append({k: v.clone() for k, v in strategy.model.state_dict().items()})
        end(strategy, loss)

    monkeypatch.setattr(LwF, "end_task", noting)
    done = bench.run(bench.stream("lwf", model=CNN), tmp_path)
    teacher = done.checkpoint.engine["objective"]["teacher"]
    assert len(kept) == 2
    assert all(torch.equal(teacher[key], value) for key, value in kept[-1].items())


def test_distillation_does_not_move_what_the_teacher_says_by_a_learned_scale() -> None:
    # KL(p' || p) of s c' and s c: its slope in s, by hand, with p' held.
    loss = NormFace(s=3.0, learn_s=True)
    c = torch.tensor([[0.5, -0.2, 0.1]], dtype=torch.float64)
    before = torch.tensor([[0.9, -0.5, -0.1]], dtype=torch.float64)
    strategy = object.__new__(LwF)
    strategy.config = type("Settings", (), {"lwf_temperature": 2.0})()
    value = strategy._divergence(loss, HeadOutput(c), HeadOutput(before), None)
    value.backward()  # type: ignore[no-untyped-call]
    s, T = 3.0, 2.0
    p, q = (before * s / T).softmax(1), (c * s / T).softmax(1)
    assert float(value.detach()) == pytest.approx(float(T * T * (p * (p / q).log()).sum()), rel=1e-6)
    # d/dq of -sum p log q with q = softmax(s c / T), times ds/d(log s) = s.
    slope = T * T * float(((q - p) * c / T).sum()) * s
    assert loss.log_s is not None
    assert loss.log_s.grad is not None
    assert float(loss.log_s.grad) == pytest.approx(slope, rel=1e-5)


def test_ewc_holds_nothing_that_no_task_needed(bench: Bench, tmp_path: Path) -> None:
    done = bench.run(bench.stream("ewc", ewc_lambda=5.0), tmp_path)
    state = done.checkpoint.engine["objective"]
    order = make_stream("split", "class_il", 3, 6, bench.facts().image_shape, 0).tasks
    last = list(order[2].columns)
    assert (state["importance"]["head.weight"][last] == 0).all()
    others = [c for task in order[:2] for c in task.columns]
    assert (state["importance"]["head.weight"][others].sum(dim=1) > 0).all()


def test_l2_holds_every_weight_at_where_its_task_began(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, torch.Tensor]] = []
    begin = L2.begin_task

    def noting(strategy: L2, *arguments: Any) -> None:
        begun.append({name: p.detach().clone() for name, p in strategy.model.named_parameters()})
        begin(strategy, *arguments)

    monkeypatch.setattr(L2, "begin_task", noting)
    state = bench.run(bench.stream("l2"), tmp_path).checkpoint.engine["objective"]
    assert state["importance"] == {}
    assert all(torch.equal(state["anchor"][name], value) for name, value in begun[2].items())


@pytest.mark.parametrize("name", ["hem", "adacos"])
def test_a_group_of_rows_has_the_loss_of_these_rows_alone(name: str) -> None:
    from workloads.training.strategies.strategy import Columns, Strategy, TaskImages

    loss = build_loss(name, {}, LossContext(40, 4, (10, 10, 10, 10)))
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).tanh()
    labels, tasks = torch.tensor([0, 2, 1, 3, 0]), torch.tensor([0, 1, 0, 1, 0])
    groups = (torch.tensor([0, 1]), torch.tensor([2, 3]))
    strategy = object.__new__(Strategy)
    strategy.detailed = False
    strategy.task = TaskImages(1, torch.empty(0), labels, tasks, Columns(of_task=groups))
    loss.eval()
    value, _ = strategy.losses(loss, HeadOutput(logits), labels, tasks)
    first = loss(logits[[0, 2, 4]][:, [0, 1]], torch.tensor([0, 1, 0]))
    second = loss(logits[[1, 3]][:, [2, 3]], torch.tensor([0, 1]))
    assert float(value) == pytest.approx(float(3 * first + 2 * second) / 5, rel=1e-6)
