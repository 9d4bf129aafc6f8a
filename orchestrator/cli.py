"""The command line: parses, wires, maps errors to exit codes. Decides nothing, imports inside commands."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from orchestrator.arguments import CATALOGUES, make_parser
from orchestrator.errors import OrchestrateError, StudyMissing
from orchestrator.redaction import redacted
from orchestrator.study.suggestion import did_you_mean

if TYPE_CHECKING:
    from orchestrator.campaign.record import StudyRecord
    from orchestrator.execution.session import Reported
    from orchestrator.study.spec import StudySpec

_INTERRUPTED = 130
_PIPE_CLOSED = 141
_MEASURED = (
    *("test/", "ood/", "selective/", "tuned/", "calibration/", "geometry/", "robustness/"),
    *("imbalance/", "continual/"),
)
"""How the names of a confirmed model's final metrics begin."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a letter of some author's name is no reason to end a command.
        sys.stdout.reconfigure(errors="replace")
    try:
        arguments = make_parser().parse_args([w for w in words if w != "--debug"])
        arguments.words = words
        arguments.is_process = argv is None
        status: int = COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OrchestrateError as error:
        if debug:
            print(redacted(traceback.format_exc()), file=sys.stderr)
        print(redacted(str(error)), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            print(redacted(traceback.format_exc()), file=sys.stderr)
        else:
            said = redacted(str(error)) or "no message"
            print(
                f"orchestrate: unexpected {type(error).__name__}: {said}. Run again "
                "with --debug for the traceback; please report it",
                file=sys.stderr,
            )
        return 1


def entry() -> NoReturn:
    """The installed command. Leaves without taking the interpreter apart, which would take a second."""
    status = main()
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


# -- commands -----------------------------------------------------------------------------------------------


def _study(arguments: argparse.Namespace) -> int:
    import dataclasses

    from orchestrator.study.loader import load_study
    from orchestrator.study.warnings import warnings

    spec = load_study(Path(arguments.study))
    for warning in warnings(spec):
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.max_concurrent is not None:
        execution = dataclasses.replace(spec.execution, max_concurrent=arguments.max_concurrent)
        spec = dataclasses.replace(spec, execution=execution)
    from orchestrator.execution.session import StudyRun, run_study

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
            report=_reported,
            restart=_restart if arguments.is_process else None,
        )
    )
    return 0


def _restart() -> NoReturn:
    """This command anew, in the same process, as if it had been run again by hand."""
    # The study goes on, so it must not be put aside; argparse also takes the beginning of an option's name.
    words = [w for w in sys.orig_argv[1:] if not (len(w) > 2 and "--fresh".startswith(w))]
    os.execv(sys.executable, [sys.executable, *words])


