"""The one door to this package: prepare the data, run a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workloads.contract import AddedSet, EpochReport, TrialConfig, TrialResult
from workloads.data.prepared import prepare

__all__ = ["prepare", "rescore", "run"]


def run(
    config: TrialConfig,
    report: Callable[[EpochReport], None],
    *,
    folder: Path,
    data_root: Path,
    device: str = "cpu",
    threads: int = 1,
) -> TrialResult:
    """Train and measure one trial, or finish one that was interrupted.

    On the CPU the metrics depend on ``config`` and ``threads`` alone: not on interruptions, nor on what else
    this process ran before.

    Args:
        config: the whole trial; equal configurations have equal keys.
        report: called after every evaluated epoch. After a resume the earlier reports are repeated first,
            also where the whole trial was already finished. What it raises ends the trial, which can be
            resumed.
        folder: the trial's own; made if needed.
        data_root: where :func:`prepare` put the data.
        device: a torch device.
        threads: BLAS threads.
    Raises:
        TrainingDiverged: the loss, a weight or a logit is no longer finite.
        DataMissing: the data were not prepared.
        ValueError: something that ``config`` names is unknown, out of its range, or cannot be run by this
            version.
    """
    # Imported here, because torch takes a second and preparing data does without it.
    from workloads.protocols.trials import run_trial

    return run_trial(config, report, folder=folder, data_root=data_root, device=device, threads=threads)


def rescore(
    config: TrialConfig,
    scores: Sequence[str],
    added: Mapping[str, AddedSet],
    *,
    folder: Path,
    data_root: Path,
    device: str = "cpu",
    threads: int = 1,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Scores of a finished confirm trial from its saved outputs, also of OOD sets that are new to it.

    Nothing is trained. The checkpoint is loaded where a score needs the model (ODIN, GODIN), for new sets,
    and for training images that no score needed before.

    Args:
        scores: such as ``energy:T=0.1``; computed for every set.
        added: OOD sets by the name they get.
    Returns: the metrics ``ood/...``, ``selective/...`` and ``tuned/...`` of these scores (with ``added`` also
        what calibration and geometry say of the new sets), and notes.
    Raises: ValueError where a saved output or the checkpoint is missing or damaged, an argument is wrong, or
        the trial is of a protocol that keeps no outputs to score.
    """
    from workloads.protocols.rescoring import rescore_trial

    part = rescore_trial(
        config, scores, added, folder=folder, data_root=data_root, device=device, threads=threads
    )
    return part.metrics, part.notes
