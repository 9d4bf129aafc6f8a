"""The names of scores as a study writes them: ``energy``, ``energy:T=0.1``, ``odin:epsilon=tuned,T=1000``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workloads.catalogue import Parameter
from workloads.evaluation.catalogue import SCORES

TUNED = "tuned"
"""The value of a parameter that is chosen on validation images."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class ScoreName:
    """A score of the catalogue and the parameters given to it."""

    name: str
    params: Mapping[str, float | int | str]
    """As given; the others have their defaults."""

    @property
    def label(self) -> str:
        """The name in metrics and paths: letters, digits, dot, underscore and hyphen.

        Parameters that differ from their default follow, sorted: ``odin-T100-epsilon0.0014``,
        ``energy-T_tuned``. Two names have the same label where they mean the same, and only there.
        """
        entry = SCORES[self.name]
        changed = {key: value for key, value in self.params.items() if value != entry.parameters[key].default}
        return "-".join([self.name, *(f"{key}{_written(changed[key])}" for key in sorted(changed))])

    def resolved(self) -> dict[str, float | int | str]:
        """Every parameter of the score, with the default where none was given; ``tuned`` stays a word."""
        found: dict[str, float | int | str] = {}
        for key, parameter in SCORES[self.name].parameters.items():
            value = self.params.get(key, parameter.default)
            assert isinstance(value, float | int | str), "a score's parameters have plain defaults"
            found[key] = value
        return found


def parse_score(text: str) -> ScoreName:
    """The score that a text names.

    Args:
        text: ``name`` or ``name:parameter=value,...``; a value is a number in plain or exponent notation,
            ``true`` or ``false``, or ``tuned`` for a parameter that can be.
    Raises: ValueError for an unknown score or parameter, a repeated parameter, or a value that is missing,
        not of the parameter's kind, or out of its range.
    """
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if name not in SCORES:
        raise ValueError(f"unknown score; got {name!r}. {_hint(name, SCORES)}")
    params: dict[str, float | int | str] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        allowed = SCORES[name].parameters
        if not (key and equals and value):
            raise ValueError(f"{name}: parameters are written parameter=value; got {part!r}")
        if key not in allowed:
            hint = _hint(key, allowed) if allowed else f"{name} has none"
            raise ValueError(f"{name}: unknown parameter; got {key!r}. {hint}")
        if key in params:
            raise ValueError(f"{name}: a parameter is given once; got {key} twice")
        params[key] = _value(f"{name}: {key}", allowed[key], value)
    return ScoreName(name, params)


def _value(where: str, parameter: Parameter, text: str) -> float | int | str:
    if text == TUNED:
        if not parameter.tunable:
            raise ValueError(f"{where} cannot be tuned; give a value")
        return text
    or_tuned = ", or the word tuned" if parameter.tunable else ""
    if parameter.kind == "bool":
        if text not in _BOOLEANS:
            raise ValueError(f"{where} must be true or false{or_tuned}; got {text!r}")
        return _BOOLEANS[text]
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    whole = parameter.kind == "int"
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise ValueError(f"{where} must be a {'whole ' if whole else ''}number{or_tuned}; got {text!r}")
    low, high = parameter.low, parameter.high
    if low is not None and (number < low or (parameter.low_open and number == low)):
        raise ValueError(
            f"{where} must be {'>' if parameter.low_open else '>='} {low:g}{or_tuned}; got {text}"
        )
    if high is not None and number > high:
        raise ValueError(f"{where} must be <= {high:g}{or_tuned}; got {text}")
    # Zero has one sign, so that it has one label.
    return int(number) if whole else number + 0.0


def _written(value: float | int | str) -> str:
    if isinstance(value, bool):
        return f"_{str(value).lower()}"
    if isinstance(value, str):
        return f"_{value}"
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("+", "")


def _hint(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}"
