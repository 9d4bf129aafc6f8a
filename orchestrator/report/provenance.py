"""Where a study ran, on what, and what would be needed to do it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.campaign.record import StudyRecord
from orchestrator.redaction import redacted
from orchestrator.report import numbers
from orchestrator.report.bookkeeping import parameters_text
from orchestrator.report.cells import Cell, Column, Table
from orchestrator.report.origins import session_fact, trial_fact
from orchestrator.study.spec import ProtocolSpec, StudySpec


def provenance_table(spec: StudySpec, record: StudyRecord) -> Table:
    """What would be needed to do it again: command, commit, versions, machine, data and seeds.

    Commit, versions and machine are those of the sessions that trained, not of one that only looked again.
    """
    if not record.sessions:
        return Table("Provenance", (Column("what"), Column("value")), (), empty="The study was never opened.")
    session = record.sessions[-1]
    trials = list(record.trials.values())
    commands = session.get("command") or ()
    pairs: list[tuple[str, str]] = [
        ("command", redacted(commands if isinstance(commands, str) else shlex.join(map(str, commands)))),
        ("commit", session_fact(record, "commit")),
        ("started", _moment(record.sessions[0].get("t"))),
        ("runs of the command", str(len(record.sessions))),
    ]
    for name in ("device", "torch"):
        pairs += [(f"trials finished on: {name}", made)] if (made := trial_fact(trials, name)) else []
    for group, shown in (("versions", "versions"), ("hardware", "driver's machine")):
        for name in session.get(group) or {}:
            pairs.append((f"{shown}: {name}", session_fact(record, group, name)))
    pairs += _flat("data", session.get("data") or {})
    pairs += [
        ("model", _described(spec.model.name, spec.model.params)),
        ("projector", "none" if spec.model.projector is None else f"width {spec.model.projector}"),
        ("search seeds", _seeds(spec.search.seeds)),
        ("confirm seeds", _seeds(spec.confirm.seeds)),
        *_regimes(spec),
        ("sampler", f"{spec.search.sampler}, seed {spec.search.sampler_seed}"),
        ("pruner", _described(spec.search.pruner.name, spec.search.pruner.params)),
        ("split seed, noise seed", f"{spec.data.split_seed}, {spec.noise.seed}"),
    ]
    rows = tuple((Cell(name), Cell(text)) for name, text in pairs)
    return Table("Provenance", (Column("what"), Column("value")), rows)


def _regimes(spec: StudySpec) -> list[tuple[str, str]]:
    """What the arms were confirmed in, where that is not the standard protocol alone."""
    if list(spec.protocols) == ["standard"]:
        return []
    return [(f"confirmed in: {entry}", _settings(spec, each)) for entry, each in spec.protocols.items()]


def _settings(spec: StudySpec, entry: ProtocolSpec) -> str:
    if entry.settings is None:
        return "standard protocol"
    variant = "method" if entry.protocol == "long_tailed" else "strategy"
    settings = {n: v for n, v in dataclasses.asdict(entry.settings).items() if n != variant}
    parts = [
        f"{entry.protocol}: {', '.join(entry.variants)}",
        ", ".join(f"{name} {_value(value)}" for name, value in settings.items()),
        "parameters of the search's winner"
        if entry.parameters == "winner"
        else "parameters at their defaults",
    ]
    if entry.training is not None:
        changed = {
            field.name: value
            for field in dataclasses.fields(entry.training)
            if (value := getattr(entry.training, field.name)) != getattr(spec.training, field.name)
        }
        recipe = ", ".join(f"{name} {_value(value)}" for name, value in changed.items())
        parts += [f"training: {recipe}"] * bool(changed)
    return "; ".join(parts)


def _value(value: Any) -> str:
    """A setting in one word, or a group of them in brackets."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"({', '.join(f'{name} {_value(each)}' for name, each in dataclasses.asdict(value).items())})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    return "none" if value is None else numbers.parameter(value)


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and prefix.startswith("data: sets: "):
        # A line for each data set, however much is known of it.
        return [(prefix, ", ".join(f"{name} {inner}" for name, inner in value.items()))]
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(f"{prefix}: {name}", inner)]
    if isinstance(value, list | tuple):
        return [(prefix, " x ".join(str(part) for part in value))]
    return [(prefix, str(value))]


def _described(name: str, params: Mapping[str, Any]) -> str:
    return f"{name} ({parameters_text(params)})" if params else name


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _moment(t: Any) -> str:
    return datetime.fromtimestamp(float(t), UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if t else "unknown"
