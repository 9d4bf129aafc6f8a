"""A study of made-up trials through the real campaign, ledger and sampler, timed call by call."""

from __future__ import annotations

import gc
import heapq
import itertools
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.campaign.campaign import Campaign, Outcome, TrialRequest
from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.ledger import Ledger
from orchestrator.campaign.record import StudyRecord
from orchestrator.study.spec import ArmSpec, ConfirmSpec, PrunerSpec, SearchSpec, StudySpec
from workloads.catalogue import Term
from workloads.contract import DataConfig, DataFacts, ModelConfig, NoiseConfig, TrainingConfig

FACTS = DataFacts("da7a" * 4, 542, 180, 361, 6, (1, 8, 8), {})
_JOURNAL_SECONDS = 5.0
"""As in a session: Optuna's journal goes to the disk at most this often."""
KINDS = ("ask", "next", "report", "finish")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Shape:
    """How large the study is."""

    arms: int = 50
    configurations: int = 195
    """Of each arm."""
    seeds: int = 1
    """Of each configuration."""
    parallel: int = 2
    slots: int = 8
    epochs: int = 10
    confirms: int = 5
    """Confirm seeds of each arm."""
    sampler: str = "tpe"
    pruner: str = "median"

    def spec(self) -> StudySpec:
        lr, tau = Term("log_uniform", (0.01, 0.4)), Term("log_uniform", (0.01, 1.0))
        names = [f"arm{n:02d}" for n in range(self.arms)]
        return StudySpec(
            name="simulated",
            data=DataConfig("digits", (0, 1, 2, 3, 4, 5), near_ood=("held_out",), far_ood=("uniform",)),
            model=ModelConfig("small_cnn_8x8"),
            arms={name: ArmSpec(name, "logitnorm", {"tau": tau, "lr": lr}) for name in names},
            baseline=names[0],
            training=TrainingConfig(epochs=self.epochs),
            noise=NoiseConfig(size=100),
            search=SearchSpec(
                sampler=self.sampler,  # type: ignore[arg-type]
                trials=self.configurations,
                seeds=tuple(range(self.seeds)),
                parallel=self.parallel,
                pruner=PrunerSpec(self.pruner, 2, {}),  # type: ignore[arg-type]
            ),
            confirm=ConfirmSpec(tuple(range(100, 100 + self.confirms))),
        )


def landscape(request: TrialRequest, epoch: int) -> Mapping[str, float]:
    """Made-up metrics: a bowl around lr = .1, luck from the seed, better with every epoch."""
    config, luck = request.config, random.Random(f"{request.key}/{epoch}").random()
    distance = abs(math.log10(config.training.lr) + 1.0)
    left = 1.0 - epoch / config.training.epochs
    fpr = min(1.0, max(0.0, 0.3 * distance + 0.5 * left + 0.1 * luck))
    accuracy = max(0.0, 0.98 - 0.05 * distance - 0.3 * left)
    return {"validation/accuracy": accuracy, "noise/fpr95": round(fpr, 2), "noise/auroc": 1.0 - fpr / 2}


@dataclass(frozen=True)
class Call:
    """One call of the campaign."""

    kind: str
    ended: int
    """Trials that had ended by then."""
    cpu: float
    wall: float


@dataclass
class Rehearsal:
    """A study whose trials are made up, timed call by call; its ledger is copied at every mark."""

    shape: Shape
    folder: Path
    marks: Sequence[int]
    calls: list[Call] = field(default_factory=list)
    resident: dict[int, int] = field(default_factory=dict)
    """Bytes, by mark."""
    ended: int = 0
    asked: bool = False
    """Whether the call of this moment asked the sampler."""
    pauses: list[float] = field(default_factory=list)
    """Seconds of full garbage collections."""

    def run(self) -> StudyRecord:
        ledger = Ledger(self.folder / "ledger.jsonl")
        journal = BufferedJournal(self.folder / "optuna.journal")
        flushed = time.monotonic()
        spec, record = self.shape.spec(), StudyRecord()

        def emit(event: dict[str, Any]) -> None:
            nonlocal flushed
            self.asked |= event["event"] == "configured"
            # As a session does it.
            ledger.append(event, durable=event["event"] != "reported")
            if event["event"] == "finished" and time.monotonic() - flushed > _JOURNAL_SECONDS:
                journal.flush()
                flushed = time.monotonic()

        opened = {"event": "opened", "t": 0.0, "study": spec.name, "instance": "1", "arms": list(spec.arms)}
        opened |= {"data": {"hash": FACTS.hash}, "commit": ""}
        emit(opened)
        record.apply(opened)
        now = [0.0]
        campaign = Campaign(spec, FACTS, record, emit, journal, clock=lambda: now[0])
        gc.callbacks.append(self._collected)
        for mark in self._loop(campaign, now):
            self.resident[mark] = _resident()
            shutil.copy(ledger.path, self.folder / f"{mark}.jsonl")
        gc.callbacks.remove(self._collected)
        journal.flush()
        ledger.close()
        return record

    def _loop(self, campaign: Campaign, now: list[float]) -> Iterator[int]:
        dice, tie = random.Random(0), itertools.count()
        events: list[tuple[float, int, TrialRequest, int]] = []
        marks = list(self.marks)
        while True:
            while len(events) < self.shape.slots:
                request = self._timed("next", campaign.next_trial)
                if request is None:
                    break
                heapq.heappush(events, (now[0] + dice.random(), next(tie), request, 1))
            if not events:
                assert campaign.done
                if not marks or self.ended != marks[0]:
                    yield self.ended
                return
            now[0], _, request, epoch = heapq.heappop(events)
            metrics = landscape(request, epoch)
            last = epoch == request.config.training.epochs
            if self._timed("report", campaign.report, request.key, epoch, metrics):
                outcome = Outcome("stopped", {}, 0.1 * epoch)
            elif last:
                outcome = Outcome("complete", metrics, 0.1 * epoch)
            else:
                heapq.heappush(events, (now[0] + dice.random(), next(tie), request, epoch + 1))
                continue
            self._timed("finish", campaign.finish, request.key, outcome)
            self.ended += 1
            if marks and self.ended == marks[0]:
                yield marks.pop(0)

    def _collected(self, phase: str, about: dict[str, int]) -> None:
        if about["generation"] == 2:
            if phase == "start":
                self.pauses.append(-time.thread_time())
            else:
                self.pauses[-1] += time.thread_time()

    def _timed(self, kind: str, call: Callable[..., _T], *arguments: Any) -> _T:
        self.asked = False
        wall, cpu = time.perf_counter(), time.thread_time()
        answer = call(*arguments)
        if kind == "next" and self.asked:
            kind = "ask"
        self.calls.append(Call(kind, self.ended, time.thread_time() - cpu, time.perf_counter() - wall))
        return answer


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
