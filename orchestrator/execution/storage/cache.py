"""Where a machine keeps its copies of what lies on an object store."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "ORCHESTRATE_CACHE"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def cache_root(environment: Mapping[str, str] | None = None) -> Path:
    """``ORCHESTRATE_CACHE``, else a folder in the user's cache, else one beside other temporary files.

    Args:
        environment: None: this process's.
    """
    known = os.environ if environment is None else environment
    if known.get(_VARIABLE):
        return Path(known[_VARIABLE]).absolute()
    home = known.get("XDG_CACHE_HOME") or (f"{known['HOME']}/.cache" if known.get("HOME") else "")
    if home:
        found = Path(home) / "orchestrate"
        try:
            found.mkdir(parents=True, exist_ok=True)
        except OSError:
            home = ""
        if home and os.access(found, os.W_OK):
            return found
    return Path(tempfile.gettempdir()) / f"orchestrate-{os.getuid()}"


def working_copy(uri: str, environment: Mapping[str, str] | None = None) -> Path:
    """The folder that stands for an output folder on a store: the same one for the same URI and endpoint.

    It may be deleted whenever no driver works: all that counts lies on the store.
    """
    known = os.environ if environment is None else environment
    endpoint = next((known[name] for name in _ENDPOINTS if known.get(name)), "")
    digest = hashlib.sha256(f"{uri} {endpoint if uri.startswith('s3:') else ''}".encode()).hexdigest()
    return cache_root(known) / "stores" / digest[:16]
