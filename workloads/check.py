"""Whether configurations can be run at all, said before anything is trained.

``python -m workloads.check`` reads a JSON object from standard input, ``{"configs": [...], "facts": {...}}``,
and writes a JSON list: for each configuration null where it can be run, or what :func:`problem` says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from workloads.contract import TrialConfig


@dataclass(frozen=True)
class Misfit:
    """Why a trial cannot be run."""

    whose: Literal["settings", "arm"]
    """``settings``: no loss could be trained so on these data."""
    reason: str


def problem(config: TrialConfig, facts: Mapping[str, Any]) -> Misfit | None:
    """Why this trial cannot be run, or None: its data, its loss, its model, and the one on top of the other.

    Args:
        config: a trial of any stage.
        facts: a :class:`workloads.contract.DataFacts` as a mapping.
    """
    from workloads.protocols.fitness import Presentation, presented, tried

    try:
        presentation: Presentation = presented(config, facts)
    except ValueError as error:
        return Misfit("settings", _sentence(error))
    try:
        tried(config, presentation)
    except Exception as error:
        return Misfit("arm", _sentence(error))
    return None


def _sentence(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return first[0] if isinstance(error, ValueError) and first else f"{type(error).__name__}: {error}"


def main() -> None:
    request = json.load(sys.stdin)
    found = [problem(TrialConfig.from_dict(record), request["facts"]) for record in request["configs"]]
    json.dump([None if misfit is None else asdict(misfit) for misfit in found], sys.stdout)


if __name__ == "__main__":
    main()
