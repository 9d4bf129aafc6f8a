"""The Ray cluster: the one that is named, else a local one that this process starts and stops."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Unavailable
from orchestrator.execution.provenance import processors

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # The ledger is the record; Tune's own snapshot is never read, so it need not be written.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
}


@dataclass(frozen=True)
class Cluster:
    """What a study runs on."""

    address: str
    """``local``, or the address of a running cluster."""
    cpus: float
    gpus: float
    nodes: int


def _require_writable_token_path() -> None:
    """Ray writes an access token under the home folder; where that cannot be written, use a private one."""
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    home = Path(os.environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111
    if (home / ".ray").is_dir() and os.access(home / ".ray", os.W_OK):
        return
    if not (home.is_dir() and os.access(home, os.W_OK)):
        # Readable by this user alone, like the folder that holds it.
        token = Path(tempfile.mkdtemp(prefix="orchestrate-")) / "ray_token"
        token.write_text(secrets.token_hex(32))
        atexit.register(shutil.rmtree, token.parent, ignore_errors=True)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)


def _require_answer(address: str) -> None:
    """Ray tries a dead address for many minutes; a plain connection tells within seconds.

    Raises: Unavailable where nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise Unavailable(_no_cluster(address, str(error))) from error


def _no_cluster(address: str, why: str) -> str:
    return (
        f"no Ray cluster answers at {address!r} ({why}); nothing was run. Start one there, or leave out "
        f"--address and RAY_ADDRESS to run on this machine. A cluster with token authentication wants "
        f"RAY_AUTH_MODE=token and its token."
    )


def _offer_token() -> None:
    """Send the user's token where there is one: Ray itself does so for a local cluster only."""
    home = Path(os.environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named or (home / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Leave no garbage, and collect none meanwhile.

    Ray ends the process with status 1 where another thread's garbage collection meets one of its references
    while its core shuts down.
    """
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def connect(address: str | None, *, cpus: float | None = None) -> Iterator[Cluster]:
    """A connection to Ray for the time of a study.

    Args:
        address: of a running cluster (``auto``, ``host:port``, ``ray://...``); None: ``RAY_ADDRESS``, else a
            local cluster that is stopped at the end.
        cpus: processors of a local cluster; None: all of this machine's.
    Raises: Unavailable where the named cluster does not answer.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _require_writable_token_path()
    if address:
        _require_answer(address)
        _offer_token()
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            count = max(1, int(cpus or processors()))
            ray.init(
                num_cpus=count,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100 * 2**20,
            )
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        if not address:
            raise
        raise Unavailable(_no_cluster(address, str(error).splitlines()[0])) from error
    try:
        total = ray.cluster_resources()
        yield Cluster(address or "local", total.get("CPU", 0.0), total.get("GPU", 0.0), len(ray.nodes()))
    finally:
        with _no_collection():
            ray.shutdown()
