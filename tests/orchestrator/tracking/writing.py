"""One study's writer in a process of its own (``URI FOLDER INSTANCE TRIALS``); prints seconds a trial."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

from benchmarks.mlflow_growth import made_up_record, made_up_trial
from benchmarks.mlflow_growth import made_up_study as study_of
from orchestrator.study.spec import StudySpec, TrackingSpec
from orchestrator.tracking.tracker import make_writer


def made_up_study(name: str) -> StudySpec:
    """All writers share one experiment, which none of them finds there."""
    return dataclasses.replace(study_of(name), tracking=TrackingSpec(experiment="team"))


def main(uri: str, folder: str, instance: str, count: str) -> None:
    spec = made_up_study(instance)
    root = Path(folder).as_uri() if uri.startswith("sqlite") else None
    writer = make_writer(spec, Path(folder), uri, root)()
    record = made_up_record(spec, instance)
    writer.open_study(record)
    taken = []
    for number in range(int(count)):
        trial = made_up_trial(number, spec)
        record.trials[trial.key] = trial
        began = time.perf_counter()
        writer.write_trial(record, trial)
        taken.append(time.perf_counter() - began)
    writer.close(record, "FINISHED", {})
    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