def _reported(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Reported:
    """Write the report, and what a session or the terminal wants of it."""
    from orchestrator.execution.session import Reported
    from orchestrator.report.build import write_report
    from orchestrator.report.summary import summary_text

    files = write_report(spec, record, study_dir)
    return Reported(summary_text(spec, record, study_dir), files.html.parent, _summaries(spec, record))


def _summaries(spec: StudySpec, record: StudyRecord) -> Mapping[str, Mapping[str, float]]:
    """By arm: each final metric's mean under its own name, and its standard deviation (ddof 1).

    Where a name alone means another regime's metric, the regime's name and a slash stand before it.
    """
    import statistics

    from orchestrator.study.regimes import home_of

    found: dict[str, dict[str, float]] = {}
    for name, arm in record.arms.items():
        shown = found[name] = {}
        for regime, trials in arm.confirms.items():
            done = [t.metrics for t in trials.values() if t.state == "complete"]
            measured = {m for metrics in done for m in metrics if m.startswith(_MEASURED)}
            for metric in sorted(measured):
                values = [metrics[metric] for metrics in done if metric in metrics]
                full = metric if home_of(metric, spec) == regime else f"{regime}/{metric}"
                shown[full] = statistics.fmean(values)
                if len(values) > 1:
                    shown[f"{full}_std"] = statistics.stdev(values)
    return found


def _validate(arguments: argparse.Namespace) -> int:
    from orchestrator.study.loader import load_study
    from orchestrator.study.warnings import warnings

    spec = load_study(Path(arguments.study))
    for warning in warnings(spec):
        print(f"warning: {warning}")
    print(f"{arguments.study}: valid; study {spec.name}, {len(spec.arms)} arms: {', '.join(spec.arms)}")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from orchestrator.execution.provenance import processors
    from orchestrator.report.plan_text import plan_text
    from orchestrator.study.loader import load_study
    from orchestrator.study.plan import make_plan
    from orchestrator.study.warnings import warnings

    spec = load_study(Path(arguments.study))
    plan = make_plan(spec, processors(), _measured(spec, arguments.out / spec.name))
    print(plan_text(spec, plan, warnings(spec)))
    return 0


def _measured(spec: StudySpec, study_dir: Path) -> dict[str, float]:
    """Seconds that a full trial of each arm took, where this study has run some."""
    from orchestrator.campaign.ledger import is_there

    if not is_there(study_dir / "ledger.jsonl"):
        return {}
    record = _record(study_dir)
    taken: dict[str, list[float]] = {name: [] for name in spec.arms}
    for trial in record.trials.values():
        # A trial of another regime is not a full one: the plan reckons with its share of the steps.
        if trial.state == "complete" and trial.regime == "standard" and trial.arm in taken:
            taken[trial.arm].append(trial.seconds)
    return {name: sum(seconds) / len(seconds) for name, seconds in taken.items() if seconds}


def _status(arguments: argparse.Namespace) -> int:
    import time

    from orchestrator.campaign.ledger import last_written
    from orchestrator.commands.jobs import status_lines, submission_named
    from orchestrator.execution.lock import is_locked
    from orchestrator.report.status_text import status_text

    submission = submission_named(arguments.study, arguments.out)
    if submission is not None:
        print("\n".join(status_lines(submission, arguments.out)), end="\n\n")
        arguments.study = submission.job.study
        from orchestrator.campaign.ledger import is_there

        if not is_there(arguments.out / arguments.study / "ledger.jsonl"):
            print(f"Study {arguments.study}: has not begun")
            return 0
    spec, study_dir = _locate(arguments.study, arguments.out)
    record = _record(study_dir)
    written = last_written(study_dir / "ledger.jsonl")
    running = is_locked(study_dir)
    print(status_text(spec, record, study_dir, running=running, written=written, now=time.time()))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    spec, study_dir = _locate(arguments.study, arguments.out)
    reported = _reported(spec, _record(study_dir), study_dir)
    print(reported.text)
    print(f"Report   {reported.folder / 'index.html'}")
    return 0


def _rescore(arguments: argparse.Namespace) -> int:
    from functools import partial

    from orchestrator.errors import UserError
    from orchestrator.execution.rescoring import Rescoring, rescore
    from orchestrator.execution.session import StudyRun, run_study
    from workloads.evaluation.score_names import parse_score

    spec, study_dir = _locate(arguments.study, arguments.out)
    if not arguments.score and not arguments.ood:
        raise UserError("name what to add: --score SCORE or --ood NAME=PATH, or both")
    for text in arguments.score:
        try:
            parse_score(text)
        except ValueError as error:
            raise UserError(f"--score {text}: {error}") from error
    added = dict(_named_set(text) for text in arguments.ood)
    say = partial(print, flush=True)
    rescore(Rescoring(spec, study_dir, arguments.data, tuple(dict.fromkeys(arguments.score)), added, say))
    # The study is finished: running it again brings the report and MLflow up to date.
    again = ["orchestrate", *(shlex.quote(w) for w in arguments.words)]
    out = study_dir.parent
    run_study(
        StudyRun(spec, out, arguments.data, None, fresh=False, plain=True, command=again, report=_reported)
    )
    return 0


def _named_set(text: str) -> tuple[str, str]:
    """``NAME=PATH`` of ``--ood``."""
    import re

    from orchestrator.errors import UserError

    name, _, place = text.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or not place:
        raise UserError(
            f"--ood must be NAME=PATH, with a name of letters, digits, _ and -; got {text!r}. "
            "For example: --ood photos=/data/photos"
        )
    return name, place


def _ui(arguments: argparse.Namespace) -> int:
    from orchestrator.tracking.store import resolve_uri, serve_ui

    uri, out = None, arguments.out
    if arguments.study is not None:
        spec, study_dir = _locate(arguments.study, arguments.out)
        uri, out = spec.tracking.uri, study_dir.parent
    return serve_ui(resolve_uri(uri, out), arguments.port, arguments.host)


def _list(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import UserError
    from orchestrator.report.catalogue_text import catalogue_text, entry_text, recipe_entries
    from orchestrator.study.catalogue import PRUNERS, SAMPLERS
    from orchestrator.study.suggestion import did_you_mean
    from workloads.data.catalogue import SOURCES
    from workloads.evaluation.catalogue import SCORES
    from workloads.losses.catalogue import AUXILIARY, LOSSES
    from workloads.models.catalogue import MODELS

    entries = dict(
        zip(
            CATALOGUES,
            (LOSSES, MODELS, recipe_entries(), SOURCES, SCORES, SAMPLERS, PRUNERS),
            strict=True,
        )
    )
    if arguments.name is not None:
        if arguments.name not in entries[arguments.what]:
            hint = did_you_mean(arguments.name, entries[arguments.what])
            raise UserError(f"{arguments.what} has no {arguments.name!r}. {hint}")
        print("\n".join(entry_text(entries[arguments.what][arguments.name])))
        return 0
    chosen = [arguments.what] if arguments.what else list(entries)
    shared = {"losses": AUXILIARY}
    texts = (catalogue_text(name.capitalize(), entries[name], shared.get(name)) for name in chosen)
    print("\n\n".join(texts))
    return 0


def _data(arguments: argparse.Namespace) -> int:
    from orchestrator.shelf import check_data, fetch_data, list_data

    actions = {"list": list_data, "fetch": fetch_data, "check": check_data}
    return actions[arguments.action](arguments.names, arguments.data)


def _submit(arguments: argparse.Namespace) -> int:
    from orchestrator.commands.jobs import submit

    return submit(arguments)


def _logs(arguments: argparse.Namespace) -> int:
    from orchestrator.commands.jobs import logs

    return logs(arguments)


def _cancel(arguments: argparse.Namespace) -> int:
    from orchestrator.commands.jobs import cancel

    return cancel(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from orchestrator.doctor import examine

    return examine(arguments.out)


COMMANDS = {
    "study": _study,
    "validate": _validate,
    "plan": _plan,
    "submit": _submit,
    "status": _status,
    "logs": _logs,
    "cancel": _cancel,
    "report": _report,
    "rescore": _rescore,
    "ui": _ui,
    "list": _list,
    "data": _data,
    "doctor": _doctor,
}


# -- studies that have run ----------------------------------------------------------------------------------


def _locate(named: str, out: Path) -> tuple[StudySpec, Path]:
    """A study that has run, and its folder.

    Named by a file, it has the file's report and tracking settings, if nothing else changed since it ran.
    """
    from orchestrator.campaign.ledger import is_there
    from orchestrator.study.changes import changes
    from orchestrator.study.loader import load_study

    path = Path(named)
    given = load_study(path) if path.suffix in (".yaml", ".yml") else None
    if given is not None:
        study_dir = out / given.name
    else:
        study_dir = path if (path / "study.yaml").exists() else out / named
    if not (study_dir / "study.yaml").exists() or not is_there(study_dir / "ledger.jsonl"):
        ran = sorted(f.parent.name for f in out.glob("*/study.yaml"))
        hint = did_you_mean(study_dir.name, ran) or f"{out} holds no studies"
        if given is not None:
            hint = f"Run it with: orchestrate study {named} --out {out}"
        raise StudyMissing(f"{study_dir}: no study has run there. {hint}")
    frozen = load_study(study_dir / "study.yaml")
    if given is None:
        return frozen, study_dir
    if changes(frozen, given):
        print(f"warning: {named} has changed since it ran; this is the study in {study_dir}", file=sys.stderr)
        return frozen, study_dir
    return given, study_dir


def _record(study_dir: Path) -> StudyRecord:
    from orchestrator.campaign.ledger import read_events
    from orchestrator.campaign.mending import Damage
    from orchestrator.campaign.record import StudyRecord

    damage = Damage(study_dir / "ledger.jsonl")
    record = StudyRecord.fold(read_events(damage.path, damage))
    if said := damage.said(mended=False):
        print(f"warning: {said}", file=sys.stderr)
    return record


if __name__ == "__main__":
    entry()
