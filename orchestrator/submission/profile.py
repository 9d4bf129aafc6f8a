"""A cluster's profile: where and how a study is sent, from a small YAML file, as strict as a study's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestrator.errors import Problem, ProfileInvalid, UserError
from orchestrator.study.document import Document, Node, join, read_text
from orchestrator.study.loader import read_root
from orchestrator.study.reader import BAD, Special, guarded, read_record
from orchestrator.submission.profile_rules import check

Kind = Literal["ray", "slurm", "kuberay", "local"]


@dataclass(frozen=True)
class Profile:
    """One cluster; which keys a kind reads stands in ``profile_rules.KEYS``."""

    name: str = field(metadata={"key": "cluster"})
    kind: Kind
    storage: str | None = None
    """Folder or URI that every node sees: the study's ``--out``. None: only where that is this machine."""
    mounted: str | None = None
    """Where the submitting machine sees ``storage``; None: under the same path."""
    data: str | None = None
    """Folder of the data sets on the cluster; None: the cluster's own default."""
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int | None = None
    memory_per_node: str | None = None
    """A whole number and its unit, such as ``64G``."""
    address: str | None = None
    """Of Ray's job server, such as ``http://127.0.0.1:8265``."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    """The longest that a job may take, ``[D-]HH:MM:SS``."""
    queue: str | None = None
    """Kueue's local queue."""
    image: str | None = None
    """Container image."""
    namespace: str | None = None
    service_account: str | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Persistent volume claims, each with the path where it is mounted."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the job. They are written into files: no secrets."""
    forward: tuple[str, ...] = ()
    """Names of variables that reach the job without being written anywhere."""
    setup: tuple[str, ...] = ()
    """Lines for the shell, run as they stand before the command."""
    options: tuple[str, ...] = ()
    """What else the cluster is told; its meaning is the kind's."""


def load_profile(path: Path) -> Profile:
    """The profile that a file describes.

    Raises: ProfileInvalid with every problem of the file; UserError where it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise ProfileInvalid([Problem(str(path), 1, "", "must be text in UTF-8")]) from None
    return parse_profile(text, str(path))


def parse_profile(text: str, file: str) -> Profile:
    """The profile that a text describes; ``file`` names it in the problems. Raises ProfileInvalid."""
    doc = Document(file, Profile)
    root = read_root(doc, text, "A profile needs at least cluster and kind")
    if root is not None:
        profile: Profile = read_record(doc, root, Profile, "", _SPECIAL)
        check(doc, profile)
    if doc.problems:
        raise ProfileInvalid(sorted(dict.fromkeys(doc.problems), key=lambda p: p.line))
    return profile


def _read_names(doc: Document, node: Node, path: str) -> Mapping[str, str]:
    """A mapping of names to texts."""
    found = {}
    for key, _, value_node in doc.items(node, path):
        value = guarded(doc, value_node, join(path, key), lambda n=value_node: read_text(n))  # type: ignore[misc]
        if value is not BAD:
            found[key] = value
    return found


_SPECIAL: Mapping[object, Special] = {Mapping[str, str]: _read_names}
