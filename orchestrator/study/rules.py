"""The rules that tie several keys of a study together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from orchestrator.study import terms
from orchestrator.study.document import Document
from orchestrator.study.spec import StudySpec
from orchestrator.study.suggestion import did_you_mean
from workloads.catalogue import Entry
from workloads.data.catalogue import SOURCES
from workloads.evaluation.catalogue import SCORES

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
OOD_METRICS = ("fpr95", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out")
OTHER_METRICS = (
    "test/accuracy",
    "calibration/ece",
    "calibration/nll",
    "calibration/brier",
    "calibration/ece_ts",
    "calibration/nll_ts",
    "calibration/brier_ts",
)


_COMPARE_RUNNING = ("successive_halving", "hyperband")


def check(doc: Document, spec: StudySpec) -> None:
    """Note every broken rule whose keys were themselves read without a problem."""
    if doc.sound("study") and not _NAME.fullmatch(spec.name):
        rule = f"must be of a-z, 0-9, _ and -, and start with a letter or digit; got {spec.name!r}"
        doc.problem("study", rule, "It names the output folder")
    _data(doc, spec)
    _lists(doc, spec)
    _training(doc, spec)
    _search(doc, spec)
    _arms(doc, spec)
    _scores(doc, spec)


def _data(doc: Document, spec: StudySpec) -> None:
    if not doc.sound("data.source"):
        return
    entry = SOURCES.get(spec.data.source)
    if entry is None:
        rule = f"unknown data source; got {spec.data.source!r}"
        doc.problem("data.source", rule, did_you_mean(spec.data.source, SOURCES))
        return
    classes = int(entry.facts["num_classes"])
    chosen = spec.data.id_classes
    if doc.sound("data.id_classes") and chosen is not None:
        for label in chosen:
            if label >= classes:
                rule = f"must be classes of {entry.name}, 0 to {classes - 1}; got {label}"
                doc.problem("data.id_classes", rule)
        if len(chosen) < 2:
            doc.problem("data.id_classes", f"must name at least two classes; got {len(chosen)}")
    for key, names in (("near_ood", spec.data.near_ood), ("far_ood", spec.data.far_ood)):
        path = f"data.{key}"
        known = ood_sets(entry, key)
        for name in names if doc.sound(path) else ():
            if name not in known:
                doc.problem(
                    path, f"{entry.name} has no such {key} set; got {name!r}", _ood_hint(entry, key, name)
                )
            elif name == "held_out" and (chosen is None or len(set(chosen)) >= classes):
                doc.problem(path, "held_out is empty: every class is in-distribution", "Set data.id_classes")


def ood_sets(entry: Entry, key: str) -> list[str]:
    """The near-OOD or far-OOD test sets of a data source (``near_ood``, ``far_ood``)."""
    return [name for name in str(entry.facts.get(key, "")).split(",") if name]


def _ood_hint(entry: Entry, key: str, name: str) -> str:
    other = "far_ood" if key == "near_ood" else "near_ood"
    if name in ood_sets(entry, other):
        return f"It is one of its {other} sets"
    return did_you_mean(name, ood_sets(entry, key))


def _lists(doc: Document, spec: StudySpec) -> None:
    """Lists that must hold something, and each item once."""
    lists: dict[str, Sequence[object]] = {
        "data.id_classes": spec.data.id_classes or (),
        "data.near_ood": spec.data.near_ood,
        "data.far_ood": spec.data.far_ood,
        "noise.sigmas": spec.noise.sigmas,
        "evaluation.scores": spec.evaluation.scores,
        "search.seeds": spec.search.seeds,
        "confirm.seeds": spec.confirm.seeds,
        "report.primary": spec.report.primary,
        "protocols": spec.protocols,
    }
    may_be_empty = ("data.id_classes", "data.near_ood", "data.far_ood")
    for path, items in lists.items():
        if not doc.sound(path):
            continue
        if not items and path not in may_be_empty:
            doc.problem(path, "must hold at least one item; got an empty list")
        repeated = [str(item) for item, times in Counter(items).items() if times > 1]
        if repeated:
            doc.problem(path, f"must hold each item once; got {', '.join(repeated)} more than once")


def _training(doc: Document, spec: StudySpec) -> None:
    training = spec.training
    if not doc.sound("training.epochs"):
        return
    epochs = training.epochs
    for key, count in (
        ("training.warmup_epochs", training.warmup_epochs),
        ("search.pruner.warmup_epochs", spec.search.pruner.warmup_epochs),
    ):
        if doc.sound(key) and count >= epochs:
            doc.problem(key, f"must be fewer than training.epochs ({epochs}); got {count}")
    if doc.sound("training.evaluate_every") and training.evaluate_every > epochs:
        rule = f"must be at most training.epochs ({epochs}); got {training.evaluate_every}"
        doc.problem("training.evaluate_every", rule)
    if doc.sound("training.milestones"):
        shown = list(training.milestones)
        if training.schedule == "step" and not shown:
            doc.problem("training.milestones", "a step schedule needs at least one; got an empty list")
        if any(a >= b for a, b in pairwise(shown)):
            doc.problem("training.milestones", f"must increase; got {shown}")
    if doc.sound("training.nesterov", "training.momentum") and training.nesterov and training.momentum == 0:
        doc.problem("training.nesterov", "needs momentum above 0; got momentum 0")


def _search(doc: Document, spec: StudySpec) -> None:
    if doc.sound("search.seeds", "confirm.seeds"):
        both = sorted(set(spec.search.seeds) & set(spec.confirm.seeds))
        if both:
            shown = ", ".join(map(str, both))
            doc.problem(
                "confirm.seeds",
                f"must share no seed with search.seeds; both have {shown}",
                "A winner confirmed on the seeds that chose it looks better than it is",
            )
    search = spec.search
    if search.deterministic and search.parallel > 1 and search.pruner.name in _COMPARE_RUNNING:
        doc.problem(
            "search.parallel",
            f"must be 1 in deterministic mode with the {search.pruner.name} pruner, which compares "
            f"configurations that still run; got {search.parallel}",
            "Or set deterministic: false",
        )


def _arms(doc: Document, spec: StudySpec) -> None:
    if doc.sound("baseline") and spec.arms and spec.baseline not in ("", *spec.arms):
        hint = did_you_mean(spec.baseline, spec.arms)
        doc.problem("baseline", f"must be one of the arms; got {spec.baseline!r}", hint)
    if spec.search.sampler != "grid" or not doc.sound("search.sampler"):
        return
    for name, arm in spec.arms.items():
        if not doc.sound(f"arms.{name}"):
            continue
        for parameter, term in arm.space.items():
            path = f"arms.{name}.{parameter}"
            if terms.is_continuous(term):
                written = path in doc.lines
                hint = "Write {grid: [...]}"
                if not written:
                    hint += " or a value: an arm that sets nothing searches the recommended ranges"
                rule = f"the grid sampler needs finite terms; got {terms.describe(term)}"
                doc.problem(path, rule, hint)


def _scores(doc: Document, spec: StudySpec) -> None:
    evaluation = spec.evaluation
    if doc.sound("evaluation.scores"):
        for name in evaluation.scores:
            if name not in SCORES:
                doc.problem("evaluation.scores", f"unknown score; got {name!r}", did_you_mean(name, SCORES))
    if doc.sound("evaluation.scores", "evaluation.headline") and evaluation.headline not in evaluation.scores:
        rule = f"must be one of evaluation.scores; got {evaluation.headline!r}"
        doc.problem("evaluation.headline", rule, did_you_mean(evaluation.headline, evaluation.scores))
    if not doc.sound("report.primary", "data"):
        return
    known = primary_metrics(spec)
    for name in spec.report.primary:
        if name in known:
            continue
        group = next((g for g in ("near", "far") if name.startswith(f"ood/{g}/")), None)
        if group is not None and name.split("/")[-1] in OOD_METRICS:
            hint = f"Add sets to data.{group}_ood, or choose with report: {{primary: [...]}}"
            doc.problem(
                "report.primary", f"{name} needs {group}-OOD sets, and data.{group}_ood is empty", hint
            )
        else:
            doc.problem("report.primary", f"unknown metric; got {name!r}", did_you_mean(name, known))


def primary_metrics(spec: StudySpec) -> list[str]:
    """The names that ``report.primary`` may hold in this study."""
    data = spec.data
    groups = [g for g, sets in (("near", data.near_ood), ("far", data.far_ood)) if sets]
    ood = [f"ood/{s}/{m}" for s in (*groups, *data.near_ood, *data.far_ood) for m in OOD_METRICS]
    return [*ood, *OTHER_METRICS]
