"""The command line: parses, wires, maps errors to exit codes. Decides nothing, imports inside commands."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from orchestrator.arguments import make_parser
from orchestrator.errors import OrchestrateError
from orchestrator.objects import leave_stores
from orchestrator.redaction import redacted

_INTERRUPTED = 130
_PIPE_CLOSED = 141


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
    leave_stores()
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


# -- commands -----------------------------------------------------------------------------------------------


def _data(arguments: argparse.Namespace) -> int:
    from orchestrator.shelf import check_data, fetch_data, list_data

    actions = {"list": list_data, "fetch": fetch_data, "check": check_data}
    return actions[arguments.action](arguments.names, arguments.data)


def _doctor(arguments: argparse.Namespace) -> int:
    from orchestrator.doctor import examine

    return examine(arguments.out)


def _in(room: str, function: str) -> Callable[[argparse.Namespace], int]:
    """A command's function, imported when it is called: ``orchestrate --help`` needs none of them."""

    def command(arguments: argparse.Namespace) -> int:
        found = getattr(importlib.import_module(f"orchestrator.commands.{room}"), function)
        return int(found(arguments))

    return command


COMMANDS = {
    "study": _in("running", "study"),
    "validate": _in("reading", "validate"),
    "plan": _in("reading", "plan"),
    "submit": _in("jobs", "submit"),
    "status": _in("reading", "status"),
    "logs": _in("jobs", "logs"),
    "cancel": _in("jobs", "cancel"),
    "report": _in("reading", "report"),
    "rescore": _in("running", "rescore"),
    "ui": _in("reading", "ui"),
    "list": _in("listing", "list_entries"),
    "data": _data,
    "doctor": _doctor,
}


if __name__ == "__main__":
    entry()
