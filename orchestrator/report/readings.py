"""What each metric is called, which direction is better and how it is shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

from orchestrator.report.metric import Metric, plain, rate
from orchestrator.report.protocol_readings import read_continual, read_imbalance, read_selection
from orchestrator.study.metric_names import ALIASES


def describe(name: str, headline: str) -> Metric:
    """The reading of a metric. A name that is not known is shown as it is, with no better direction.

    A regime and a colon may stand before it: ``long_tailed/drw:imbalance/worst_class``.
    """
    regime, colon, metric = name.partition(":")
    # A score may have a colon in its name too: ood/near/energy:T=0.1/auroc.
    if not colon or metric.split("/")[0] not in _READERS:
        regime, metric = "", name
    parts = metric.split("/")
    reader = _READERS.get(parts[0])
    found = reader(parts, headline) if reader is not None else None
    return replace(found or plain(metric), name=name, regime=regime)


_REJECTION = {
    "fpr95_id_positive": rate("FPR95 (ID+)", "lower", 1, noun="FPR95"),
    "fpr95_ood_positive": rate("FPR95 (OOD+)", "lower", 1, noun="FPR95 (OOD positive)"),
    "auroc": rate("AUROC", "higher"),
    "aupr_in": rate("AUPR-in", "higher"),
    "aupr_out": rate("AUPR-out", "higher"),
    "oscr": rate("OSCR", "higher"),
}
REJECTION_METRICS = tuple(_REJECTION)
_MIXTURE = {"id_prevalence": rate("ID share", "neither", 1), "tied_fraction": rate("tied", "neither", 1)}
_FAILURES = "finds its own mistakes"
_SELECTIVE = {
    "aurc": rate("AURC", "lower", 3, claim=_FAILURES),
    "e_aurc": rate("E-AURC", "lower", 3, claim=_FAILURES),
    "failure_auroc": rate("failure AUROC", "higher", claim=_FAILURES),
    "failure_aupr": rate("failure AUPR", "higher", claim=_FAILURES),
    "failure_fpr95": rate("failure FPR95", "lower", 1, claim=_FAILURES),
}
_CALIBRATION = {
    "ece": rate("ECE", "lower", claim="is calibrated"),
    "ece_adaptive": rate("adaptive ECE", "lower", claim="is calibrated"),
    "ece_classwise": rate("class-wise ECE", "lower", claim="is calibrated"),
    "ks": rate("KS", "lower", noun="KS calibration error", claim="is calibrated"),
    "nll": replace(plain("NLL", "lower", 3, "nats"), claim="predicts probabilities"),
    "brier": replace(plain("Brier", "lower"), noun="Brier score", claim="predicts probabilities"),
}
_ANGLES = {
    "wc_intra": "WC-Intra",
    "w_inter": "W-Inter",
    "c_inter": "C-Inter",
    "wc_inter": "WC-Inter",
    "within_class": "within class",
}
_COLLAPSE = {
    "nc1": "NC1",
    "nc2_equinorm": "NC2 norms",
    "nc2_equiangular": "NC2 angles",
    "nc2_w_equinorm": "NC2 W norms",
    "nc2_w_equiangular": "NC2 W angles",
    "nc3": "NC3",
}
_NORM = plain("logit norm", decimals=3)


def _accuracy(parts: list[str], headline: str) -> Metric | None:
    """``train/...``, ``validation/...`` and ``test/...``."""
    if len(parts) != 2:
        return None
    if parts[1] == "accuracy":
        noun = "accuracy" if parts[0] == "test" else f"{parts[0]} accuracy"
        return rate(noun.capitalize(), "higher", noun=noun, claim="classifies")
    if parts[1] == "logit_norm":
        return _placed(_NORM, parts[0])
    if parts[0] == "train" and (chosen := read_selection(parts[1])):
        return chosen
    if parts[0] == "validation" and re.fullmatch(r"ece_\d+", parts[1]):
        return _placed(_CALIBRATION["ece"], parts[0])
    found = {"nll": _CALIBRATION["nll"], "loss": plain("loss"), "lr": plain("learning rate")}.get(parts[1])
    return _placed(found, parts[0]) if found else None


def _noise(parts: list[str], headline: str) -> Metric | None:
    if parts[1:] == ["logit_norm"]:
        return _placed(_NORM, "noise")
    kind = _REJECTION.get(ALIASES.get(parts[-1], parts[-1]))
    return replace(kind, label="noise", claim="rejects Gaussian noise") if kind else None


def _ood(parts: list[str], headline: str) -> Metric | None:
    if len(parts) != 4 or parts[3] not in _REJECTION | _MIXTURE:
        return None
    _, target, score, rate = parts
    found = _by_score((_REJECTION | _MIXTURE)[rate], score, headline)
    what = f"{target} OOD" if target in ("near", "far") else target
    return replace(found, label=target, claim="" if found.better == "neither" else f"rejects {what}")


def _selective(parts: list[str], headline: str) -> Metric | None:
    kind = _SELECTIVE.get(parts[-1]) if len(parts) == 3 else None
    return _by_score(kind, parts[1], headline) if kind else None


def _tuned(parts: list[str], headline: str) -> Metric | None:
    return plain(f"{parts[2]} of {parts[1]}") if len(parts) == 3 else None


def _calibration(parts: list[str], headline: str) -> Metric | None:
    if parts[1:] == ["temperature"]:
        return plain("T*", decimals=3)
    if parts[1:] == ["temperature_at_bound"]:
        return rate("T* at its bound", "neither", 0)
    measured = parts[1].removesuffix("_ts")
    when = "after TS" if parts[1] != measured else "before TS"
    later = " after temperature scaling" if parts[1] != measured else ""
    if measured == "confidence" and len(parts) == 3:
        heading = f"confidence, {_place(parts[2])}"
        return replace(rate(heading, "neither", 1, noun=f"mean {heading}{later}"), label=when)
    # The number of bins does not change the reading of ece_15.
    kind = _CALIBRATION.get(re.sub(r"_\d+$", "", measured)) if len(parts) == 2 else None
    return replace(kind, label=when, noun=f"{kind.noun}{later}") if kind else None


def _geometry(parts: list[str], headline: str) -> Metric | None:
    if len(parts) == 3 and parts[1] in ("logit_norm_mean", "logit_norm_std"):
        return _placed(replace(_NORM, group=f"logit norm, {parts[1].removeprefix('logit_norm_')}"), parts[2])
    if len(parts) != 2:
        return None
    if parts[1] in _ANGLES:
        angle = Metric("", "angle, degrees", _ANGLES[parts[1]], _ANGLES[parts[1]], "", "neither")
        return replace(angle, scale=180 / math.pi, decimals=1, unit="degrees")
    if parts[1] in _COLLAPSE:
        label = _COLLAPSE[parts[1]]
        return replace(plain("neural collapse", decimals=3), label=label, noun=label)
    if parts[1] == "nc4":
        return replace(rate("neural collapse", "neither", noun="NC4"), label="NC4, %")
    return None


def _robustness(parts: list[str], headline: str) -> Metric | None:
    last = parts[-1].replace("_", " ")
    epsilon = f"{parts[-1].removeprefix('eps_')}/255"
    worst = "worst-case accuracy at epsilon"
    match parts[1:]:
        case ["clean"]:
            found = rate(worst, "higher", 1, noun="accuracy on the images to be attacked", claim="classifies")
            return replace(found, label="0 (clean)")
        case ["worst", _]:
            found = rate(worst, "higher", 1, noun=f"{worst} {epsilon}", claim="withstands attacks")
            return replace(found, label=epsilon)
        case ["autoattack", _]:
            found = rate("AutoAttack, at epsilon", "higher", 1, claim="withstands attacks")
            return replace(found, label=epsilon, noun=f"accuracy under AutoAttack, epsilon {epsilon}")
        case ["corruption", _]:
            found = rate("accuracy under corruptions", "higher", 1, claim="withstands corruptions")
            return replace(found, label=last, noun=f"{found.group}, {last}")
        case ["dar_star", _]:
            found = rate("DAR* (reconstructed)", "higher", 1, claim="decides what to accept")
            return replace(found, label=last, noun=f"{found.group}, {last}")
        case [attack, objective, _]:
            found = rate(f"accuracy under {attack}, {objective}", "higher", 1, claim="withstands attacks")
            return replace(found, label=epsilon, noun=f"{found.group}, epsilon {epsilon}")
    return None


_READERS: dict[str, Callable[[list[str], str], Metric | None]] = {
    **dict.fromkeys(("train", "validation", "test"), _accuracy),
    "noise": _noise,
    "ood": _ood,
    "selective": _selective,
    "tuned": _tuned,
    "calibration": _calibration,
    "geometry": _geometry,
    "robustness": _robustness,
    "imbalance": read_imbalance,
    "continual": read_continual,
}


def _by_score(kind: Metric, score: str, headline: str) -> Metric:
    suffix = "" if score == headline else f" by {score}"
    return replace(kind, group=kind.group + suffix, noun=kind.noun + suffix)


def _placed(kind: Metric, place: str) -> Metric:
    return replace(kind, label=_place(place), noun=f"{kind.group}, {_place(place)}")


def _place(name: str) -> str:
    """A set, or a group of sets, as people call it."""
    words = {"id_test": "ID test", "id_validation": "ID validation", "id_train": "ID train"}
    return words.get(name, f"{name} OOD" if name in ("near", "far") else name)
