"""The folders of trials on a store, as a driver and readers need them: few of them, and few files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.objects import Objects, patiently
from workloads.protocols.folder import CHECKPOINT, RESULT, Findings
from workloads.sealed import Damaged, file_digest, read_sealed

_REPORTED = ("scores.npz", "reliability.json", "stream.json")
"""Saved outputs that a report reads of every trial."""
_UNREPORTED = ("id_train", "id_validation", "noise_", "head")
"""What it does not read of an arm's first trial, of which it shows the outputs themselves."""
_SIDE_BY_SIDE = 8


class StoredTrials:
    """The folders on the store, and the copies of some of them here.

    Args:
        study_dir: the study's folder on this machine.
    """

    def __init__(self, objects: Objects, study_dir: Path) -> None:
        self._objects = objects
        self._study = study_dir.name
        self._dir = study_dir

    def look(self, key: str, there: Collection[str]) -> Findings:
        """What is wrong with a finished trial, by its result and what names there are on the store.

        Args:
            there: names of all that the store holds of the study.
        """
        names = {n.removeprefix(f"trials/{key}/") for n in there if n.startswith(f"trials/{key}/")}
        if not names:
            return Findings(("its folder is missing",), f"{CHECKPOINT} is missing")
        lacking = "" if CHECKPOINT in names else f"{CHECKPOINT} is missing from the store"
        folder = self._dir / "trials" / key
        if RESULT not in names:
            return Findings((f"{RESULT} is missing from the store",), lacking)
        try:
            patiently(
                lambda: self._objects.fetch(f"{self._study}/trials/{key}/{RESULT}", folder / RESULT), 60
            )
            record = read_sealed(folder / RESULT)
        except (OSError, Damaged) as error:
            return Findings((f"{RESULT} cannot be used ({error})",), lacking)
        if record.get("key") != key:
            return Findings((f"{RESULT} is another trial's",), lacking)
        gone = tuple(f"{name} is missing from the store" for name in record["files"] if name not in names)
        return Findings(gone, lacking)

    def fetch(self, key: str) -> None:
        """Have all of a trial here that is not. Raises: Damaged; OSError."""
        place, folder = f"{self._study}/trials/{key}", self._dir / "trials" / key
        found = self._objects.listed(place)
        lacking = [
            name for name, each in found.items() if name != RESULT and _size(folder / name) != each.size
        ]
        if RESULT in found:
            self._objects.fetch(f"{place}/{RESULT}", folder / RESULT)
            for name, digest in read_sealed(folder / RESULT)["files"].items():
                if name not in lacking and (folder / name).is_file() and file_digest(folder / name) != digest:
                    lacking.append(name)
        side_by_side(lambda name: self._objects.fetch(f"{place}/{name}", folder / name), lacking)

    def fetch_reported(self, record: StudyRecord) -> None:
        """Have what a report reads here, as far as it is there."""
        complete = [t for t in record.trials.values() if t.stage == "confirm" and t.state == "complete"]
        first = {t.key for arm in record.arms.values() for t in _first_complete(arm)}

        def bring(key: str) -> None:
            place, folder = f"{self._study}/trials/{key}", self._dir / "trials" / key
            # What is not there, or not now, is what the report says is missing.
            with contextlib.suppress(OSError, Damaged, KeyError):
                patiently(lambda: self._objects.fetch(f"{place}/{RESULT}", folder / RESULT), 20)
                listed = read_sealed(folder / RESULT)["files"]
                for name, digest in listed.items():
                    file = name.removeprefix("outputs/")
                    wanted = file in _REPORTED or (key in first and not file.startswith(_UNREPORTED))
                    if wanted and _digest(folder / name) != digest:
                        self._objects.fetch(f"{place}/{name}", folder / name)

        side_by_side(bring, [t.key for t in complete])

    def send(self, keys: Iterable[str]) -> None:
        """Send what has changed here of these trials, which were whole before. Raises: Damaged; OSError."""

        def update(key: str) -> None:
            place, folder = f"{self._study}/trials/{key}", self._dir / "trials" / key
            local = read_sealed(folder / RESULT)
            self._objects.fetch(f"{place}/{RESULT}", folder / ".result")
            before = read_sealed(folder / ".result")
            (folder / ".result").unlink()
            if before == local:
                return
            self._objects.delete(f"{place}/{RESULT}")
            for name in local["files"]:
                if before["files"].get(name) != local["files"][name]:
                    self._objects.put(f"{place}/{name}", folder / name)
            self._objects.put(f"{place}/{RESULT}", folder / RESULT)

        side_by_side(update, list(keys))


def side_by_side(action: Callable[[str], None], names: list[str]) -> None:
    """Do something for every name, several at once; the first error is raised."""
    if names:
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(names))) as pool:
            list(pool.map(action, names))


def _first_complete(arm: ArmRecord) -> Iterator[TrialRecord]:
    """Of each regime, the trial that a report takes for an example."""
    for trials in arm.confirms.values():
        yield from [t for t in trials.values() if t.state == "complete"][:1]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None
