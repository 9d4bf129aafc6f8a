"""A command in a container of Apptainer, which clusters have where they have no Docker."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.submission.profile import Profile


def contained(profile: Profile, command: Iterable[str]) -> list[str]:
    """The command as it runs in the profile's image, which sees storage and data; as it is without one."""
    if profile.image is None:
        return list(command)
    places = [place for place in (profile.storage, profile.data) if place]
    gpus = ["--nv"] if profile.gpus_per_node else []
    binds = [word for place in places for word in ("--bind", place)]
    return ["apptainer", "exec", *gpus, *binds, profile.image, *command]
