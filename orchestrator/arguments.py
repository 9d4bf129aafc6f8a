"""The command line's words: commands, their arguments, and what was probably meant by a mistyped one."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.execution.storage.cache import working_copy
from orchestrator.objects import BadPlace, folder_of, require_place
from orchestrator.redaction import redacted
from orchestrator.study.suggestion import did_you_mean

CATALOGUES = ("losses", "models", "recipes", "data", "scores", "samplers", "pruners")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse's message, with what was probably meant."""
        mistyped = re.search(r"invalid choice: '([^']*)'", message)
        unknown = re.search(r"unrecognized arguments: (-\S+)", message)
        if mistyped:
            word, known = mistyped[1], CATALOGUES if "argument what" in message else tuple(_commands(self))
            hint = did_you_mean(word, known)
            if word.endswith((".yaml", ".yml")):
                hint = f"Did you mean: orchestrate study {word}"
            message = (
                f"there is no {'catalogue' if 'argument what' in message else 'command'} {word!r}. {hint}"
            )
        elif unknown:
            actions = (a for p in [self, *_commands(self).values()] for a in p._actions)
            options = dict.fromkeys(option for action in actions for option in action.option_strings)
            message = f"{message}. {did_you_mean(unknown[1], options)}"
        print(f"{self.prog}: {message.rstrip()}\nSee: orchestrate --help", file=sys.stderr)
        raise SystemExit(2)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: command for action in actions for name, command in action.choices.items()}


class _Out(argparse.Action):
    """A folder goes to ``out``; a URI to ``store``, and its copy on this machine to ``out``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        names: argparse.Namespace,
        value: Any,
        option: str | None = None,
    ) -> None:
        names.store, names.out = None, folder_of(value)
        if names.out is None:
            try:
                names.store = require_place(value)
            except BadPlace as error:
                parser.error(f"argument --out: {redacted(value)}: {error}")
            names.out = working_copy(names.store)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        print(f"orchestrate {metadata.version('orchestrate-losses')}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="orchestrate",
        description="Which training loss is really better, by how much, and how surely?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, study: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if study:
            added.add_argument("study", metavar="STUDY", help=study)
        return added

    def out(to: argparse.ArgumentParser) -> None:
        text = "output folder, or a URI such as s3://bucket/runs (default: runs)"
        to.add_argument("--out", action=_Out, default=Path("runs"), help=text)
        to.set_defaults(store=None)

    def sources(to: argparse.ArgumentParser) -> None:
        default = Path(os.environ.get("ORCHESTRATE_DATA", "data"))
        text = "folder of the data sets, one sub-folder each (default: ORCHESTRATE_DATA, else data)"
        to.add_argument("--data", type=Path, default=default, metavar="DIR", help=text)

    file, either = "the study's YAML file", "a YAML file, or the name or folder of a study that has run"
    run = command("study", "run a study, or go on with it", file)
    out(run)
    sources(run)
    run.add_argument("--address", help="Ray cluster (default: RAY_ADDRESS, else a local one)")
    run.add_argument("--fresh", action="store_true", help="start anew; an older run is kept, renamed")
    run.add_argument("--max-concurrent", type=_at_least_one, metavar="N", help="trials side by side")
    run.add_argument("--plain", action="store_true", help="plain lines in place of the live view")
    command("validate", "check a study file", file)
    out(command("plan", "what a study will do, how long it may take, what it can show", file))
    _add_jobs(command)
    text = f"{either}; or a submission's id, its beginning, or last"
    out(command("status", "where a study or a submission stands", text))
    report = command("report", "write the report again and print its summary", either)
    text = "write it again every so many seconds (default: 30) while the study runs"
    report.add_argument("--follow", nargs="?", type=_at_least_one, const=30, metavar="SECONDS", help=text)
    out(report)
    rescore = command("rescore", "add scores or OOD sets to a finished study, without training", either)
    text = "a score, with parameters where needed: energy:T=0.1 (may be repeated)"
    rescore.add_argument("--score", action="append", default=[], metavar="SCORE", help=text)
    text = "an OOD set and the name it gets: a data set, or the path of a folder (may be repeated)"
    rescore.add_argument("--ood", action="append", default=[], metavar="NAME=PATH", help=text)
    out(rescore)
    sources(rescore)
    ui = command("ui", "open the MLflow UI on a study's store")
    ui.add_argument("study", metavar="STUDY", nargs="?", help=either)
    out(ui)
    ui.add_argument("--port", type=int, default=5000, help="default: 5000; 0 for a free one")
    ui.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    listing = command("list", "losses, models, data, scores, samplers and pruners, with their parameters")
    listing.add_argument("what", nargs="?", choices=CATALOGUES, help="which (default: all)")
    listing.add_argument("name", nargs="?", help="one entry of it, such as arcface")
    data = command("data", "data sets: what is there, download, verify")
    data.add_argument("action", choices=("list", "fetch", "check"), help="what to do")
    data.add_argument("names", nargs="*", metavar="NAME", help="data sets (list: default all)")
    sources(data)
    out(command("doctor", "check versions, devices, data, the MLflow store, disk and folders"))
    return parser


def _add_jobs(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that send a study elsewhere, and look after it."""
    submit = command("submit", "run a study on a cluster, or in the background", "the study's YAML file")
    text = "a profile's file, its name in clusters/, or local or ray"
    submit.add_argument("--to", required=True, metavar="CLUSTER", help=text)
    submit.add_argument("--dry-run", action="store_true", help="show what would be sent; write nothing")
    text = "output folder, as the cluster sees it (default: the profile's storage; local: runs)"
    submit.add_argument("--out", "--storage", dest="out", metavar="OUT", help=text)
    text = "folder of the data sets, as the cluster sees it (default: the profile's; local: as for study)"
    submit.add_argument("--data", metavar="DIR", help=text)
    which = "a submission's id, its beginning, or last"
    logs = command("logs", "what a submission has printed")
    logs.add_argument("job", metavar="JOB", help=which)
    logs.add_argument("--follow", action="store_true", help="go on until it is over")
    cancel = command("cancel", "stop a submission; everything finished is kept")
    cancel.add_argument("job", metavar="JOB", help=which)
    for each in (logs, cancel):
        text = "output folder of the study (default: runs)"
        each.add_argument("--out", action=_Out, default=Path("runs"), help=text)
        each.set_defaults(store=None)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)
