"""Which prepared folder holds the data of given settings and raw files.

A folder is named by its content alone. This index, one small file for each study's settings, leads there
without reading a pixel. Losing it costs time and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.contract import DataConfig, DataFacts, NoiseConfig
from workloads.data.workshop import read_json, write_json

FORMAT = 2
"""Raised when the same settings and raw files give other sets than before."""

_KEPT = 20


class Index:
    """The entries of one study's settings, the last used one last."""

    def __init__(self, data: DataConfig, noise: NoiseConfig, root: Path) -> None:
        settings = {"format": FORMAT, "data": dataclasses.asdict(data), "noise": dataclasses.asdict(noise)}
        # How pixels are normalised is applied when the data are opened.
        del settings["data"]["normalisation"]  # type: ignore[attr-defined]
        text = json.dumps(settings, sort_keys=True)
        self._path = root / "index" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def facts(self, hashes: Mapping[str, str]) -> DataFacts | None:
        """What was prepared of raw files with these hashes, or None."""
        return next((facts for found, facts in reversed(self._entries()) if found == dict(hashes)), None)

    def latest(self) -> DataFacts | None:
        """What was prepared last, whatever the raw files."""
        entries = self._entries()
        return entries[-1][1] if entries else None

    def note(self, hashes: Mapping[str, str], facts: DataFacts) -> None:
        """Remember what was prepared of raw files with these hashes."""
        others = [(found, each) for found, each in self._entries() if found != dict(hashes)]
        entries = [*others[1 - _KEPT :], (dict(hashes), facts)]
        write_json(
            self._path,
            {"entries": [{"raw": raw, "facts": dataclasses.asdict(each)} for raw, each in entries]},
        )

    def _entries(self) -> list[tuple[dict[str, str], DataFacts]]:
        try:
            return [(each["raw"], facts_of(each["facts"])) for each in read_json(self._path)["entries"]]
        except (KeyError, TypeError):
            return []


def facts_of(values: Mapping[str, Any]) -> DataFacts:
    """DataFacts as they were before a trip through JSON. Raises: KeyError, TypeError where they are not."""
    lists = {name: tuple(values[name]) for name in ("image_shape", "train_counts")}
    return DataFacts(**{**values, **lists})
