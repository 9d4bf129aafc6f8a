"""Finding studies that have run, and their records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import StudyMissing
from orchestrator.study.suggestion import did_you_mean

if TYPE_CHECKING:
    from orchestrator.campaign.record import StudyRecord
    from orchestrator.study.spec import StudySpec


def locate(named: str, out: Path) -> tuple[StudySpec, Path]:
    """A study that has run, and its folder.

    Named by a file, it has the file's report and tracking settings, if nothing else changed since it ran.
    """
    from orchestrator.campaign.ledger import is_there
    from orchestrator.study.changes import changes
    from orchestrator.study.loader import load_study

    path = Path(named)
    given = load_study(path) if path.suffix in (".yaml", ".yml") else None
    if given is not None:
        study_dir = out / given.name
    else:
        study_dir = path if (path / "study.yaml").exists() else out / named
    if not (study_dir / "study.yaml").exists() or not is_there(study_dir / "ledger.jsonl"):
        ran = sorted(f.parent.name for f in out.glob("*/study.yaml"))
        hint = did_you_mean(study_dir.name, ran) or f"{out} holds no studies"
        if given is not None:
            hint = f"Run it with: orchestrate study {named} --out {out}"
        raise StudyMissing(f"{study_dir}: no study has run there. {hint}")
    frozen = load_study(study_dir / "study.yaml")
    if given is None:
        return frozen, study_dir
    if changes(frozen, given):
        print(f"warning: {named} has changed since it ran; this is the study in {study_dir}", file=sys.stderr)
        return frozen, study_dir
    return given, study_dir


def record_in(study_dir: Path) -> StudyRecord:
    from orchestrator.campaign.ledger import read_events
    from orchestrator.campaign.mending import Damage
    from orchestrator.campaign.record import StudyRecord

    damage = Damage(study_dir / "ledger.jsonl")
    record = StudyRecord.fold(read_events(damage.path, damage))
    if said := damage.said(mended=False):
        print(f"warning: {said}", file=sys.stderr)
    return record
