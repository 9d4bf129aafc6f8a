"""The record of a study on a store, and its copy on this machine: small files, and the ledger in parts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator.campaign.mending import copy_of
from orchestrator.execution.storage.parts import Parts
from orchestrator.objects import Listed, Objects
from orchestrator.tracking import whereabouts

_STUDY, _IDENTITY, _LEDGER = "study.yaml", "identity.json", "ledger"
_SMALL = (_IDENTITY, _STUDY, whereabouts.FILE)


class StoredRecord:
    """The record of one study.

    Args:
        study_dir: the working copy on this machine.
    """

    def __init__(self, objects: Objects, study_dir: Path) -> None:
        self._objects = objects
        self._dir = study_dir
        self._study = study_dir.name
        self._parts = Parts(objects, f"{self._study}/{_LEDGER}")
        self._sent: dict[str, bytes] = {}
        """Content of small files that the store has."""
        self.there: Mapping[str, Listed] = {}
        """What the store held of the study when it was last pulled."""

    def pull(self) -> None:
        """Bring the copy to where the store is. Raises: Refused; OSError."""
        self.there = dict(self._objects.listed(self._study))
        for name in _SMALL:
            if name in self.there:
                self._sent[name] = self._objects.get(f"{self._study}/{name}")
        if self._sent.get(_IDENTITY) != _content(self._dir / _IDENTITY):
            # What is here is of another study, or of one that was deleted there.
            self._clear()
        if not self.there:
            return
        self._dir.mkdir(parents=True, exist_ok=True)
        for name, content in self._sent.items():
            (self._dir / name).write_bytes(content)
        self._parts.pull(self._dir / "ledger.jsonl")

    def push(self, ledger: Path) -> None:
        """Send what is new. Raises: Refused; OSError."""
        for name in _SMALL:
            content = _content(self._dir / name)
            if content is not None and content != self._sent.get(name):
                self._objects.put(f"{self._study}/{name}", content)
                self._sent[name] = content
        self._parts.push(ledger)

    def start_anew(self) -> None:
        """Begin with nothing, here as on the store. Raises: Refused; OSError."""
        self._clear()
        self.there, self._sent = {}, {}
        self._parts.pull(self._dir / "ledger.jsonl")

    def _clear(self) -> None:
        ledger = self._dir / "ledger.jsonl"
        for file in (ledger, copy_of(ledger), self._dir / _IDENTITY, self._dir / _STUDY):
            file.unlink(missing_ok=True)
        for folder in ("trials", "report"):
            shutil.rmtree(self._dir / folder, ignore_errors=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
