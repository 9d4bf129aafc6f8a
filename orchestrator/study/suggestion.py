"""What was probably meant by a misspelt word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORT_LIST = 14


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one, or None where none is near."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint: the likely word; else the known ones where they are few; else nothing."""
    names = list(known)
    near = closest(word, names)
    if near is not None:
        return f"Did you mean {near!r}?"
    if 0 < len(names) <= _SHORT_LIST:
        return f"Known: {', '.join(names)}"
    return ""
