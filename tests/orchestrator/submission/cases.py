"""Jobs and profiles to try things on."""

from __future__ import annotations

from pathlib import Path

from orchestrator.submission.job import Job
from orchestrator.submission.profile import Profile

NASTY = "a b'c\"d$HOME;echo `x` \\ #&|*"
"""A word that every unquoted use of it would break."""


def job(
    folder: Path | None, command: tuple[str, ...], profile: Profile | None = None, study: str = "small"
) -> Job:
    return Job(
        id=f"{study}-20260102-030405-0abc",
        study=study,
        folder=folder,
        command=command,
        profile=profile or Profile("local", "local", storage=str(folder and folder.parent)),
        facts={"commit": "5c14bc6", "dirty": False, "patch": "", "data": {"unknown": "?"}, "options": []},
    )


def placed(files: dict[str, str], folder: Path) -> dict[str, Path]:
    """Rendered files, written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in files}
