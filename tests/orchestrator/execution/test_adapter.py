"""What the campaign is told of an attempt's end, from what Ray and the worker say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.experiment import Trial

from orchestrator.campaign.campaign import Campaign, Outcome, TrialRequest
from orchestrator.campaign.record import TrialRecord
from orchestrator.execution.adapter import Bridge, CampaignScheduler, InterruptStopper
from orchestrator.execution.packing import Packing
from orchestrator.execution.trial import MEMORY, OUTCOME, timeout_file
from orchestrator.execution.workers import KeptWorkers, survive_memory_monitor
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import ResourcesSpec
from tests.orchestrator.simulation import study

SENTENCE = (
    "Failure # 1 (occurred at noon)\nTask was killed due to the node running low on memory.\n"
    "Memory on the node was 15.0GB / 16.0GB (0.95).\nConsider buying more."
)


class Told:
    """A campaign that remembers what it was told."""

    def __init__(self, limit: float | None) -> None:
        spec = study()
        self.spec = replace(spec, execution=replace(spec.execution, time_limit=limit))
        self.record = SimpleNamespace(
            trials={"key": TrialRecord("key", "hem", "search", "standard", 0, 0, {})}
        )
        self.outcomes: list[Outcome] = []
        self.done = False

    def next_trial(self) -> TrialRequest:
        config = trial_config(self.spec, "hem", {"lr": 0.1}, 0, "search", "da7a")
        return TrialRequest(config, "key", 2)

    def report(self, key: str, epoch: int, metrics: dict[str, float]) -> bool:
        return False

    def finish(self, key: str, outcome: Outcome) -> None:
        trial = self.record.trials[key]
        trial.memory, trial.device_memory = outcome.memory, outcome.device_memory
        self.outcomes.append(outcome)


class Run:
    """One trial in flight, with a clock of its own."""

    def __init__(self, folder: Path, *, gpus: float = 0.0, limit: float | None = None) -> None:
        self.now = 0.0
        self.campaign = Told(limit)
        self.folder = folder
        self.halted: list[str] = []
        self.packing = Packing(ResourcesSpec(1, "auto"))
        self.bridge = Bridge(
            cast(Campaign, self.campaign),
            lambda request: {"folder": str(folder), "resources": {"cpu": 1, "gpu": gpus}},
            lambda: bool(self.halted),
            lambda: self.now,
            self.halted.append,
            self.packing,
        )
        assert isinstance(self.bridge.suggest("ray"), dict)
        self.now = 10.0
        self.bridge.started("ray")

    def after(self, seconds: float) -> Run:
        self.now += seconds
        return self

    def dead(self, said: str = "") -> Outcome:
        self.bridge.died("ray", said)
        self.bridge.complete("ray", None, True)
        self.now += 2.0
        self.bridge.settle()
        return self.campaign.outcomes[0]

    def end(self, outcome: dict[str, Any], **more: Any) -> Outcome | None:
        self.bridge.complete("ray", {OUTCOME: json.dumps(outcome), **more}, False)
        return self.campaign.outcomes[0] if self.campaign.outcomes else None


def failed(kind: str) -> dict[str, Any]:
    return {"state": "failed", "kind": kind, "reason": "in words", "metrics": {}}


def test_a_dead_worker_is_lost_and_waiting_for_it_is_not_counted(tmp_path: Path) -> None:
    outcome = Run(tmp_path, limit=60).after(59).dead("The actor died unexpectedly")
    assert (outcome.state, outcome.kind, outcome.seconds) == ("failed", "lost", 59.0)


def test_a_worker_that_never_began_took_no_time(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.bridge._attempts["ray"].started = None
    assert run.after(100).dead().seconds == 0.0


def test_a_worker_that_died_after_the_limit_was_timed_out(tmp_path: Path) -> None:
    outcome = Run(tmp_path, limit=60).after(60).dead("The actor died unexpectedly")
    assert outcome.kind == "timed_out"
    assert outcome.reason == (
        "it took longer than execution.time_limit = 60 s; its worker could not say where it stood"
    )


def test_a_worker_that_wrote_where_it_stood_was_timed_out_whatever_the_drivers_clock_says(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "trials" / "key"
    folder.mkdir(parents=True)
    run = Run(folder, limit=60)
    # An empty file is of a worker that was killed before its time; that of another attempt says nothing.
    timeout_file(folder, 1).write_text("Timeout!")
    timeout_file(folder, 2).write_text("")
    assert Run(folder, limit=60).after(5).dead().kind == "lost"
    timeout_file(folder, 2).write_text("Timeout!")
    outcome = run.after(5).dead()
    assert outcome.kind == "timed_out"
    assert outcome.reason.endswith("; where it stood is in trials/key/timeout-2.txt")


def test_without_a_limit_nothing_is_timed_out(tmp_path: Path) -> None:
    timeout_file(tmp_path, 2).write_text("of an earlier limit")
    assert Run(tmp_path).after(1e6).dead().kind == "lost"


def test_what_rays_memory_monitor_ended_ran_out_of_memory_in_its_words(tmp_path: Path) -> None:
    outcome = Run(tmp_path, limit=60).after(100).dead(SENTENCE)
    assert outcome.kind == "out_of_memory"
    assert outcome.reason == (
        "ended by Ray's memory monitor: Task was killed due to the node running low on memory. "
        "Memory on the node was 15.0GB / 16.0GB (0.95)."
    )


@pytest.mark.parametrize("kind", ["disk_full", "unseen", "refused"])
def test_a_full_disk_and_its_like_stop_the_study_and_are_no_failure(tmp_path: Path, kind: str) -> None:
    run = Run(tmp_path)
    assert run.end(failed(kind)) is None
    assert run.halted == ["in words"]
    # What else ends now is not recorded either.
    run.bridge.complete("ray", None, True)
    assert run.campaign.outcomes == []


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        (0.0, "in words"),
        (0.25, "in words; it had 0.25 of a GPU: another attempt gets 0.5"),
        (0.6, "in words; it had 0.6 of a GPU: another attempt gets 1"),
        (
            1.0,
            "in words; it had a whole GPU: it needs a smaller training.batch_size or model, or a larger GPU",
        ),
    ],
)
def test_out_of_memory_says_what_would_help(tmp_path: Path, gpus: float, said: str) -> None:
    outcome = Run(tmp_path, gpus=gpus).end(failed("out_of_memory"))
    assert outcome is not None
    assert outcome.reason == said
    other = Run(tmp_path, gpus=gpus).end(failed("exception"))
    assert other is not None
    assert other.reason == "in words"


def test_what_a_trial_needed_is_recorded_and_learned_also_where_it_was_stopped(tmp_path: Path) -> None:
    ending: list[Callable[[Run], object]] = [
        lambda run: run.end({"state": "complete", "metrics": {}, "seconds": 1.0, "notes": []}),
        lambda run: run.bridge.complete("ray", None, False),
    ]
    for end in ending:
        run = Run(tmp_path, gpus=1.0)
        trial = run.campaign.record.trials["key"]
        assert run.packing.gpus(trial) == 1.0
        run.bridge.report("ray", {MEMORY: "[200, 1000]"})
        run.bridge.report("ray", {MEMORY: "[300, 1000]"})
        end(run)
        assert (run.campaign.outcomes[0].memory, run.campaign.outcomes[0].device_memory) == (300, 1000)
        # Three times 300 in the nine tenths of 1000 that may be used.
        assert run.packing.gpus(trial) == 0.3333


def test_a_death_by_the_memory_monitor_is_handed_on_as_one_that_tune_knows() -> None:
    known: list[tuple[Any, Exception]] = []

    def failed(tracked_actor_task: Any, exception: Exception) -> None:
        known.append((tracked_actor_task, exception))

    workers = SimpleNamespace(_actor_task_failed=failed)
    controller = SimpleNamespace(_tune_controller=SimpleNamespace(_actor_manager=workers))
    for _ in range(2):
        survive_memory_monitor(controller)
    other = RayActorError(error_msg="dead")
    # As Tune 2.60 calls it.
    first: dict[str, Any] = {
        "tracked_actor_task": "one",
        "exception": OutOfMemoryError("running low on memory"),
    }
    workers._actor_task_failed(**first)
    workers._actor_task_failed("two", other)
    assert [task for task, _ in known] == ["one", "two"]
    assert isinstance(known[0][1], RayActorError)
    assert str(known[0][1]) == "running low on memory"
    assert known[1][1] is other


def test_no_worker_is_kept_while_a_trial_of_other_resources_is_there() -> None:
    most: dict[str, int] = {}

    def increase(resources: str, count: int) -> None:
        most[resources] = most.get(resources, 0) + count

    controller = SimpleNamespace(_actor_cache=SimpleNamespace(increase_max=increase))
    kept = KeptWorkers(lambda: 4)
    kept.begun(controller, "a", "quarter")
    assert most == {"quarter": 4}
    kept.begun(controller, "b", "half")
    kept.begun(controller, "c", "half")
    assert most["quarter"] == 0
    kept.ended(controller, "b")
    kept.ended(controller, "a")
    assert most["quarter"] == 0
    kept.ended(controller, "c")
    assert most == {"quarter": 4}


def test_a_trial_that_tune_drops_without_a_word_is_lost_and_not_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path)
    scheduler = CampaignScheduler(run.bridge, keep=False)
    controller = SimpleNamespace(get_trials=list)
    dropped = SimpleNamespace(trial_id="ray", status=Trial.RUNNING, placement_group_factory="cpu")
    scheduler.on_trial_add(controller, dropped)
    scheduler.choose_trial_to_run(controller)
    assert run.campaign.outcomes == []
    dropped.status = Trial.ERROR
    scheduler.choose_trial_to_run(controller)
    scheduler.choose_trial_to_run(controller)
    assert not InterruptStopper(run.after(2.0).bridge).stop_all()
    assert [outcome.kind for outcome in run.campaign.outcomes] == ["lost"]


def test_a_loss_that_a_stop_follows_at_once_is_none_of_the_trials_failures(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.bridge.complete("ray", None, True)
    stopper = InterruptStopper(run.after(1.9).bridge)
    assert not stopper.stop_all()
    assert run.campaign.outcomes == [], "a stop may still come"
    run.halted.append("SIGTERM")
    run.after(60)
    assert stopper.stop_all()
    assert run.bridge.suggest("next") == "FINISHED"
    assert run.campaign.outcomes == []


def test_the_next_trial_is_asked_for_with_every_settled_loss_known(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.bridge.complete("ray", None, True)
    run.after(2.0)
    assert isinstance(run.bridge.suggest("next"), dict)
    run.bridge.complete("next", None, True)
    run.after(1.0).bridge.settle()
    assert len(run.campaign.outcomes) == 1
    run.after(1.0).bridge.settle()
    assert [(outcome.kind, outcome.seconds) for outcome in run.campaign.outcomes] == [("lost", 0.0)] * 2


def test_where_workers_may_not_wait_none_is_kept() -> None:
    asked: list[Any] = []
    controller = SimpleNamespace(_actor_cache=SimpleNamespace(increase_max=lambda *each: asked.append(each)))
    kept = KeptWorkers(lambda: 0)
    kept.begun(controller, "a", "whole")
    kept.begun(controller, "b", "half")
    kept.ended(controller, "b")
    assert asked == []
