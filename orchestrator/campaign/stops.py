"""Why a pruner stopped a configuration, in words, and where that was, read back from the words.

The ledger keeps the sentence alone, so that it reads the same however old the ledger is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WITHIN = re.compile(r"stopped by the \w+ pruner at epoch (\d+)(?: of seed (\d+))?")
_AFTER = re.compile(r"stopped by the \w+ pruner after (\d+) of \d+ seeds?")


@dataclass(frozen=True, order=True)
class Stop:
    """Where a pruner stopped a configuration."""

    finished: int
    """Seeds that were through."""
    epoch: int
    """Of the seed after these; 0: none was begun."""


def within(pruner: str, epoch: int, seed: int, seeds: Sequence[int]) -> str:
    """Stopped at an epoch of one of its seeds."""
    reason = f"stopped by the {pruner} pruner at epoch {epoch}"
    return f"{reason} of seed {seed}" if len(seeds) > 1 else reason


def after(pruner: str, finished: int, seeds: Sequence[int]) -> str:
    """Stopped between two seeds."""
    return f"stopped by the {pruner} pruner after {finished} of {len(seeds)} seeds"


def read(reason: str, seeds: Sequence[int]) -> Stop | None:
    """Where a pruner stopped it; None where something else ended it (``cannot win any more ...``, a budget).

    Args:
        seeds: of the search, in their order.
    """
    if found := _WITHIN.fullmatch(reason):
        seed = seeds[0] if found[2] is None else int(found[2])
        return Stop(list(seeds).index(seed), int(found[1])) if seed in seeds else None
    found = _AFTER.fullmatch(reason)
    return Stop(int(found[1]), 0) if found else None
