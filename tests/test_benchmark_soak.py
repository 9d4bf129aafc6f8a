"""The soak's own arithmetic: its moments, what it compares, and how it goes on after an interruption."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import soak
from benchmarks.faults import case, moments
from benchmarks.faults.case import Bench, Case, Result, verdicts
from benchmarks.faults.command import Command
from benchmarks.faults.comparison import Ended, differences, read_tables, trained_again
from benchmarks.faults.kinds import KINDS
from benchmarks.faults.moments import AIMS, Course, Moment, draw, order
from orchestrator.campaign.ledger import Ledger
from orchestrator.campaign.record import Event
from orchestrator.study.loader import load_study

COURSE = Course(seconds=20.0, up=5.0, closed=17.0, lines=90, confirms=8, trials=16)
LINES = {
    10: "python orchestrate study soak.yaml",
    11: "/ray/core/src/ray/gcs/gcs_server --log_dir=raylet",
    12: "/ray/core/src/ray/raylet/raylet --store=gcs_server",
    13: "ray::ImplicitFunc.train",
    14: "ray::IDLE",
    15: "ray::ImplicitFunc",
}


class Process:
    """Stands for a command that runs until it is said to have ended."""

    def __init__(self, ended_at: float = 1e9) -> None:
        self.began, self._ended_at, self.looked = 0.0, ended_at, 0

    @property
    def ended(self) -> bool:
        self.looked += 1
        return self.looked > self._ended_at


def reached(moment: Moment, home: Path, process: Process) -> bool:
    return moment.reached(cast(Command, process), home)


def test_the_soaks_study_can_be_run() -> None:
    spec = load_study(soak.STUDY)
    assert set(spec.protocols) == {"standard", "continual"}


@pytest.mark.parametrize(
    ("kind", "struck"),
    [
        ("driver", {10}),
        ("raylet", {12}),
        ("gcs", {11}),
        ("everything", set(LINES)),
        ("sigterm", {10}),
        ("preempt", set(LINES)),
    ],
)
def test_every_kind_strikes_whom_it_says(kind: str, struck: set[int]) -> None:
    assert set(KINDS[kind].choose(10, LINES, random.Random(0))) == struck
    deadly = kind not in ("sigterm", "preempt")
    assert KINDS[kind].number == (signal.SIGKILL if deadly else signal.SIGTERM)


def test_one_of_the_workers_is_struck_and_none_where_there_is_none() -> None:
    chosen = [KINDS["worker"].choose(10, LINES, random.Random(k)) for k in range(20)]
    assert {len(each) for each in chosen} == {1}
    assert {each[0] for each in chosen} == {13, 15}
    assert KINDS["worker"].choose(10, {10: LINES[10], 14: LINES[14]}, random.Random(0)) == []


def test_half_of_the_moments_are_uniform_over_the_run_and_the_others_aim_at_everything() -> None:
    aims = order(random.Random(1), needs_ray=False)
    drawn = [draw(k, aims, COURSE, random.Random(k), needs_ray=False) for k in range(400)]
    times = [m.delay for m in drawn if m.aim == moments.UNIFORM]
    assert len(times) == 200
    assert min(times) < 1.0
    assert max(times) > 19.0
    # A uniform time's standard error over 200 draws is .41 s; four of them.
    assert abs(sum(times) / 200 - 10.0) < 1.6
    assert Counter(m.aim for m in drawn if m.aim != moments.UNIFORM) == dict.fromkeys(AIMS, 25)


def test_what_needs_ray_is_struck_only_while_ray_is_up() -> None:
    aims = order(random.Random(1), needs_ray=True)
    drawn = [draw(k, aims, COURSE, random.Random(k), needs_ray=True) for k in range(100)]
    assert {m.aim for m in drawn} == {*AIMS, moments.UNIFORM} - {"start-up", "report", "drain"}
    assert all(COURSE.up <= m.delay <= COURSE.closed for m in drawn if m.aim == moments.UNIFORM)


def test_the_same_seed_draws_the_same_moments() -> None:
    again = [
        [
            draw(k, order(random.Random(7), needs_ray=False), COURSE, random.Random(k), needs_ray=False)
            for k in range(9)
        ]
        for _ in range(2)
    ]
    assert again[0] == again[1]


def test_a_moment_is_reached_when_a_file_has_been_written_so_often(tmp_path: Path) -> None:
    (tmp_path / "trials" / "a").mkdir(parents=True)
    home, moment = tmp_path, Moment("checkpoint", 2)
    (home / "trials" / "a" / "checkpoint.pt").touch()
    (home / "trials" / "a" / ".checkpoint.pt.1").touch()
    assert not reached(moment, home, Process(ended_at=5)), "the same file is seen once"
    (home / "trials" / "a" / ".checkpoint.pt.2").touch()
    assert reached(moment, home, Process(ended_at=5))


def test_a_moment_in_the_ledger_is_reached_by_its_own_events(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"event": "started", "stage": "search"})
    ledger.append({"event": "started", "stage": "confirm"})
    assert reached(Moment("confirm", 1), tmp_path, Process(5))
    assert not reached(Moment("confirm", 2), tmp_path, Process(5))
    assert not reached(Moment("drain", 1), tmp_path, Process(5))
    ledger.append({"event": "closed", "reason": "done"})
    ledger.close()
    assert reached(Moment("drain", 1), tmp_path, Process(5))


def test_nothing_is_seen_twice(tmp_path: Path) -> None:
    look, grown = moments.SIGHTS["confirm"](tmp_path), moments.SIGHTS["ledger"](tmp_path)
    assert (look(), grown()) == (0, 0), "there is no ledger yet"
    ledger = Ledger(tmp_path / "ledger.jsonl")
    seen = []
    for stage in ("confirm", "search", "confirm"):
        ledger.append({"event": "started", "stage": stage})
        seen.append((look(), grown(), look(), grown()))
    ledger.close()
    assert seen == [(1, 1, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0)]


def run(role: str, status: str = "FINISHED", start: int = 1, end: int | None = 2) -> Any:
    info = SimpleNamespace(status=status, start_time=start, end_time=end)
    return SimpleNamespace(info=info, data=SimpleNamespace(tags={"orchestrate.role": role}))


def story(**changes: Any) -> list[Event]:
    """One arm, one configuration, one confirm trial."""
    settled = {"event": "settled", "arm": "a", "number": 0, "state": "complete", "value": 0.25, "reason": ""}
    started = {"event": "started", "key": "k", "arm": "a", "stage": "confirm", "protocol": "standard"}
    ended = {"event": "finished", "key": "k", "state": "complete", "metrics": {"m": 0.5}, "seconds": 1.0}
    events: list[dict[str, Any]] = [
        {"event": "opened", "study": "s", "arms": ["a"]},
        {"event": "configured", "arm": "a", "number": 0, "params": {"lr": 0.1}},
        settled,
        {"event": "selected", "arm": "a", "number": 0, "params": {"lr": 0.1}},
        {**started, "number": 0, "seed": 100, "attempt": 1},
        {**ended, "reason": ""},
    ]
    return [{"t": float(t), **event, **changes.get(event["event"], {})} for t, event in enumerate(events)]


def ended(events: list[Event] | None = None, tables: dict[str, str] | None = None, runs: Any = None) -> Ended:
    return Ended(
        events or story(),
        {"table.csv": "arm,m\na,0.5\n"} if tables is None else tables,
        runs or [run("study")],
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (ended(tables={"table.csv": "arm,m\na,0.50000001\n"}), "table table.csv differs"),
        (ended(tables={}), "table table.csv differs"),
        (ended(story(settled={"value": 0.26})), "arm a was decided otherwise"),
        (ended(story(configured={"params": {"lr": 0.2}})), "arm a was decided otherwise"),
        (ended(story(finished={"metrics": {"m": 0.500001}})), "arm a was decided otherwise"),
        (ended([*story(), story()[-1]]), "trial k finished 2 times"),
        (ended(runs=[run("study"), run("study")]), "MLflow holds study 2 times"),
        (ended(runs=[run("study"), run("x")]), "MLflow holds x, which nobody ran"),
        (ended(runs=[run("x")]), "MLflow lacks study"),
        (ended(runs=[run("study", "RUNNING", end=None)]), "MLflow says RUNNING of study, not FINISHED"),
        (ended(runs=[run("study", start=3)]), "in MLflow study ends before it starts"),
    ],
)
def test_whatever_is_not_as_in_the_undisturbed_study_is_said(found: Ended, said: str) -> None:
    assert said in differences(found, ended())


def test_a_study_that_ended_in_the_same_way_differs_in_nothing() -> None:
    # Times and the seconds that a trial took are the machine's.
    assert differences(ended(story(finished={"seconds": 9.0, "t": 99.0})), ended()) == []


def test_only_a_start_after_the_end_is_training_again() -> None:
    events = story()
    assert trained_again(events) == 0
    assert trained_again([*events[:-1], events[-2], events[-1]]) == 0, "an interrupted trial goes on"
    assert trained_again([*events, events[-2]]) == 1


def test_tables_of_how_the_run_went_are_not_compared(tmp_path: Path) -> None:
    for name, head in (("table", "arm,m"), ("trials", "key,seconds"), ("cost", "arm,n,seconds/mean")):
        (tmp_path / f"{name}.csv").write_text(f"{head}\n")
    assert set(read_tables(tmp_path)) == {"table.csv"}


@pytest.mark.parametrize(
    ("kind", "status", "seconds", "said", "wrong"),
    [
        ("sigterm", 130, 9.0, "Go on with: ...", 0),
        ("sigterm", 130, 10.5, "", 1),
        ("sigterm", -6, 1.0, "", 1),
        ("sigterm", 130, 1.0, "Ray is up\n*** SIGTERM received at", 1),
        ("sigterm", 130, 1.0, "*** SIGTERM received at", 0),
        ("driver", -9, 99.0, "", 0),
        ("driver", 0, 1.0, "", 1),
        ("worker", 1, 1.0, "Traceback (most recent call last)", 2),
    ],
)
def test_a_disturbed_run_must_end_as_its_kind_says(
    kind: str, status: int, seconds: float, said: str, wrong: int
) -> None:
    result = Result(kind, 0, "uniform", True, seconds=seconds, status=status)
    assert len(verdicts(KINDS[kind], result, said)) == wrong


def bench(tmp_path: Path) -> Bench:
    return Bench(soak.STUDY, "soak", 0, COURSE, ended, 60.0)


def test_cases_that_struck_nothing_are_replaced_and_done_ones_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Case] = []

    def run_case(which: Case, _: Bench, folder: Path) -> Result:
        ran.append(which)
        folder.mkdir()
        findings = ["it hung"] if which.number == 1 else []
        return Result(which.kind, which.number, "uniform", struck=which.number != 0, findings=findings)

    monkeypatch.setattr(soak, "run_case", run_case)
    results = soak._run(bench(tmp_path), ["driver"], 2, 1, tmp_path)
    assert [c.number for c in ran] == [0, 1, 2], "the first struck nothing"
    assert (tmp_path / "driver-1").exists(), "a case with findings keeps its folder"
    assert not (tmp_path / "driver-2").exists()
    with (tmp_path / "cases.jsonl").open("a") as file:
        file.write('{"kind": "driver", "num')
    ran.clear()
    again = soak._run(bench(tmp_path), ["driver", "worker"], 2, 1, tmp_path)
    assert {c.kind for c in ran} == {"worker"}
    assert len(again) == len(results) + 3
    assert len(soak.read_results(tmp_path / "cases.jsonl")) == 6, "the cut line ends before the next begins"


def test_the_summary_counts_what_was_found() -> None:
    results = [
        Result("driver", 0, "uniform", True, seconds=1.0, runs=2),
        Result("driver", 1, "drain", False),
        Result(
            "driver", 2, "report", True, seconds=3.0, runs=3, trained_again=1, findings=["table t differs"]
        ),
        Result("worker", 0, "uniform", True, seconds=2.0),
    ]
    lines = soak.summary(results).splitlines()
    assert lines[1].split() == ["driver", "2", "1", "1", "2", "1", "3.0", "1", "1"]
    assert lines[2].split() == ["worker", "1", "0", "1", "0", "0", "2.0", "0", "0"]


def test_a_folder_of_another_soak_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"seed": 1, "study": soak.STUDY.read_text()}))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert soak.main(["--out", str(tmp_path)]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "another seed or study" in capsys.readouterr().err


def test_every_process_of_a_command_is_found_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "orchestrate"
    child = "import time; time.sleep(100)"
    script.write_text(
        f"#!{sys.executable}\nimport subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "print('it is up', flush=True)\ntime.sleep(100)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr("benchmarks.faults.command._COMMAND", script)
    command = Command(soak.STUDY, tmp_path / "out", tmp_path / "log.txt")
    try:
        while not command.last_line():
            assert not command.ended
        assert any(child in line for line in command.processes().values())
        assert not command.wait(0.0)
        command.process.kill()
        assert command.wait(20.0)
        assert len(command.left_behind(0.0)) == 1, "the child is in a session of its own"
    finally:
        command.kill()
    assert command.left_behind(20.0) == []
    assert (command.said(), command.process.returncode) == ("it is up\n", -signal.SIGKILL)


def test_a_ledger_that_does_not_grow_is_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stuck = case._no_progress(tmp_path, 10.0)
    now[0] = 9.0
    assert not stuck()
    (tmp_path / "ledger.jsonl").write_text("a line")
    now[0] = 15.0
    assert not stuck(), "it has grown"
    now[0] = 24.0
    assert not stuck()
    now[0] = 26.0
    assert stuck()


def test_the_soak_says_what_it_can_do() -> None:
    said = soak._parser().format_help()
    assert all(kind in said for kind in KINDS)
