"""What is known of a study's data on the submitting machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.campaign.ledger import is_there, read_events
from orchestrator.study.spec import StudySpec

_MOST_BYTES = 4 * 2**30
"""Raw files beyond this are not read for their hash: it would take longer than anyone waits."""
_UNKNOWN = "not known here: the study's first run records it"


def data_facts(spec: StudySpec, study_dir: Path | None, sources: Path | None) -> Mapping[str, Any]:
    """The hash of the study's data: of an earlier session, else of the raw files that lie here.

    Args:
        study_dir: the study's folder, where this machine sees it.
        sources: holds one folder of raw files for each source, where this machine sees it.
    Returns: ``hash`` or ``raw_files`` (by name and part), or ``unknown`` with the reason.
    """
    ledger = study_dir / "ledger.jsonl" if study_dir else None
    if ledger is not None and is_there(ledger):
        for event in read_events(ledger):
            if event["event"] == "opened":
                return {"hash": event["data"]["hash"]}
    return _raw_files(spec, sources)


def _raw_files(spec: StudySpec, sources: Path | None) -> Mapping[str, Any]:
    from workloads.contract import DataMissing
    from workloads.data.catalogue import SOURCES
    from workloads.data.names import is_path, path_of

    names = {spec.data.source, *spec.data.near_ood, *spec.data.far_ood}
    folders = [path_of(name)[0] for name in names if is_path(name)]
    folders += [sources / name for name in names if sources and name in SOURCES]
    size = sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())
    if size > _MOST_BYTES:
        return {"unknown": f"{_UNKNOWN} ({size / 2**30:.0f} GiB of raw files)"}
    from workloads.data.stock import Stock

    try:
        # What the hashing notes down for next time is no part of a submission.
        with tempfile.TemporaryDirectory() as notes:
            hashes = Stock(spec.data, Path(notes), sources).hashes
    except (DataMissing, OSError, ValueError):
        return {"unknown": _UNKNOWN}
    # The digits and what is drawn come with the packages.
    return {"raw_files": hashes} if hashes else {"unknown": f"no raw files; {_UNKNOWN}"}
