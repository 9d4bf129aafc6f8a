"""Finding studies that have run, and their records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import StudyMissing, Unavailable, UserError
from orchestrator.study.suggestion import did_you_mean

if TYPE_CHECKING:
    from orchestrator.campaign.record import StudyRecord
    from orchestrator.execution.storage.mirror import Mirror
    from orchestrator.study.spec import StudySpec


def mirror_of(study_dir: Path, store: str | None) -> Mirror:
    """Of the place of a study, whose folder on this machine is given.

    Args:
        store: the URI that ``--out`` named; None: it named a folder.
    """
    from orchestrator.execution.storage.mirror import Mirror

    if store is None:
        return Mirror(study_dir)
    from orchestrator.execution.storage.store_mirror import StoreMirror
    from orchestrator.objects import Objects

    return StoreMirror(Objects(store), study_dir)


def file_of(named: str) -> Path:
    """A study's file; one that lies on a store is fetched. Raises: Unavailable."""
    from orchestrator.execution.storage.cache import working_copy
    from orchestrator.objects import Objects, folder_of

    path = folder_of(named)
    if path is not None:
        return path
    place, _, name = named.rpartition("/")
    path = working_copy(place) / "given" / name
    try:
        Objects(place).fetch(name, path)
    except OSError as error:
        raise Unavailable(f"{named}: cannot be read ({error})") from error
    return path


def settle(arguments: argparse.Namespace) -> None:
    """Let a study that is named by its place on a store be a name and a store."""
    from orchestrator.execution.storage.cache import working_copy
    from orchestrator.objects import BadPlace, folder_of, require_place

    named = arguments.study
    if named is None or folder_of(named) is not None or named.endswith((".yaml", ".yml")):
        return
    store, _, arguments.study = named.rstrip("/").rpartition("/")
    try:
        arguments.store = require_place(store)
    except BadPlace as error:
        raise UserError(f"{store}: {error}") from error
    arguments.out = working_copy(arguments.store)


def locate(named: str, out: Path, store: str | None = None) -> tuple[StudySpec, Path]:
    """A study that has run, and its folder on this machine.

    Named by a file, it has the file's report and tracking settings, if nothing else changed since it ran.
    """
    from orchestrator.campaign.ledger import is_there
    from orchestrator.study.changes import changes
    from orchestrator.study.loader import load_study

    path = file_of(named)
    given = load_study(path) if path.suffix in (".yaml", ".yml") else None
    if given is not None:
        study_dir = out / given.name
    else:
        study_dir = path if store is None and (path / "study.yaml").exists() else out / named
    mirror = mirror_of(study_dir, store)
    mirror.bring()
    if not (study_dir / "study.yaml").exists() or not is_there(study_dir / "ledger.jsonl"):
        ran = mirror.studies()
        hint = did_you_mean(study_dir.name, ran) or f"{out} holds no studies"
        if given is not None:
            hint = f"Run it with: orchestrate study {named} --out {out}"
        raise StudyMissing(mirror.named(f"{study_dir}: no study has run there. {hint}"))
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
