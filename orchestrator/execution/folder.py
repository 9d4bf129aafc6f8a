"""The study's folder: whose it is, and what happens to an older one."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.campaign.ledger import is_there
from orchestrator.errors import StudyChanged
from orchestrator.execution.lock import DriverLock
from orchestrator.execution.storage.mirror import Mirror
from orchestrator.study.changes import changes
from orchestrator.study.dump import to_yaml
from orchestrator.study.loader import load_study
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.store import without_credentials

_STUDY = "study.yaml"


@contextlib.contextmanager
def claimed(spec: StudySpec, study_dir: Path, *, fresh: bool, mirror: Mirror | None = None) -> Iterator[None]:
    """Hold the study's folder, alone and for this very study, while the body runs.

    Args:
        fresh: put an older folder aside (under a name with the time) and begin anew.
        mirror: of the study's place, where that is more than the folder.
    Raises: StudyLocked where another driver holds it; StudyChanged where it holds a study that differs in
        anything that touches results.
    """
    study_dir.mkdir(parents=True, exist_ok=True)
    mirror = mirror or Mirror(study_dir)
    with contextlib.ExitStack() as locks:
        locks.enter_context(DriverLock(study_dir))
        locks.enter_context(mirror.held())
        if fresh and (study_dir / _STUDY).exists() and (elsewhere := mirror.put_aside()):
            print(f"the earlier study is kept in {elsewhere}")
        elif fresh and (study_dir / _STUDY).exists():
            aside = _unused(study_dir.with_name(f"{study_dir.name}.{time.strftime('%Y%m%d-%H%M%S')}"))
            study_dir.rename(aside)
            locks.close()
            print(f"the earlier study is kept in {aside}")
            study_dir.mkdir()
            locks.enter_context(DriverLock(study_dir))
        frozen = study_dir / _STUDY
        # A study of which nothing was run yet may be mended: it has nothing to keep.
        if frozen.exists() and (is_there(study_dir / "ledger.jsonl") or mirror.has_trials()):
            _require_unchanged(load_study(frozen), spec, mirror.place)
        temporary = study_dir / f"{_STUDY}.new"
        temporary.write_text(to_yaml(_without_secrets(spec)), encoding="utf-8")
        temporary.replace(frozen)
        yield


def _without_secrets(spec: StudySpec) -> StudySpec:
    """What is kept has no password of a tracking server; a resume takes it from the file that it is given."""
    if spec.tracking.uri is None:
        return spec
    tracking = dataclasses.replace(spec.tracking, uri=without_credentials(spec.tracking.uri))
    return dataclasses.replace(spec, tracking=tracking)


def _unused(path: Path) -> Path:
    """The path, or where it is taken (a clock was set back, say) the first free one with a number."""
    names = (path.name, *(f"{path.name}-{number}" for number in range(2, 1000)))
    return next(found for name in names if not (found := path.with_name(name)).exists())


def _require_unchanged(frozen: StudySpec, spec: StudySpec, place: str) -> None:
    differences = changes(frozen, spec)
    if differences:
        lines = [f"{place} belongs to this study as it was before these changes:"]
        lines += [f"  {line}" for line in differences]
        lines += [
            "Nothing was run or changed. To start anew and keep the old one under another name, add --fresh;",
            "to keep both apart, add --out FOLDER or change the study's name.",
        ]
        raise StudyChanged("\n".join(lines))
