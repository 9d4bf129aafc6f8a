"""The Ray cluster: the one that is named, else a local one that this process starts and stops."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Unavailable
from orchestrator.execution.lifeline import (
    Knock,
    Lifeline,
    bury,
    end_leftovers,
    local_ailment,
    own_raylets,
)
from orchestrator.execution.packing import Machine
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
    # How many trials may wait is decided here, by what the cluster holds at the moment.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
}
_SLOW_START = "timed out during startup"
"""In Ray's bare Exception after its fixed 30 seconds."""
_TOO_SLOW = (
    "Ray's local cluster did not start within 30 s: this machine is very busy (see: uptime), or one of Ray's "
    "processes was ended. Nothing is lost and no trial was run; run the same command again"
)
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's switch for systems where it runs on one machine alone: everything it starts then listens on the
loopback address, where it otherwise listens to all the world, even for ``_node_ip_address="127.0.0.1"``."""
_LOOK_SECONDS = 3.0


class Machines:
    """What the cluster has at the moment: nodes leave and join while a study runs."""

    def __init__(
        self, nodes: Callable[[], list[dict[str, Any]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._look()

    def __call__(self) -> Sequence[Machine]:
        """CPUs and GPUs of each node that is alive; looked up every few seconds, as it is asked often."""
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._look()
        return self._alive

    def _look(self) -> None:
        alive = [node["Resources"] for node in self._nodes() if node["Alive"]]
        self._alive = [(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in alive]
        self._looked = self._clock()


@dataclass(frozen=True)
class Cluster:
    """What a study runs on."""

    address: str
    """``local``, or the address of a running cluster."""
    machines: Machines


def prepare(address: str | None) -> None:
    """Set what Ray reads when it is imported; to be called before anything imports it.

    Args:
        address: as for :func:`connect`.
    """
    local = {} if named(address) else _LOOPBACK
    for name, value in {**_QUIET, **local}.items():
        os.environ.setdefault(name, value)


def named(address: str | None) -> str | None:
    """The address of the cluster that others run; None: a local one will be started."""
    return address or os.environ.get("RAY_ADDRESS") or None


def _require_private_token() -> None:
    """A token for Ray that this user alone can read: in the home folder, else in a folder of its own.

    Ray would write one in the home folder that others may read, and end where it cannot write there.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    home = Path(os.environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111
    if (home / ".ray" / "auth_token").exists():
        return
    try:
        (home / ".ray").mkdir(exist_ok=True)
        _write_token(home / ".ray" / "auth_token")
    except FileExistsError:
        # Another study of this user began at the same moment.
        return
    except OSError:
        token = Path(tempfile.mkdtemp(prefix="orchestrate-")) / "ray_token"
        _write_token(token)
        atexit.register(shutil.rmtree, token.parent, ignore_errors=True)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)


def _write_token(path: Path) -> None:
    """Never seen half written. Raises: FileExistsError where there is one already."""
    number, name = tempfile.mkstemp(dir=path.parent)
    try:
        os.write(number, secrets.token_hex(32).encode())
        Path(path).hardlink_to(name)
    finally:
        os.close(number)
        Path(name).unlink()


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


def _local_node() -> Any:
    """What Ray keeps of the cluster that this process has started; None where it does not name it."""
    import ray

    return getattr(getattr(getattr(ray, "_private", None), "worker", None), "_global_node", None)


@contextlib.contextmanager
def _signals_kept(node: Any) -> Iterator[None]:
    """Signals are handled as before, during the body and after it.

    Ray's core resets SIGTERM to end the process when it shuts down, at once and without a word. Then Ray ends
    its processes, which takes a second, and a study has results to write and to deliver.

    Args:
        node: Ray's own, asked to end its processes within the body; None where it runs none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    end = getattr(node, "kill_all_processes", None)

    def handle_again() -> None:
        for number, handler in kept.items():
            if handler is not None:
                signal.signal(number, handler)

    def handle_again_and_end(*words: Any, **named: Any) -> Any:
        handle_again()
        return end(*words, **named) if end else None

    with contextlib.ExitStack() as stack:
        stack.callback(handle_again)
        if end:
            node.kill_all_processes = handle_again_and_end
            stack.callback(setattr, node, "kill_all_processes", end)
        yield


@contextlib.contextmanager
def connect(
    address: str | None, *, cpus: float | None = None, lost: Callable[[str], None] | None = None
) -> Iterator[Cluster]:
    """A connection to Ray for the time of a study.

    Args:
        address: of a running cluster (``auto``, ``host:port``, ``ray://...``); None: ``RAY_ADDRESS``, else a
            local cluster that is stopped at the end.
        cpus: processors of a local cluster; None: all of this machine's.
        lost: called with the reason, in another thread, where the cluster dies meanwhile; nothing that asks
            Ray can be relied upon then. A local cluster is buried first.
    Raises: Unavailable where the named cluster does not answer.
    """
    prepare(address)
    address = named(address)
    if address:
        _require_answer(address)
        _offer_token()
    else:
        _require_private_token()
    import ray

    _hush()
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            count = max(1, int(cpus or processors()))
            ray.init(
                # Without a word Ray would join whatever cluster was started on this machine by hand.
                address="local",
                num_cpus=count,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100 * 2**20,
            )
    except BaseException as error:
        if not address:
            end_leftovers(own_raylets())
        if not address and _SLOW_START in str(error):
            raise Unavailable(_TOO_SLOW) from error
        if not address or not isinstance(error, ConnectionError | RuntimeError | TimeoutError):
            raise
        raise Unavailable(_no_cluster(address, str(error).splitlines()[0])) from error
    try:
        with _lifeline(address, lost):
            yield Cluster(address or "local", Machines(ray.nodes))
    finally:
        raylets = set() if address else own_raylets()
        with _no_collection(), _signals_kept(_local_node()):
            ray.shutdown()
        end_leftovers(raylets)


def _hush() -> None:
    """Send what Ray prints of its own accord to its logger: pages of its core's log where a node ends.

    What it means for a study is said in the study's words, and the pages stand in Ray's own log files.
    """
    from ray._private import worker

    def note(data: dict[str, Any], *_: object, **__: object) -> None:
        logging.getLogger("ray").warning("\n".join(data.get("lines", [])))

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = note


def _lifeline(
    address: str | None, lost: Callable[[str], None] | None
) -> contextlib.AbstractContextManager[object]:
    """What calls ``lost`` where the cluster dies; nothing, where Ray does not name its processes."""
    import ray

    if lost is None:
        return contextlib.nullcontext()
    if address:
        if not ray.is_initialized() or address.startswith("ray://"):
            return contextlib.nullcontext()
        return Lifeline(Knock(ray.get_runtime_context().gcs_address).ailment, lost, _LOOK_SECONDS)
    processes = getattr(_local_node(), "all_processes", {})

    def mourn(reason: str) -> None:
        bury(processes)
        lost(reason)

    return Lifeline(lambda: local_ailment(processes), mourn)
