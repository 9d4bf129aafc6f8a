"""Who a study's folder is to MLflow, kept apart from the ledger: who loses that does not become another."""

from __future__ import annotations

import uuid
from pathlib import Path

from workloads.sealed import Damaged, read_sealed
from workloads.training.storage import write_json

_FILE = "identity.json"


def identify(study_dir: Path, recorded: str | None) -> str:
    """The identity of a study's folder, made where it has none.

    Args:
        recorded: what the ledger says, where it says anything.
    """
    path = study_dir / _FILE
    try:
        kept = str(read_sealed(path)["instance"])
    except (Damaged, KeyError):
        kept = None
    instance = recorded or kept or uuid.uuid4().hex
    if instance != kept:
        write_json(path, {"instance": instance})
    return instance
