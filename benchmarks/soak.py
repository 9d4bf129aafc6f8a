"""Disturbs a small study at random moments, and compares what it gives with an undisturbed run.

    python -m benchmarks.soak --kind driver worker raylet everything sigterm --moments 20 [--out FOLDER]

A case is one fault at one moment: the study is started, the fault is done for real, the same command is run
until the study has ended (three times at most), and then the tables, the decisions, MLflow's runs and the
ledger are compared with those of the undisturbed run. Every other moment is drawn uniformly over the
undisturbed run's wall time; the rest are aimed at the start, a file being written, the report, the drain.
Linux only: processes are found in /proc. Interrupted, it goes on with the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.faults.case import Bench, Case, Result, run_case
from benchmarks.faults.command import Command, Over, end_all
from benchmarks.faults.comparison import Ended, read_ended
from benchmarks.faults.kinds import KINDS
from benchmarks.faults.moments import Course
from orchestrator.study.loader import load_study

STUDY = Path(__file__).with_name("faults") / "study.yaml"
_KINDS = ("driver", "worker", "raylet", "everything", "sigterm")
_LONGEST_SECONDS = 900.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases that are asked for and not done yet; 1 where one of them found something."""
    arguments = _parser().parse_args(argv)
    # Nothing of a study may be left behind, however the soak is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    same = {"seed": arguments.seed, "study": arguments.study.read_text()}
    settings = out / "settings.json"
    if settings.exists() and json.loads(settings.read_text()) != same:
        print(f"{out} belongs to another seed or study; name another folder with --out", file=sys.stderr)
        return 2
    settings.write_text(json.dumps(same))
    name = load_study(arguments.study).name
    course = undisturbed(arguments.study, name, out / "undisturbed")
    print(
        f"undisturbed: {course.seconds:.1f} s, Ray up after {course.up:.1f} s, {course.trials} trials",
        flush=True,
    )
    wanted = functools.cache(functools.partial(read_ended, out / "undisturbed" / "out", name))
    bench = Bench(arguments.study, name, arguments.seed, course, wanted, arguments.patience)
    results = _run(bench, arguments.kind, arguments.moments, arguments.jobs, out)
    print(summary(results))
    return 1 if any(result.findings for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(_KINDS))
    parser.add_argument(
        "--moments", type=int, default=20, help="cases of a kind in which there was a fault to do"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--study", type=Path, default=STUDY, help="small, and deterministic")
    parser.add_argument("--jobs", type=int, default=1, help="kinds side by side")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds without a line in the ledger")
    return parser


def undisturbed(study: Path, name: str, folder: Path) -> Course:
    """Run the study once, unless that has been done.

    Raises: RuntimeError where it fails.
    """
    path = folder / "course.json"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = Command(study, folder / "out", folder / "run.txt")
        try:
            if not command.wait(_LONGEST_SECONDS) or command.process.returncode != 0:
                raise RuntimeError(f"the undisturbed run must end well; it said:\n{command.said()[-2000:]}")
        finally:
            command.kill()
        path.write_text(json.dumps(dataclasses.asdict(_course(read_ended(folder / "out", name), command))))
    return Course(**json.loads(path.read_text()))


def _course(ended: Ended, command: Command) -> Course:
    """Seconds from the start of the command; the ledger's times are of the same clock as the file's."""
    end = command.log.stat().st_mtime
    times = [event["t"] for event in ended.events]
    seconds = end - command.started
    trials = ended.record.trials.values()
    confirms = sum(trial.stage == "confirm" for trial in trials)
    up, closed = times[0] - command.started, times[-1] - command.started
    return Course(seconds, up, closed, len(times), confirms, len(trials))


def _run(bench: Bench, kinds: Iterable[str], moments: int, jobs: int, out: Path) -> list[Result]:
    """All results of these kinds, those of earlier runs first."""
    path, writing = out / "cases.jsonl", threading.Lock()
    results = read_results(path)

    def run_kind(kind: str) -> None:
        done = {r.number: r for r in results if r.kind == kind}
        number = 0
        # A moment at which there was nothing to strike says nothing, and another is drawn for it.
        while sum(r.struck for r in done.values()) < moments and number < 2 * moments:
            if number not in done:
                case = Case(kind, number)
                folder = out / case.name
                shutil.rmtree(folder, ignore_errors=True)
                try:
                    done[number] = result = run_case(case, bench, folder)
                except Over:
                    return
                if not result.findings:
                    shutil.rmtree(folder, ignore_errors=True)
                with writing:
                    results.append(result)
                    write_result(path, result)
                    print(line(result, folder), flush=True)
            number += 1

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(run_kind, kinds))
        except KeyboardInterrupt:
            end_all()
            raise
    return [result for result in results if result.kind in set(kinds)]


def read_results(path: Path) -> list[Result]:
    """What was found so far; a line that was cut off is left out, and its case is run again."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(Result(**json.loads(text)))
        except json.JSONDecodeError:
            continue
    return found


def write_result(path: Path, result: Result) -> None:
    """Append a line; one that an interruption cut off before it ends first."""
    whole = not path.exists() or path.read_text()[-1:] in ("", "\n")
    with path.open("a") as file:
        file.write(("" if whole else "\n") + json.dumps(dataclasses.asdict(result)) + "\n")


def line(result: Result, folder: Path) -> str:
    head = f"{result.kind:10s} {result.number:3d}  {result.aim:10s} "
    if not result.struck and not result.findings:
        return head + "nothing to strike any more"
    body = f"at {result.at:5.1f} s, over after {result.seconds:5.1f} s, status {result.status:3d}, "
    body += f"{result.runs} run{'s' if result.runs > 1 else ''}"
    if not result.findings:
        return f"{head}{body}: the same  | {result.said[:70]}"
    return f"{head}{body}: {'; '.join(result.findings)}  | {result.said[:200]}\n    kept in {folder}"


def summary(results: Sequence[Result]) -> str:
    """A row a kind."""
    head = ("kind", "cases", "nothing to strike", "same tables", "second run", "third run", "most seconds")
    rows = [(*head, "trained again", "with findings")]
    for kind in dict.fromkeys(r.kind for r in results):
        own = [r for r in results if r.kind == kind]
        struck = [r for r in own if r.struck]
        rows.append(
            (
                kind,
                str(len(struck)),
                str(len(own) - len(struck)),
                str(sum(r.same for r in struck)),
                str(sum(r.runs > 1 for r in struck)),
                str(sum(r.runs > 2 for r in struck)),
                f"{max((r.seconds for r in struck), default=0.0):.1f}",
                str(sum(r.trained_again for r in own)),
                str(sum(bool(r.findings) for r in own)),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
