"""What is measured of a stream: every task after every task, and with them rejection and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from workloads.contract import EvaluationConfig, TrainingDiverged
from workloads.data.images import Images, Pixels
from workloads.data.prepared import PreparedData
from workloads.data.randomness import generator
from workloads.data.streams import Stream, Task
from workloads.evaluation.calibration import calibration_metrics, fit_temperature
from workloads.evaluation.continual import continual_metrics
from workloads.evaluation.ood import rejection_metrics
from workloads.evaluation.scores import score
from workloads.measurement.part import Part
from workloads.measurement.subject import Subject
from workloads.protocol_config import ContinualConfig
from workloads.training.inference import predict
from workloads.training.storage import write_json

STREAM_FILE = "stream.json"
Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass
class StreamRecord:
    """What was measured so far: a row after each task, plain values only."""

    accuracy: list[list[float]] = field(default_factory=list)
    """R: accuracy on each task (column), NaN where a task's classes have no columns yet, or the loss has no
    answer among them."""
    masked: list[list[float]] = field(default_factory=list)
    """``class_il``: the same, each image classified among the classes of its own task only."""
    after: list[dict[str, float]] = field(default_factory=list)
    """Of all tasks so far: ``ece_<bins>``, ``ece_<bins>_ts``, ``auroc_near``, ``auroc_far``."""
    baseline: list[float] = field(default_factory=list)
    """Accuracy of the untrained model on each task, NaN as in ``accuracy``; empty in ``class_il``."""


@dataclass(frozen=True)
class StreamView:
    """The sealed test set as a stream presents it, and which columns an image is classified among."""

    stream: Stream
    settings: ContinualConfig
    data: PreparedData

    def columns(self, seen: int, task: Task) -> tuple[int, ...]:
        """Columns among which an image of ``task`` is classified after ``seen`` tasks, rising."""
        if self.settings.scenario != "class_il":
            return task.columns
        return tuple(sorted(c for each in self.stream.tasks[:seen] for c in each.columns))

    def told(self, subject: Subject, images: Images, seen: int, task: Task) -> tuple[Logits, Labels]:
        """What the model says of the task's images, [N, columns], and their places among these columns."""
        index = task.index(images.labels)
        columns = self.columns(seen, task)
        logits = self.asked(subject, images.images[index], columns, task)
        return logits, np.searchsorted(columns, task.relabel(images.labels[index]))

    def asked(self, subject: Subject, images: Pixels, columns: Sequence[int], task: Task) -> Logits:
        """What the model says of images as the task presents them, [N, columns]."""
        active = torch.tensor(columns, device=subject.device)
        said = predict(
            subject.model,
            subject.loss,
            subject.normalise,
            task.present(images),
            subject.precision,
            active if len(columns) < self.stream.num_columns else None,
        ).logits
        if not np.isfinite(said).all():
            raise TrainingDiverged("the logits must be finite; some are not, though the weights are")
        return said


def measure_untrained(view: StreamView, subject: Subject) -> list[float]:
    """Accuracy of the untrained model on each task; empty where classes have no columns before their task."""
    if view.settings.scenario == "class_il":
        return []
    test = view.data.test()
    return [_ahead(view, subject, test, 0, task) for task in view.stream.tasks]


def measure_tasks(
    view: StreamView, subject: Subject, seen: int, evaluation: EvaluationConfig, record: StreamRecord
) -> None:
    """Measure after ``seen`` tasks, into ``record``."""
    test, validation = view.data.test(), view.data.validation()
    row, masked = [], []
    tested, held = [], []
    for number, task in enumerate(view.stream.tasks, 1):
        if view.settings.scenario == "class_il" and number > seen:
            row.append(float("nan"))
            masked.append(float("nan"))
            continue
        if number > seen:
            row.append(_ahead(view, subject, test, seen, task))
            continue
        logits, labels = view.told(subject, test, seen, task)
        row.append(_accuracy(logits, labels))
        if view.settings.scenario == "class_il":
            own = np.searchsorted(view.columns(seen, task), task.columns)
            masked.append(_accuracy(logits[:, own], np.searchsorted(own, labels)))
        tested.append((logits, labels))
        held.append(view.told(subject, validation, seen, task))
    record.accuracy.append(row)
    if view.settings.scenario == "class_il":
        record.masked.append(masked)
    record.after.append(
        {
            **_calibration(tested, held, evaluation.calibration.bins),
            **_rejection(view, subject, seen, evaluation.headline, [logits for logits, _ in tested]),
        }
    )


