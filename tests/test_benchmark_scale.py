"""The benchmarks of scale measure what they say; how fast is not tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import decisions, many_trials, onlookers
from benchmarks.many_trials import Delivery, delivery, document, fifths, first_start, in_each_fifth, overhead
from benchmarks.rehearsal import Call, Rehearsal, Shape
from orchestrator.campaign.record import TrialRecord
from orchestrator.study.loader import parse_study
from orchestrator.study.plan import make_plan

SMALL = Shape(arms=3, configurations=8, confirms=2, slots=4, epochs=4)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    rehearsal = Rehearsal(SMALL, tmp_path_factory.mktemp("rehearsal"), [10, 20])
    rehearsal.run()
    return rehearsal


def test_a_rehearsed_study_runs_to_its_end_and_asks_the_sampler_once_a_configuration(
    rehearsed: Rehearsal,
) -> None:
    assert rehearsed.ended == 3 * (8 + 2)
    assert sum(call.kind == "ask" for call in rehearsed.calls) == 3 * 8
    assert sum(call.kind == "finish" for call in rehearsed.calls) == 30
    assert list(rehearsed.resident) == [10, 20, 30]


def test_the_ledger_of_a_mark_holds_as_many_ends(rehearsed: Rehearsal) -> None:
    for mark in (10, 20, 30):
        lines = (rehearsed.folder / f"{mark}.jsonl").read_text().splitlines()
        assert sum(json.loads(line)["event"] == "finished" for line in lines) == mark


def test_figures_are_those_of_the_window_before_the_mark(rehearsed: Rehearsal) -> None:
    made = Rehearsal(SMALL, rehearsed.folder, [10])
    made.resident = {30: 5 * 2**20}
    kinds = ("ask", "next", "report", "finish")
    # 2 ms of processor and 3 ms of wall a call; the first trials were slow, and are out of the window.
    made.calls = [Call(kind, n, 0.002, 0.003) for n in range(30) for kind in kinds]
    made.calls[3] = Call("finish", 0, 0.009, 0.009)
    found = decisions.figures(made, 30)
    assert found["ask"] == pytest.approx({"median": 2.0, "p99": 2.0, "max": 2.0})
    assert found["finish"]["max"] == pytest.approx(9.0)
    # 30 trials of four calls.
    assert found["trial_ms"] == pytest.approx((30 * 4 * 2 + 7) / 30)
    assert found["disk_ms"] == pytest.approx(1.0)
    assert found["resident_mb"] == 5
    late = [Call(kind, n, 0.001, 0.001) for n in range(1000) for kind in kinds]
    made.calls = [Call("ask", 0, 1.0, 1.0), *late]
    made.resident[1000] = 0
    (rehearsed.folder / "1000.jsonl").write_bytes((rehearsed.folder / "30.jsonl").read_bytes())
    assert decisions.figures(made, 1000)["ask"]["max"] == pytest.approx(1.0)


def test_two_rehearsals_decide_alike_and_another_study_does_not(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    shapes = [Shape(arms=1, configurations=n, confirms=1, epochs=3) for n in (5, 5, 6)]
    said = [decisions.decided(Rehearsal(s, f, []).run()) for s, f in zip(shapes, folders, strict=True)]
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_onlookers_see_every_trial_of_the_ledger(
    rehearsed: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = []
    make = onlookers.CountingWriter

    def making() -> Any:
        writers.append(make())
        return writers[-1]

    monkeypatch.setattr(onlookers, "CountingWriter", making)
    found = onlookers.figures(SMALL.spec(), rehearsed.folder / "30.jsonl")
    assert found["ended"] == 30
    assert writers[0].written == 30
    assert all(found[name] > 0 for name in ("display_us", "table_ms", "status_ms", "tracker_put_us"))


def test_the_command_prints_a_line_a_mark(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--arms", "2", "--configurations", "4", "--confirms", "1", "--epochs", "3", "--marks", "5"]
    decisions.main([*words, "--json", str(tmp_path / "found.json")])
    assert [found["ended"] for found in json.loads((tmp_path / "found.json").read_text())] == [5, 10]
    assert "10 trials, " in capsys.readouterr().out


# -- the real thing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trials", [6, 30, 500])
def test_the_study_of_many_trials_has_as_many(trials: int) -> None:
    spec = parse_study(json.dumps(document(trials, 60, 2)), "many.yaml")
    plan = make_plan(spec, 2, {})
    assert len(spec.arms) * (spec.search.trials * len(spec.search.seeds) + len(spec.confirm.seeds)) == trials
    assert spec.search.pruner.name == "none"
    assert plan is not None


@pytest.mark.parametrize("trials", [4, 31])
def test_a_number_of_trials_that_the_arms_cannot_share_is_refused(trials: int) -> None:
    with pytest.raises(ValueError, match=f"at least 6; got {trials}"):
        document(trials, 60, 2)


def trial(ended: float, seconds: float = 1.0) -> TrialRecord:
    record = TrialRecord(str(ended), "a", "search", "standard", 0, 0, {})
    record.ended, record.seconds, record.state = ended, seconds, "complete"
    return record


def test_overhead_is_what_two_workers_did_not_train() -> None:
    # Two workers, a pair of trials every 1.25 s, each busy for 1 s: a quarter of a second a trial.
    trials = [trial(100.0 + 1.25 * (n // 2)) for n in range(12)]
    assert overhead(trials, 2) == pytest.approx(0.25)


def test_fifths_hold_every_trial_once_and_in_order() -> None:
    trials = [trial(float(n)) for n in range(33)]
    parts = fifths(trials)
    assert [len(part) for part in parts] == [6, 6, 6, 6, 9]
    assert [t for part in parts for t in part] == trials


def test_memory_of_a_fifth_is_that_of_its_own_time() -> None:
    trials = [trial(float(n)) for n in range(10)]
    marks = [(0.5, 100 * 2**20, 7 * 2**20), (0.6, 300 * 2**20, 9 * 2**20), (8.5, 400 * 2**20, 2**20)]
    assert in_each_fifth(marks, trials) == [[200, 8], [], [], [], [400, 1]]


def test_missing_doubled_and_wrong_runs_are_counted_apart() -> None:
    states = {"a": "complete", "b": "complete", "c": "pruned", "d": "complete"}
    runs = [("a", "complete"), ("a", "complete"), ("a", "complete"), ("b", ""), ("c", "pruned")]
    assert delivery(runs, states) == Delivery(missing=1, doubled=2, wrong=1)
    assert delivery(list(states.items()), states) == Delivery(0, 0, 0)


def test_the_resume_starts_with_its_own_first_trial() -> None:
    events = [{"event": "started", "t": t} for t in (1.0, 5.0, 9.0, 12.0)] + [{"event": "opened", "t": 7.0}]
    assert first_start(events, 6.0) == 9.0


def test_all_pages_of_runs_are_read_and_only_those_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(list[Any]):
        token: str | None = None

    def run(**tags: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(tags={f"orchestrate.{k}": v for k, v in tags.items()}))

    pages = {None: Page([run(role="study"), run(key="a", state="complete")]), "next": Page([run(key="b")])}
    pages[None].token = "next"

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            pass

        def get_experiment_by_name(self, name: str) -> Any:
            return SimpleNamespace(experiment_id="7")

        def search_runs(self, ids: list[str], max_results: int, page_token: str | None) -> Page:
            assert ids == ["7"]
            return pages[page_token]

    # The real one takes a second to import.
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    assert many_trials.mlflow_runs("sqlite:///none", "many") == [("a", "complete"), ("b", "")]
