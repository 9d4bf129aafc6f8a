"""Where MLflow records go: a server, or an SQLite store in the output folder."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from orchestrator.errors import Unavailable
from orchestrator.redaction import redacted
from orchestrator.tracking.whereabouts import Whereabouts

_DATABASE = "mlflow.db"
_ARTIFACTS = "mlflow-artifacts"


def resolve_uri(spec_uri: str | None, out: Path) -> str:
    """The tracking URI: the study's, else ``MLFLOW_TRACKING_URI``, else SQLite in the output folder."""
    return spec_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / _DATABASE).resolve()}"


def is_new(uri: str) -> bool:
    """Whether the store is a database still to be made, which takes seconds and refuses nobody."""
    return uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).exists()


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Alone with a local store among the studies of this machine while it is opened, and so perhaps made.

    Two processes of MLflow 3.17 that make one database at the same time leave one that nobody can open.
    """
    if not uri.startswith("sqlite:"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


def artifact_root(uri: str, out: Path) -> str | None:
    """Where a local store keeps artifacts; None where a server decides."""
    return (out / _ARTIFACTS).resolve().as_uri() if uri.startswith("sqlite:") else None


def without_credentials(uri: str) -> str:
    """The URI without its user and password."""
    scheme, separator, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def hand_over_credentials(uri: str, environment: MutableMapping[str, str]) -> str:
    """Move a URI's user and password to where MLflow looks for them; the URI without them.

    So no message of any library can hold them. ``MLFLOW_TRACKING_USERNAME``, ``_PASSWORD`` and ``_TOKEN``,
    where they are set, win, as they do in MLflow.
    """
    parts = urlsplit(uri)
    named = {f"MLFLOW_TRACKING_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN")}
    if parts.username and parts.password and not named & set(environment):
        environment["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        environment["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return without_credentials(uri)


def check_store(uri: str) -> str:
    """A sentence about a store that can be used.

    Whether a server lets this user in is seen when the store is opened (see ``Tracker.require_welcome``).

    Raises: Unavailable where it cannot.
    """
    uri = without_credentials(uri)
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        folder = next(p for p in (path, *path.parents) if p.exists())
        if not os.access(folder, os.W_OK):
            raise Unavailable(f"MLflow store {uri}: {folder} cannot be written. Give another --out.")
        return f"{uri} ({'exists' if path.exists() else 'will be made'})"
    if parts.scheme in ("http", "https"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
                answer.read()
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            raise Unavailable(
                f"the MLflow server at {uri} does not answer ({error}); nothing was run. Start it "
                f"(mlflow server --host ... --port ...), or unset MLFLOW_TRACKING_URI and tracking.uri "
                f"to use a store in the output folder."
            ) from error
        return f"{uri} answers"
    raise Unavailable(
        f"MLflow store {redacted(uri)!r} is neither sqlite:///... nor http(s)://...; a plain folder is no "
        f"longer a store that MLflow can write. Leave it out to use SQLite in the output folder."
    )


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def serve_ui(uri: str, port: int, host: str, studies: Mapping[str, Whereabouts] | None = None) -> int:
    """Run the MLflow UI on a store until it is stopped, in the place of this process.

    Returns where there is nothing to run: 0.

    Args:
        port: 0 for a free one.
        studies: by name, those whose pages are pointed out.
    """
    if urlsplit(uri).scheme in ("http", "https"):
        print(f"the records are on a server that has its own UI: {without_credentials(uri)}")
        return 0
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.exists():
        raise Unavailable(f"no MLflow store at {path}: run a study first, or name its folder with --out.")
    chosen = port or free_port(host)
    print(f"MLflow UI on http://{host}:{chosen} (store: {path}); Ctrl-C stops it", flush=True)
    for name, where in (studies or {}).items():
        print(f"  the arms of {name}: {where.arms_page(f'http://{host}:{chosen}')}", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (path.parent / _ARTIFACTS).resolve().as_uri()]
    command += ["--host", host, "--port", str(chosen), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Eight processes that wait for work of a kind which studies do not have.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    sys.stdout.flush()
    # In its place, so that whoever stops this process stops the server and leaves none behind.
    os.execve(sys.executable, command, environment)
