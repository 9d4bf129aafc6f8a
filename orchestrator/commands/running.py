"""``orchestrate study`` and ``rescore``: the commands that train or measure."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import sys
from functools import partial
from typing import NoReturn

from orchestrator.commands.results import reported
from orchestrator.commands.stored import file_of, locate, mirror_of, settle
from orchestrator.errors import UserError


def study(arguments: argparse.Namespace) -> int:
    from orchestrator.study.loader import load_study
    from orchestrator.study.warnings import warnings

    spec = load_study(file_of(arguments.study))
    for warning in warnings(spec):
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.max_concurrent is not None:
        execution = dataclasses.replace(spec.execution, max_concurrent=arguments.max_concurrent)
        spec = dataclasses.replace(spec, execution=execution)
    from orchestrator.execution.session import run_study
    from orchestrator.execution.study_run import StudyRun

    # The command that goes on must not throw away what this one made.
    again = ["orchestrate", *(shlex.quote(w) for w in arguments.words if w != "--fresh")]
    run_study(
        StudyRun(
            spec=spec,
            out=arguments.out,
            sources=arguments.data,
            address=arguments.address,
            fresh=arguments.fresh,
            plain=arguments.plain,
            command=again,
            report=reported,
            restart=_restart if arguments.is_process else None,
            stored=mirror_of(arguments.out / spec.name, arguments.store),
        )
    )
    return 0


def _restart() -> NoReturn:
    """This command anew, in the same process, as if it had been run again by hand."""
    # The study goes on, so it must not be put aside; argparse also takes the beginning of an option's name.
    words = [w for w in sys.orig_argv[1:] if not (len(w) > 2 and "--fresh".startswith(w))]
    os.execv(sys.executable, [sys.executable, *words])


def rescore(arguments: argparse.Namespace) -> int:
    from orchestrator.execution import rescoring
    from orchestrator.execution.session import run_study
    from orchestrator.execution.study_run import StudyRun
    from workloads.evaluation.score_names import parse_score

    settle(arguments)
    spec, study_dir = locate(arguments.study, arguments.out, arguments.store)
    if not arguments.score and not arguments.ood:
        raise UserError("name what to add: --score SCORE or --ood NAME=PATH, or both")
    for text in arguments.score:
        try:
            parse_score(text)
        except ValueError as error:
            raise UserError(f"--score {text}: {error}") from error
    added = dict(_named_set(text) for text in arguments.ood)
    say = partial(print, flush=True)
    scores = tuple(dict.fromkeys(arguments.score))
    job = rescoring.Rescoring(spec, study_dir, arguments.data, scores, added, say)
    mirror = mirror_of(study_dir, arguments.store)
    with mirror.held(), mirror.changing_trials(rescoring.finished_keys(study_dir)):
        rescoring.rescore(job)
    # The study is finished: running it again brings the report and MLflow up to date.
    again = ["orchestrate", *(shlex.quote(w) for w in arguments.words)]
    out = study_dir.parent
    # A mirror is held once.
    mirror = mirror_of(study_dir, arguments.store)
    run_study(
        StudyRun(
            *(spec, out, arguments.data, None),
            fresh=False,
            plain=True,
            command=again,
            report=reported,
            stored=mirror,
        )
    )
    return 0


def _named_set(text: str) -> tuple[str, str]:
    """``NAME=PATH`` of ``--ood``."""
    name, _, place = text.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or not place:
        raise UserError(
            f"--ood must be NAME=PATH, with a name of letters, digits, _ and -; got {text!r}. "
            "For example: --ood photos=/data/photos"
        )
    return name, place
