"""Secrets are taken out of every text that leaves a process: terminal, ledger, MLflow, report, errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

HIDDEN = "***"
_SHORTEST = 6
"""A shorter value would hide too much that is no secret."""
_SECRET_WORD = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL)S?$")
"""How a word of a variable's name ends that speaks of a secret: ``PGPASSWORD``, but not ``KEYBOARD``."""
_PLACES = ("PATH", "FILE", "DIR", "FOLDER", "HOME")
"""A variable whose name ends so says where a secret is, which is none itself."""

_IN_URL = re.compile(r"(?<=://)[^\s/?#'\"<>]+@")
"""``user:password@`` of any URL."""
_IN_QUERY = re.compile(
    r"(?<=[?&])((?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid"
    r"|signature|sig|(?:access_|auth_)?token|api_?key|secret|password)=)[^&\s'\"<>]+",
    re.IGNORECASE,
)
"""What signs a request to an object store, or opens a door by a query."""
_IN_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\",]+", re.IGNORECASE)


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with ``***`` in the place of every secret that can be known.

    Hidden are user and password in a URL, keys and signatures in its query, what an Authorization header
    holds, and the values (of at least 6 characters) of environment variables whose names speak of a secret
    (TOKEN, SECRET, PASSWORD, KEY, CREDENTIAL), and the passwords in URLs that any variable holds.

    Args:
        environment: None: this process's.
    """
    for secret in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, HIDDEN)
    text = _IN_URL.sub(f"{HIDDEN}@", text)
    text = _IN_QUERY.sub(rf"\1{HIDDEN}", text)
    return _IN_HEADER.sub(rf"\1{HIDDEN}", text)


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Values to hide; the longest first, as one may hold another."""
    found = set()
    for name, value in environment.items():
        for secret in _of_variable(name, value):
            if len(secret) >= _SHORTEST:
                found |= {secret, quote(secret, safe="")}
    return sorted(found, key=lambda secret: (-len(secret), secret))


def _of_variable(name: str, value: str) -> Iterator[str]:
    if "://" in value and "@" in value:
        try:
            password = urlsplit(value).password
        except ValueError:
            password = None
        if password:
            yield password
    words = name.upper().split("_")
    speaks = any(_SECRET_WORD.search(word) for word in words)
    if speaks and words[-1] not in _PLACES and not _is_place(value):
        yield value.strip()
        if "\n" in value:
            # Of a key in many lines, a message may hold any one.
            yield from (line.strip() for line in value.splitlines())


def _is_place(value: str) -> bool:
    """Whether a value names a file or folder of this machine: hiding it would hide half of every path."""
    try:
        return value.startswith(("/", "~")) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
