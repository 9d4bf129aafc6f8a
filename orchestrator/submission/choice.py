"""Which cluster ``--to`` means, and where the study's files go there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import Unavailable, UserError
from orchestrator.objects import BadPlace, require_place
from orchestrator.redaction import redacted
from orchestrator.study.suggestion import did_you_mean
from orchestrator.submission.profile import Profile, load_profile
from orchestrator.submission.ray_jobs import DEFAULT_ADDRESS
from orchestrator.submission.storage import Storage

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def chosen_profile(named: str, folder: Path, environment: Mapping[str, str]) -> Profile:
    """The profile that is named by a path, by its file's name in ``folder``, or by a kind that needs none.

    Raises: UserError where there is none; ProfileInvalid.
    """
    path = Path(named)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return load_profile(path)
    found = {f.stem: f for f in sorted(folder.glob("*.y*ml"))}
    if named in found:
        return load_profile(found[named])
    if named == "local":
        return Profile("local", "local")
    if named == "ray":
        told = environment.get("RAY_ADDRESS", "")
        address = told.rstrip("/") if told.startswith(("http://", "https://")) else DEFAULT_ADDRESS
        return Profile("ray", "ray", address=address)
    hint = did_you_mean(named, [*found, "local", "ray"])
    if named in ("slurm", "kuberay"):
        hint = f"A {named} cluster needs a profile: write {folder / named}.yaml, see docs/clusters.md"
    raise UserError(f"--to: there is no profile {named!r} in {folder}. {hint}")


def placed(profile: Profile, out: str | None, data: str | None) -> Profile:
    """The profile with its storage and data settled; ``out`` and ``data`` are the command line's, if given.

    Folders of this machine are made absolute. Raises: UserError where the cluster's storage is not said.
    """
    here = _is_here(profile)
    storage, mounted = (out, None) if out is not None else (profile.storage, profile.mounted)
    if storage is None and not here:
        raise UserError(
            f"{profile.name}: its storage is not known: add storage to the profile, or --out with a "
            "folder that every node sees"
        )
    data = data or profile.data
    if data is None and here:
        data = os.environ.get("ORCHESTRATE_DATA", "data")
    return dataclasses.replace(
        profile,
        storage=_absolute(storage or "runs"),
        mounted=mounted,
        data=None if data is None else _absolute(data),
    )


def storage_here(profile: Profile, *, make: bool) -> Storage:
    """The profile's storage as this machine sees it.

    Args:
        make: whether to make its folder where this machine is the cluster.
    Raises: Unavailable where this machine does not see it; UserError where it is an object store that the
        kind cannot work with.
    """
    storage = Storage(profile.mounted or profile.storage or "")
    folder = storage.folder
    if folder is None:
        _require_store(profile, storage.place)
        return storage
    if not folder.is_dir():
        if not _is_here(profile):
            raise Unavailable(
                f"storage: this machine does not see the folder {folder}; nothing was submitted. Submit from "
                "a machine that does, make the folder, or say with mounted: where this machine sees it"
            )
        if make:
            folder.mkdir(parents=True, exist_ok=True)
    return storage


def _require_store(profile: Profile, place: str) -> None:
    """Raise UserError where a study cannot be submitted to an object store."""
    if profile.kind == "slurm":
        raise UserError(
            f"storage: {place} is no folder, and Slurm writes a job's log into one; nothing was "
            "submitted. Give a folder that every node mounts, or run `orchestrate study STUDY --out "
            f"{place}` in a batch script of your own"
        )
    try:
        require_place(place)
    except BadPlace as error:
        raise UserError(f"storage: {redacted(place)}: {error}") from error
    if "?" in place:
        raise UserError(
            f"storage: {redacted(place)}: must hold no ? for a submission, whose nodes read it too: set "
            "AWS_ENDPOINT_URL_S3 and the like where they start"
        )


def home_of(profile: Profile) -> Path | None:
    """Under which folder a job's scripts and log lie, as the cluster sees it; None where it needs none.

    Args:
        profile: with its storage settled.
    """
    folder = Storage(profile.storage or "").folder
    if folder is None and profile.kind == "local":
        return Path("runs").absolute()
    return folder


def _is_here(profile: Profile) -> bool:
    """Whether the cluster is this machine, as far as can be told."""
    if profile.kind == "ray":
        return urlsplit(profile.address or DEFAULT_ADDRESS).hostname in _LOOPBACK
    return profile.kind == "local"


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())
