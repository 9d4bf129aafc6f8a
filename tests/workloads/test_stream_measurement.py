"""What is measured after every task, recomputed from the model of that moment by other means."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score

from tests.workloads.plain_stream import PlainStream
from tests.workloads.small_trials import CNN, Bench, Finished
from workloads.protocols.continual import ContinualTrial

Array = np.ndarray[Any, Any]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The evaluated model at the end of each task of the stream that runs."""
    found: list[Any] = []
    closed = ContinualTrial.closed

    def noting(trial: ContinualTrial, stage: int) -> None:
        found.append(copy.deepcopy(trial.engine.evaluated))
        closed(trial, stage)

    monkeypatch.setattr(ContinualTrial, "closed", noting)
    return found


def softmax(Z: Array) -> Array:
    shifted: Array = np.exp(Z - Z.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def nll(Z: Array, y: Array) -> float:
    return float(-np.log(softmax(Z)[np.arange(len(y)), y]).mean())


def ece(Z: Array, y: Array, bins: int = 15) -> float:
    """Bin by bin, (i/M, (i+1)/M]."""
    p = softmax(Z)
    sure, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for i in range(bins):
        mine = (sure > i / bins) & (sure <= (i + 1) / bins)
        if mine.any():
            total += abs(sure[mine].mean() - right[mine].mean()) * mine.sum() / len(y)
    return float(total)


def odds(Z: Array) -> Array:
    """Ranks as the highest probability does, without its rounding to 1."""
    p = np.sort(softmax(Z.astype(np.float64)), axis=1)
    return np.asarray(-np.log(p[:, :-1].sum(axis=1)))


def said(plain: PlainStream, model: Any, images: Array, columns: list[int]) -> Array:
    plain.model = model
    return plain.said(images).numpy().astype(np.float64)[:, columns]


CASES: dict[str, dict[str, Any]] = {
    "class_il": {"model": CNN, "strategy": "replay"},
    "task_il": {"scenario": "task_il"},
    "split domain_il": {"scenario": "domain_il"},
    "permuted": {"scenario": "domain_il", "stream": "permuted", "strategy": "replay"},
    "joint": {"strategy": "joint"},
    "running mean": {"ema_decay": 0.8, "strategy": "replay"},
}


@pytest.mark.parametrize("name", CASES)
def test_calibration_and_rejection_after_each_task_are_those_of_the_model_of_then(
    bench: Bench, tmp_path: Path, models: list[Any], name: str
) -> None:
    config = bench.stream(seed=1, ood_images=10**6, **CASES[name])
    done = bench.run(config, tmp_path)
    data = bench.data()
    plain = PlainStream(config, data)
    prefix = f"continual/{plain.settings.scenario}"
    kinds = {"held_out": "near", "uniform": "far", "pixel_permuted": "far"}
    last = {}
    for number, model in enumerate(models, 1):
        seen = 3 if name == "joint" else number
        tested: list[tuple[Array, Array]] = []
        held: list[tuple[Array, Array]] = []
        aurocs: dict[str, list[float]] = {}
        for task in plain.stream.tasks[:seen]:
            columns = sorted(plain.columns(task, seen))
            for part, into in ((data.test(), tested), (data.validation(), held)):
                images, labels = plain.images(task, part)
                into.append(
                    (said(plain, model, images, columns), np.array([columns.index(c) for c in labels]))
                )
            for each, images in data.ood().items():
                unknown = said(plain, model, task.present(np.array(images)), columns)
                scores = np.concatenate([odds(tested[-1][0]), odds(unknown)])
                known = np.repeat([1, 0], [len(tested[-1][0]), len(unknown)])
                aurocs.setdefault(each, []).append(float(roc_auc_score(known, scores)))
        weights = [len(y) for _, y in tested]
        Z, y = (np.concatenate(parts) for parts in zip(*tested, strict=True))
        V, v = (np.concatenate(parts) for parts in zip(*held, strict=True))
        fitted = minimize_scalar(
            lambda t, V=V, v=v: nll(V / np.exp(t), v),
            bounds=(-6, 6),
            method="bounded",
            options={"xatol": 1e-9},
        )
        means = {each: np.average(found, weights=weights) for each, found in aurocs.items()}
        last = {
            "accuracy": float(np.mean([(Z.argmax(1) == y).mean() for Z, y in tested])),
            "ece_15": ece(Z, y),
            "ece_15_ts": ece(Z / np.exp(fitted.x), y),
            "auroc_near": means["held_out"],
            "auroc_far": np.mean([means[each] for each, kind in kinds.items() if kind == "far"]),
        }
        for metric, value in last.items():
            # Float32 logits of batches of another size; a temperature moves an image over a bin's edge.
            tolerance = 5e-3 if metric == "ece_15_ts" else 1e-5
            assert done.metrics[f"{prefix}/after_{seen}/{metric}"] == pytest.approx(value, abs=tolerance)
    for metric, value in last.items():
        assert done.metrics[f"{prefix}/{metric}"] == pytest.approx(value, abs=5e-3)


def record(done: Finished) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((done.folder / "outputs" / "stream.json").read_text())
    return found


def test_masked_accuracy_is_that_among_the_classes_of_an_images_own_task(
    bench: Bench, tmp_path: Path, models: list[Any]
) -> None:
    config = bench.stream("replay", seed=1)
    done = bench.run(config, tmp_path)
    plain = PlainStream(config, bench.data())
    masked = record(done)["masked"]
    for number, model in enumerate(models, 1):
        for place, task in enumerate(plain.stream.tasks):
            if task.number > number:
                assert masked[number - 1][place] is None
                continue
            images, labels = plain.images(task, bench.data().test())
            own = list(task.classes)
            right = np.array(own)[said(plain, model, images, own).argmax(1)] == labels
            assert masked[number - 1][place] == pytest.approx(right.mean(), abs=1e-12)
    mean = np.mean(masked[2])
    assert done.metrics["continual/class_il/masked/accuracy"] == pytest.approx(mean, abs=1e-12)


def test_the_untrained_model_is_measured_where_tasks_have_their_columns_already(
    bench: Bench, tmp_path: Path
) -> None:
    for scenario, settings in (("task_il", {}), ("domain_il", {"stream": "rotated"}), ("class_il", {})):
        config = bench.stream("naive", scenario, seed=4, **settings)
        done = bench.run(config, tmp_path / scenario)
        plain = PlainStream(config, bench.data())
        expected = [] if scenario == "class_il" else [plain.accuracy(t, 0) for t in plain.stream.tasks]
        found = record(done)
        assert found["baseline"] == pytest.approx(expected, abs=1e-12)
        metric = f"continual/{scenario}/fwt"
        if scenario == "class_il":
            assert metric not in done.metrics
        else:
            R = found["accuracy"]
            gain = [R[0][1] - expected[1], R[1][2] - expected[2]]
            assert done.metrics[metric] == pytest.approx(np.mean(gain), abs=1e-12)


def test_a_loss_without_an_answer_for_tasks_to_come_is_measured_on_those_that_came(
    bench: Bench, tmp_path: Path
) -> None:
    config = bench.stream(
        "naive", "task_il", loss="logit_adjustment", loss_params={"apply": "evaluation"}, seed=1
    )
    done = bench.run(config, tmp_path)
    found = record(done)
    assert found["baseline"][0] is not None
    assert found["baseline"][1:] == [None, None]
    assert found["accuracy"][0][1:] == [None, None]
    assert None not in found["accuracy"][2]
    assert "continual/task_il/fwt" not in done.metrics
    assert "continual/task_il/bwt" in done.metrics


def test_of_a_large_ood_set_the_same_few_images_are_asked_every_time(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workloads.measurement import stream

    asked: dict[str, list[Array]] = {}
    some = stream._some

    def noting(name: str, images: Any, most: int) -> Any:
        chosen = some(name, images, most)
        asked.setdefault(name, []).append(np.array(chosen))
        return chosen

    monkeypatch.setattr(stream, "_some", noting)
    bench.run(bench.stream(ood_images=7, epochs=1), tmp_path / "one")
    bench.run(bench.stream(ood_images=7, epochs=1, loss="hem", seed=5), tmp_path / "two")
    for name, sets in asked.items():
        assert len(sets) == 6
        assert all(len(each) == 7 and (each == sets[0]).all() for each in sets)
        whole = {image.tobytes() for image in np.array(bench.data().ood()[name])}
        assert len({image.tobytes() for image in sets[0]} & whole) == 7


def test_a_search_trial_cannot_measure_a_stream(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="sealed"):
        bench.run(replace(bench.stream(epochs=1), stage="search"), tmp_path)
