"""The rules that tie several keys of a study together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from orchestrator.study import repeats, terms
from orchestrator.study.document import Document
from orchestrator.study.evaluation import MEASURES
from orchestrator.study.metric_names import ALIASES, OOD_METRICS, metric_names, resolve, short_names
from orchestrator.study.protocol_rules import check_protocols
from orchestrator.study.ranges import plain
from orchestrator.study.regimes import NAMESPACES, split_name
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec
from orchestrator.study.suggestion import did_you_mean
from orchestrator.study.training import mixed
from workloads.contract import TrainingConfig
from workloads.data.catalogue import SOURCES
from workloads.data.names import HELD_OUT, ood_problem, source_problem
from workloads.evaluation.score_names import parse_score
from workloads.losses.catalogue import LOSSES

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
HEADLINES = ("msp", "mls", "energy", "entropy")
"""Scores of logits alone, at their defaults."""
_COMPARE_RUNNING = ("successive_halving", "hyperband")


def check(doc: Document, spec: StudySpec) -> None:
    """Note every broken rule whose keys were themselves read without a problem."""
    if doc.sound("study") and not _NAME.fullmatch(spec.name):
        rule = f"must be of a-z, 0-9, _ and -, and start with a letter or digit; got {spec.name!r}"
        doc.problem("study", rule, "It names the output folder")
    _data(doc, spec)
    _lists(doc, spec)
    for path, training in _recipes(doc, spec):
        _training(doc, path, training)
        _selection(doc, spec, path, training)
    _mixing(doc, spec)
    _search(doc, spec)
    _audit(doc, spec)
    _arms(doc, spec)
    check_protocols(doc, spec)
    _scores(doc, spec)
    _robustness(doc, spec)
    _primary(doc, spec)


def _data(doc: Document, spec: StudySpec) -> None:
    data = spec.data
    if not doc.sound("data.source"):
        return
    problem = source_problem(data.source)
    if problem is not None:
        doc.problem("data.source", problem)
        return
    _classes(doc, spec)
    if doc.sound("data.near_ood", "data.far_ood"):
        for key, names in (("near_ood", data.near_ood), ("far_ood", data.far_ood)):
            for problem in filter(None, (ood_problem(data.source, name) for name in names)):
                doc.problem(f"data.{key}", problem)
        shared = sorted(set(near_sets(data)) & set(far_sets(data)))
        if shared:
            rule = f"must share no set with data.near_ood; both have {', '.join(shared)}"
            doc.problem("data.far_ood", rule)
    published = data.source in SOURCES and "mean" in SOURCES[data.source].facts
    if doc.sound("data.normalisation") and data.normalisation == "stated" and not published:
        rule = f"must be computed: no mean and standard deviation are published for {data.source}"
        doc.problem("data.normalisation", f"{rule}; got 'stated'")


def _classes(doc: Document, spec: StudySpec) -> None:
    chosen = spec.data.id_classes
    if doc.sound("data.id_classes") and chosen is not None and len(chosen) < 2:
        doc.problem("data.id_classes", f"must name at least two classes; got {len(chosen)}")
    if spec.data.source not in SOURCES:
        return
    classes = int(SOURCES[spec.data.source].facts["num_classes"])
    if doc.sound("data.id_classes") and chosen is not None:
        for label in chosen:
            if label >= classes:
                rule = f"must be classes of {spec.data.source}, 0 to {classes - 1}; got {label}"
                doc.problem("data.id_classes", rule)
    if chosen is None or len(set(chosen)) >= classes:
        for key, names in (("near_ood", spec.data.near_ood), ("far_ood", spec.data.far_ood)):
            if HELD_OUT in names and doc.sound(f"data.{key}"):
                rule = "held_out is empty: every class is in-distribution"
                doc.problem(f"data.{key}", rule, "Set data.id_classes")


def _lists(doc: Document, spec: StudySpec) -> None:
    """Lists that must hold something, and each item once."""
    lists: dict[str, Sequence[object]] = {
        "data.id_classes": spec.data.id_classes or (),
        "data.near_ood": spec.data.near_ood,
        "data.far_ood": spec.data.far_ood,
        "noise.sigmas": spec.noise.sigmas,
        "evaluate": spec.evaluation.measures,
        "evaluate.ood.scores": spec.evaluation.ood.scores,
        "evaluate.robustness.objectives": spec.evaluation.robustness.objectives,
        "evaluate.robustness.epsilons": spec.evaluation.robustness.epsilons,
        "evaluate.robustness.severities": spec.evaluation.robustness.severities,
        "search.seeds": spec.search.seeds,
        "confirm.seeds": spec.confirm.seeds,
        "report.primary": spec.report.primary,
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


def _recipes(doc: Document, spec: StudySpec) -> Iterator[tuple[str, TrainingConfig]]:
    """The study's training, and those of its protocols that have their own."""
    yield "training", spec.training
    # What is wrong in the study's is in those over it, too, and is said once.
    if doc.sound("training", "protocols"):
        for name, each in spec.protocols.items():
            if each.training is not None:
                yield f"protocols.{name}.training", each.training


