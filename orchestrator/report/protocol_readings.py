"""How the metrics of the long-tailed and the continual protocol are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from orchestrator.report.metric import Metric, plain, rate

SCENARIOS: Mapping[str, str] = {"class_il": "class-IL", "task_il": "task-IL", "domain_il": "domain-IL"}

_CLASSES: Mapping[str, str] = {
    "many": "frequent classes",
    "medium": "classes of medium size",
    "few": "rare classes",
}
"""By group of classes: what they are called in a sentence."""
_IMBALANCE: Mapping[str, Metric] = {
    "balanced_accuracy": rate("Balanced accuracy", "higher", noun="balanced accuracy", claim="classifies"),
    "worst_class": rate(
        "worst class", "higher", noun="recall of the worst class", claim="classifies its worst class"
    ),
    "macro_f1": rate("macro-F1", "higher", claim="classifies"),
    "g_mean": rate("G-mean", "higher", claim="classifies"),
}
_REMEMBERS = "remembers earlier tasks"
_LAST = "after the last task"
_CONTINUAL: Mapping[str, Metric] = {
    "accuracy": rate("ACC", "higher", noun=f"average accuracy {_LAST}", claim="knows all tasks"),
    "average_incremental_accuracy": rate(
        "avg. incremental", "higher", noun="average incremental accuracy", claim="knows the tasks so far"
    ),
    "learning_accuracy": rate("learning", "higher", noun="learning accuracy", claim="learns a new task"),
    "forgetting": rate("forgetting", "lower", claim=_REMEMBERS),
    "forgetting_avalanche": rate(
        "forgetting, first - last", "lower", noun="forgetting (first minus last)", claim=_REMEMBERS
    ),
    "forgetting_mammoth": rate(
        "forgetting, Mammoth", "lower", noun="forgetting (Mammoth's)", claim=_REMEMBERS
    ),
    "bwt": rate("BWT", "higher", noun="backward transfer", claim=_REMEMBERS),
    "fwt": rate("FWT", "higher", noun="forward transfer", claim="gains for tasks to come"),
    "auroc_near": rate("AUROC near", "higher", noun=f"AUROC {_LAST}", claim="rejects near OOD"),
    "auroc_far": rate("AUROC far", "higher", noun=f"AUROC {_LAST}", claim="rejects far OOD"),
    "ece": rate("ECE before TS", "lower", noun=f"ECE {_LAST}", claim="is calibrated"),
    "ece_ts": rate(
        "ECE after TS", "lower", noun=f"ECE after temperature scaling, {_LAST}", claim="is calibrated"
    ),
}
_TRAINING: Mapping[str, Metric] = {
    "forward_passes": plain("images through the network", decimals=0, unit="images"),
    "skipped": rate("images skipped", "neither", 1),
    "stressed": rate("images stressed", "neither", 1),
}


def read_imbalance(parts: list[str], headline: str) -> Metric | None:
    """``imbalance/...``: what unequal training classes lead to."""
    match parts[1:]:
        case [name]:
            return _IMBALANCE.get(name)
        case ["accuracy", group] if group in _CLASSES:
            classes = _CLASSES[group]
            found = rate("accuracy by class size", "higher", noun=f"accuracy on {classes}")
            return replace(found, label=group, claim=f"classifies {classes}")
        case [error, group] if group in _CLASSES and re.fullmatch(r"ece_\d+", error):
            classes = _CLASSES[group]
            found = rate("ECE by class size", "lower", noun=f"ECE on {classes}")
            return replace(found, label=group, claim=f"is calibrated on {classes}")
        case ["recall", number]:
            found = rate("recall", "higher", noun=f"recall of class {number}")
            return replace(found, label=f"class {number}", claim=f"classifies class {number}")
        case ["train_images", number]:
            return replace(plain("training images", decimals=0, unit="images"), label=f"class {number}")
    return None


def read_continual(parts: list[str], headline: str) -> Metric | None:
    """``continual/<scenario>/...``: what is kept of a stream of tasks."""
    if len(parts) < 3 or parts[1] not in SCENARIOS:
        return None
    *places, name = parts[2:]
    # The number of bins does not change the reading of ece_15.
    found = _CONTINUAL.get(re.sub(r"^ece_\d+", "ece", name))
    if found is None:
        return None
    found = replace(found, label=SCENARIOS[parts[1]])
    match places:
        case []:
            return found
        case ["masked"]:
            return replace(found, group=f"masked {found.group}", noun=f"masked {found.noun}")
        case [after] if step := re.fullmatch(r"after_(\d+)", after):
            when = f"after {step[1]} {'task' if step[1] == '1' else 'tasks'}"
            noun = found.noun.replace(_LAST, when)
            return replace(found, group=f"{found.group} {when}", noun=noun)
    return None


def read_selection(name: str) -> Metric | None:
    """``train/<name>`` of what the choice of training images and the protocols cost."""
    return _TRAINING.get(name)
