"""Rules of a cluster's profile that its types cannot say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.redaction import redacted
from orchestrator.study.document import Document

if TYPE_CHECKING:
    from orchestrator.submission.profile import Profile

_EVERY = ("cluster", "kind", "storage", "data", "environment", "setup")
_NODES = (
    "mounted",
    "nodes",
    "gpus_per_node",
    "cpus_per_node",
    "memory_per_node",
    "time",
    "options",
    "forward",
)
KEYS: Mapping[str, tuple[str, ...]] = {
    "local": (*_EVERY, "forward"),
    "ray": (*_EVERY, "mounted", "address", "options"),
    "slurm": (*_EVERY, *_NODES, "partition", "account", "qos", "image"),
    "kuberay": (*_EVERY, *_NODES, "queue", "image", "namespace", "service_account", "volumes"),
}
"""The keys that each kind reads; any other would be passed over in silence, and is refused."""

_LEAST = {"nodes": 1, "gpus_per_node": 0, "cpus_per_node": 1}
_FORMS: Mapping[str, tuple[str, str]] = {
    "name": (r"[A-Za-z0-9][A-Za-z0-9_.-]*", "letters, digits, _, - and ."),
    "memory_per_node": (r"[1-9][0-9]*[KMGT]", "a whole number and K, M, G or T, such as 64G"),
    "time": (r"([0-9]+-)?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]", "[D-]HH:MM:SS, such as 24:00:00"),
    "address": (r"https?://[^\s/]+/?", "the URL of a job server, such as http://127.0.0.1:8265"),
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(doc: Document, profile: Profile) -> None:
    """Note every broken rule."""
    if doc.sound("kind"):
        _check_keys(doc, profile)
        _check_needs(doc, profile)
    for field, least in _LEAST.items():
        value = getattr(profile, field)
        if doc.sound(field) and value is not None and value < least:
            doc.problem(field, f"must be at least {least}; got {value}")
    for field, (form, words) in _FORMS.items():
        key = "cluster" if field == "name" else field
        value = getattr(profile, field)
        if doc.sound(key) and value is not None and not re.fullmatch(form, value):
            doc.problem(key, f"must be {words}; got {value!r}")
    for index, option in enumerate(profile.options if profile.kind == "ray" else ()):
        if not re.fullmatch(r"[^=\s]+=.*", option):
            doc.problem(f"options[{index}]", f"must be name=value for kind ray; got {option!r}")
    _check_variables(doc, profile)
    for path, text in _texts(profile):
        if any(ord(letter) < 32 for letter in text):
            doc.problem(path, f"must be one line without control characters; got {text!r}")


def _check_keys(doc: Document, profile: Profile) -> None:
    for key in [k for k in doc.lines if k and "." not in k and "[" not in k]:
        readers = [kind for kind, keys in KEYS.items() if key in keys]
        if readers and profile.kind not in readers:
            hint = ""
            if key == "forward":
                # Ray's job server keeps a job's variables and shows them to whoever asks.
                hint = "Ray shows a job's variables to all its users: set it where the cluster's nodes start"
            doc.problem(key, f"is read for kind {', '.join(readers)} only; got kind {profile.kind}", hint)


def _check_needs(doc: Document, profile: Profile) -> None:
    if profile.kind in ("slurm", "kuberay") and profile.storage is None and doc.sound("storage"):
        doc.problem("storage", "required, and missing", "It is the folder that every node sees")
    if profile.kind == "kuberay" and profile.image is None and doc.sound("image"):
        doc.problem("image", "required, and missing")
    for key in ("storage", "data", "mounted"):
        place = getattr(profile, key)
        whole = place is None or place.startswith("/") or "://" in place
        if profile.kind != "local" and doc.sound(key) and not whole:
            doc.problem(key, f"must be an absolute path or a URI; got {place!r}")
        if place is not None and redacted(place, {}) != place:
            doc.problem(key, "must not hold a login")


def _check_variables(doc: Document, profile: Profile) -> None:
    for name, value in profile.environment.items():
        path = f"environment.{name}"
        if not _VARIABLE.fullmatch(name):
            doc.problem(path, f"must be a variable's name; got {name!r}")
        hint = f"Export it where you submit, and write forward: [{name}]"
        if profile.kind == "ray":
            hint = "Set it where the cluster's nodes start"
        if redacted(value, {name: value}) != value:
            doc.problem(path, "looks like a secret, which must not be written into files", hint)
        elif re.fullmatch(r"\$\{?\w+\}?", value):
            rule = f"is taken as it stands: no variable is filled in; got {value!r}"
            doc.problem(path, rule, hint)
    for index, name in enumerate(profile.forward):
        if not _VARIABLE.fullmatch(name):
            doc.problem(f"forward[{index}]", f"must be a variable's name; got {name!r}")


def _texts(profile: Profile) -> Iterator[tuple[str, str]]:
    """Every text of a profile, with its key."""
    fields: Mapping[str, Any] = vars(profile)
    for field, value in fields.items():
        key = "cluster" if field == "name" else field
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, tuple):
            yield from ((f"{key}[{index}]", each) for index, each in enumerate(value))
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{name}", each) for name, each in value.items())