def _training(doc: Document, path: str, training: TrainingConfig) -> None:
    if not doc.sound(f"{path}.epochs"):
        return
    epochs = training.epochs
    if doc.sound(f"{path}.warmup_epochs") and training.warmup_epochs >= epochs:
        rule = f"must be fewer than {path}.epochs ({epochs}); got {training.warmup_epochs}"
        doc.problem(f"{path}.warmup_epochs", rule)
    if doc.sound(f"{path}.evaluate_every") and training.evaluate_every > epochs:
        rule = f"must be at most {path}.epochs ({epochs}); got {training.evaluate_every}"
        doc.problem(f"{path}.evaluate_every", rule)
    if doc.sound(f"{path}.milestones"):
        shown = list(training.milestones)
        if training.schedule == "step" and not shown:
            doc.problem(f"{path}.milestones", "a step schedule needs at least one; got an empty list")
        if any(a >= b for a, b in pairwise(shown)):
            doc.problem(f"{path}.milestones", f"must increase; got {shown}")
    if doc.sound(f"{path}.warmup_epochs") and training.schedule == "one_cycle" and training.warmup_epochs:
        rule = f"must be 0 with schedule one_cycle, which has its own warm-up; got {training.warmup_epochs}"
        doc.problem(f"{path}.warmup_epochs", rule)
    if doc.sound(f"{path}.min_lr", f"{path}.lr") and training.min_lr > training.lr:
        rule = f"must be at most {path}.lr ({training.lr:g}); got {training.min_lr:g}"
        doc.problem(f"{path}.min_lr", rule)
    if doc.sound(f"{path}.nesterov", f"{path}.momentum") and training.nesterov and training.momentum == 0:
        doc.problem(f"{path}.nesterov", "needs momentum above 0; got momentum 0")


def _mixing(doc: Document, spec: StudySpec) -> None:
    """mixup and cutmix give soft targets, which half of the losses must refuse."""
    mixing = [f"{path}.augmentation.{key}" for path, each in _recipes(doc, spec) for key in mixed(each)]
    for name, arm in spec.arms.items():
        entry = LOSSES.get(arm.loss)
        if mixing and entry is not None and entry.facts["targets"] == "hard":
            rule = f"{arm.loss} takes hard labels only, and {mixing[0]} mixes labels"
            doc.problem(f"arms.{name}", rule, "orchestrate list losses says which take soft targets")


def _selection(doc: Document, spec: StudySpec, recipe: str, training: TrainingConfig) -> None:
    """Images that are chosen by their losses must have losses of their own, and a share to be chosen."""
    for key, block in (("skip", training.skip), ("saturated", training.saturated)):
        path, rule = f"{recipe}.{key}", block.rule
        if rule == "none" or not doc.sound(path):
            continue
        if block.share == 0 and (rule == "lowest_loss" or (rule == "random" and key == "skip")):
            doc.problem(f"{path}.share", f"must be above 0 with rule {rule}; got {plain(block.share)}")
        words = mixed(training)
        if words and doc.sound(f"{recipe}.augmentation"):
            problem = f"needs the loss of each image, and {recipe}.augmentation.{words[0]} mixes them"
            doc.problem(path, f"{problem}; got rule {rule}")
        for name, arm in spec.arms.items():
            if "triplet" in arm.space and doc.sound(f"arms.{name}"):
                problem = f"a triplet loss is one number a batch, and {path} needs the loss of each image"
                doc.problem(f"arms.{name}.triplet", problem)


def _search(doc: Document, spec: StudySpec) -> None:
    warmup, epochs = spec.search.pruner.warmup_epochs, spec.training.epochs
    if doc.sound("search.pruner.warmup_epochs", "training.epochs") and warmup >= epochs:
        rule = f"must be fewer than training.epochs ({epochs}); got {warmup}"
        doc.problem("search.pruner.warmup_epochs", rule)
    if doc.sound("search.seeds", "confirm.seeds"):
        both = sorted(set(spec.search.seeds) & set(spec.confirm.seeds))
        if both:
            shown = ", ".join(map(str, both))
            doc.problem(
                "confirm.seeds",
                f"must share no seed with search.seeds; both have {shown}",
                "A winner confirmed on the seeds that chose it looks better than it is",
            )
    if doc.sound("search.seeds", "confirm.seeds", "search.repeats"):
        _repeats(doc, spec)
    seeds, allowed = len(spec.search.seeds), spec.budget.trials
    if doc.sound("budget.trials", "search.seeds") and allowed is not None and allowed < seeds:
        rule = f"must be at least {seeds}, one for each of search.seeds; got {allowed}"
        doc.problem("budget.trials", rule, "A configuration is complete when it has had all of them")
    search = spec.search
    if search.deterministic and search.parallel > 1 and search.pruner.name in _COMPARE_RUNNING:
        doc.problem(
            "search.parallel",
            f"must be 1 in deterministic mode with the {search.pruner.name} pruner, which compares "
            f"configurations that still run; got {search.parallel}",
            "Or set deterministic: false",
        )


