"""Whether what finished confirm and audit trials saved is still what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.campaign.record import StudyRecord, TrialRecord
from workloads.protocols.folder import Findings, examine

_NAMED = 5
"""Trials that are named one by one."""


@dataclass(frozen=True)
class Verification:
    """What was found in the folders of all complete confirm and audit trials."""

    damaged: dict[str, str]
    """By trial key, which file is damaged and how, and what is done about it."""
    words: tuple[str, ...]
    """About what is left as it is, in sentences."""


def verify(
    record: StudyRecord, trials: Path, threads: int, look: Callable[[str], Findings] | None = None
) -> Verification:
    """Compare every file of every complete confirm or audit trial with its checksum.

    A trial whose result or saved outputs are damaged is to be finished once more. One that lacks only its
    model keeps its numbers: to train it again would cost a training and, on a GPU, change them.

    Args:
        trials: the folder of the trials' folders.
        threads: files that are read side by side.
        look: what is wrong with the trial of a key, where its files are elsewhere.
    """
    kept = ("confirm", "audit")
    confirmed = [t for t in record.trials.values() if t.stage in kept and t.state == "complete"]

    def found(trial: TrialRecord) -> Findings:
        return look(trial.key) if look else examine(trials / trial.key, trial.key, confirmed=True)

    # Hashing leaves Python's lock alone.
    with ThreadPoolExecutor(max(1, threads)) as pool:
        findings = dict(zip((t.key for t in confirmed), pool.map(found, confirmed), strict=True))
    damaged = {key: _reason(each) for key, each in findings.items() if each.damage}
    modelless = [t for t in confirmed if t.key not in damaged and findings[t.key].checkpoint]
    return Verification(damaged, tuple(_words(modelless, findings)))


def _reason(found: Findings) -> str:
    more = f" (and {len(found.damage) - 1} more)" if len(found.damage) > 1 else ""
    again = (
        f"trained again, as {found.checkpoint}" if found.checkpoint else "measured again from its checkpoint"
    )
    return f"{found.damage[0]}{more}; {again}"


def _words(modelless: list[TrialRecord], findings: dict[str, Findings]) -> Iterator[str]:
    for trial in modelless[:_NAMED]:
        yield (
            f"{trial.arm} {trial.place} seed {trial.seed}: {findings[trial.key].checkpoint}; its numbers and "
            f"outputs are whole and stay. To have the model again, delete trials/{trial.key} and run this "
            "command again"
        )
    if len(modelless) > _NAMED:
        yield f"... and {len(modelless) - _NAMED} more trials without a whole checkpoint.pt"
