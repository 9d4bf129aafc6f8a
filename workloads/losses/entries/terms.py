"""Short forms for what the entries say again and again."""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter, Term, Value

CLASS_WEIGHTS = Parameter(
    kind="choice",
    default="none",
    meaning="class weights, by the number of training images or its effective number",
    choices=("none", "inverse", "effective"),
)


def lr(default: float, low: float, high: float) -> Parameter:
    """A learning rate for SGD with momentum 0.9 at batch 128, searched on a logarithmic scale."""
    return Parameter("float", default, "peak learning rate", low=0.0, low_open=True, search=log(low, high))


def log(low: float, high: float) -> Term:
    return Term("log_uniform", (low, high))


def uniform(low: float, high: float) -> Term:
    return Term("uniform", (low, high))


def choice(*values: Value) -> Term:
    return Term("choice", values)


def positive(
    default: float, meaning: str, search: Term | None = None, unit: str = "dimensionless"
) -> Parameter:
    return Parameter("float", default, meaning, low=0.0, low_open=True, search=search, unit=unit)


def at_least_zero(
    default: float, meaning: str, search: Term | None = None, unit: str = "dimensionless"
) -> Parameter:
    return Parameter("float", default, meaning, low=0.0, search=search, unit=unit)


def share(default: float, meaning: str, search: Term | None = None) -> Parameter:
    return Parameter("float", default, meaning, low=0.0, high=1.0, search=search, unit="share of training")


def word(default: str, meaning: str, *choices: str) -> Parameter:
    return Parameter("choice", default, meaning, choices=choices)


def switch(default: bool, meaning: str) -> Parameter:
    return Parameter("bool", default, meaning)


def by_name(*entries: Entry) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}