def measure_stream(view: StreamView, record: StreamRecord, folder: Path) -> Part:
    """What the whole stream comes to: metrics ``continual/<scenario>/...``; the matrices go to ``folder``."""
    prefix = f"continual/{view.settings.scenario}"
    R = np.array(record.accuracy)
    baseline = np.array(record.baseline) if record.baseline and len(R) > 1 else None
    metrics = {f"{prefix}/{name}": value for name, value in continual_metrics(R, baseline).items()}
    if record.masked:
        found = continual_metrics(np.array(record.masked))
        metrics.update({f"{prefix}/masked/{name}": value for name, value in found.items()})
    for number, after in enumerate(record.after, 1):
        seen = number if len(record.after) > 1 else len(view.stream.tasks)
        known = record.accuracy[number - 1][:seen]
        metrics[f"{prefix}/after_{seen}/accuracy"] = float(np.mean(known))
        metrics.update({f"{prefix}/after_{seen}/{name}": value for name, value in after.items()})
    metrics.update({f"{prefix}/{name}": value for name, value in record.after[-1].items()})
    write_json(folder / STREAM_FILE, _described(view, record))
    return Part(metrics)


def _described(view: StreamView, record: StreamRecord) -> dict[str, Any]:
    """The record as JSON, where what was not measured is null."""

    def plain(rows: list[list[float]]) -> list[list[float | None]]:
        return [[None if np.isnan(value) else value for value in row] for row in rows]

    return {
        "scenario": view.settings.scenario,
        "strategy": view.settings.strategy,
        "tasks": [{"number": task.number, "classes": list(task.classes)} for task in view.stream.tasks],
        "accuracy": plain(record.accuracy),
        "masked": plain(record.masked),
        "baseline": plain([record.baseline])[0],
        "after": record.after,
    }


def _ahead(view: StreamView, subject: Subject, images: Images, seen: int, task: Task) -> float:
    """Accuracy on a task that is still to come.

    NaN where the loss has no answer yet: one that takes class frequencies off the logits knows none there.
    """
    try:
        return _accuracy(*view.told(subject, images, seen, task))
    except TrainingDiverged:
        return float("nan")


def _accuracy(logits: Logits, labels: Labels) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _calibration(
    tested: Sequence[tuple[Logits, Labels]], held: Sequence[tuple[Logits, Labels]], bins: int
) -> dict[str, float]:
    """ECE of the test images of all tasks so far, before and after a temperature fitted on their validation
    images. Every task has as many columns as the others, so that their rows are of one length."""
    name = f"ece_{bins}"
    logits, labels = (np.concatenate(parts) for parts in zip(*tested, strict=True))
    temperature = fit_temperature(*(np.concatenate(parts) for parts in zip(*held, strict=True)))
    return {
        name: calibration_metrics(logits, labels, 1.0, bins)[name],
        f"{name}_ts": calibration_metrics(logits, labels, temperature, bins)[name],
    }


def _rejection(
    view: StreamView, subject: Subject, seen: int, headline: str, known: Sequence[Logits]
) -> dict[str, float]:
    """AUROC of the headline score of the tasks so far against the near and the far OOD sets.

    OOD images are presented as each task presents its own, and told apart from that task's images; the mean
    over the tasks is weighted by their images. Where all tasks look alike and share their columns, it is the
    AUROC of all of them together.
    """
    weights = [len(each) for each in known]
    found: dict[str, list[float]] = {}
    for name, images in view.data.ood().items():
        kind = str(view.data.facts.sets[name]["kind"])
        images = _some(name, images, view.settings.ood_images)
        aurocs: list[float] = []
        asked: dict[tuple[tuple[int, ...], Any], npt.NDArray[Any]] = {}
        for task, logits in zip(view.stream.tasks, known, strict=False):
            columns = view.columns(seen, task)
            how = (columns, task.view)
            if how not in asked:
                asked[how] = score(headline, view.asked(subject, images, columns, task))
            aurocs.append(rejection_metrics(score(headline, logits), asked[how])["auroc"])
        found.setdefault(kind, []).append(float(np.average(aurocs, weights=weights)))
    return {f"auroc_{kind}": float(np.mean(values)) for kind, values in found.items()}


def _some(name: str, images: Pixels, most: int) -> Pixels:
    """At most so many of the images, the same ones whenever they are asked."""
    if len(images) <= most:
        return images
    return images[np.sort(generator("stream", "ood", name).choice(len(images), most, replace=False))]