def _audit(doc: Document, spec: StudySpec) -> None:
    """What the proxy audit compares noise with must be there."""
    if spec.audit.proxy is None or not doc.sound("audit", "data.near_ood", "data.far_ood", "evaluate"):
        return
    if not (spec.data.near_ood or spec.data.far_ood):
        rule = "compares noise with real OOD sets, and data.near_ood and data.far_ood are empty"
        doc.problem("audit.proxy", rule)
    elif "ood" not in spec.evaluation.measures:
        rule = "needs the evaluation ood, which is not asked for"
        doc.problem("audit.proxy", rule, "Add ood to evaluate")


def _repeats(doc: Document, spec: StudySpec) -> None:
    """The seeds of repeats are made, so what they meet is said with where they come from."""
    for repeat in range(1, spec.search.repeats):
        for seed in repeats.search_seeds(spec, repeat):
            step = f"repeat {repeat} trains on search.seeds + {repeats.SEED_STEP * repeat:,}"
            if seed in spec.confirm.seeds:
                rule = f"must share no seed with the repeats of the search; {step}, and so on {seed}"
                return doc.problem("confirm.seeds", rule, "Choose other confirm seeds")
            # Two repeats that meet lie as far apart as one of them and the first.
            if seed in spec.search.seeds:
                rule = f"must share no seed with its repeats; {step}, and {seed} is among search.seeds"
                return doc.problem("search.seeds", rule)
    return None


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
    wanted = spec.evaluation.ood
    labels: dict[str, str] = {}
    if doc.sound("evaluate.ood.scores"):
        for text in wanted.scores:
            try:
                label = parse_score(text).label
            except ValueError as problem:
                doc.problem("evaluate.ood.scores", str(problem))
                return
            if label in labels:
                rule = f"must hold each score once; got {labels[label]!r} and {text!r}, which are the same"
                doc.problem("evaluate.ood.scores", rule)
            labels[label] = text
    if not doc.sound("evaluate.ood.scores", "evaluate.ood.headline"):
        return
    if wanted.headline not in wanted.scores:
        rule = f"must be one of evaluate.ood.scores; got {wanted.headline!r}"
        doc.problem("evaluate.ood.headline", rule, did_you_mean(wanted.headline, wanted.scores))
    elif wanted.headline not in HEADLINES:
        rule = (
            f"must be {', '.join(HEADLINES)}: it is computed at every epoch, from the logits of validation "
        )
        doc.problem("evaluate.ood.headline", f"{rule}and noise images; got {wanted.headline!r}")


def _robustness(doc: Document, spec: StudySpec) -> None:
    named = spec.evaluation.robustness.corruptions
    if named and doc.sound("evaluate.robustness.corruptions"):
        # Loads image libraries: only where a study names a corruption.
        from workloads.evaluation.corruptions import CORRUPTIONS

        for name in named:
            if name not in CORRUPTIONS:
                hint = did_you_mean(name, CORRUPTIONS)
                doc.problem("evaluate.robustness.corruptions", f"unknown corruption; got {name!r}", hint)


def _primary(doc: Document, spec: StudySpec) -> None:
    if not doc.sound("report.primary", "data", "evaluate"):
        return
    known = metric_names(spec)
    for name in spec.report.primary:
        if resolve(name, spec) in known:
            continue
        _, metric = split_name(name, spec)
        group = next((g for g in ("near", "far") if metric.startswith(f"ood/{g}/")), None)
        kind = metric.split("/")[0]
        protocol = NAMESPACES.get(kind)
        if protocol is not None and all(each.protocol != protocol for each in spec.protocols.values()):
            rule = f"{name} needs the protocol {protocol}, which the study does not have"
            doc.problem("report.primary", rule, "Add it to protocols")
        elif kind in MEASURES and kind not in spec.evaluation.measures:
            hint = f"Add {kind} to evaluate, or choose with report: {{primary: [...]}}"
            doc.problem("report.primary", f"{name} needs the evaluation {kind}, which is not asked for", hint)
        elif group is not None and metric.split("/")[-1] in (*OOD_METRICS, *ALIASES):
            hint = f"Add sets to data.{group}_ood, or choose with report: {{primary: [...]}}"
            doc.problem(
                "report.primary", f"{name} needs {group}-OOD sets, and data.{group}_ood is empty", hint
            )
        else:
            hint = did_you_mean(name, [*short_names(spec), *known])
            doc.problem("report.primary", f"unknown metric; got {name!r}", hint)
