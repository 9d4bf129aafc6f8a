"""Making MLflow's SQLite database whole or not at all.

MLflow 3.17 makes its tables one after the other. Killed in between, it leaves a database that it can neither
finish nor open again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mlflow import MlflowClient

from orchestrator.tracking.store import is_new


def make_database(uri: str) -> None:
    """Make a local store's database where there is none, under another name until it is whole.

    To be called by one process at a time (see ``store.one_at_a_time``).
    """
    if not is_new(uri):
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    client = MlflowClient(tracking_uri=f"sqlite:///{draft}")
    client.search_experiments(max_results=1)
    with contextlib.suppress(AttributeError):
        # Closes the file; MLflow has no public word for it.
        client._tracking_client.store.engine.dispose()
    draft.replace(path)
