"""A study without Ray or torch: the real campaign and ledger, with made-up trials that take random time."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.campaign.campaign import Campaign, Outcome, TrialRequest
from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import ArmRecord, StudyRecord
from orchestrator.study.spec import ArmSpec, ConfirmSpec, ProtocolSpec, PrunerSpec, SearchSpec, StudySpec
from workloads.catalogue import Term
from workloads.contract import DataConfig, DataFacts, ModelConfig, NoiseConfig, TrainingConfig, TrialConfig
from workloads.protocol_config import ContinualConfig, LongTailedConfig

PROTOCOLS = {
    "standard": ProtocolSpec("standard"),
    "long_tailed": ProtocolSpec("long_tailed", ("plain", "drw"), LongTailedConfig(factor=10.0)),
    "continual": ProtocolSpec(
        "continual",
        ("naive", "replay"),
        ContinualConfig(tasks=2, buffer=50),
        parameters="defaults",
        training=TrainingConfig(epochs=3),
    ),
}
REGIMES = ("standard", "long_tailed/plain", "long_tailed/drw", "continual/naive", "continual/replay")
"""Of :data:`PROTOCOLS`."""
FACTS = DataFacts("da7a" * 4, 542, 180, 361, 6, (1, 8, 8), {})
Metrics = Mapping[str, float]


def study(**changes: Any) -> StudySpec:
    """Three arms over the digits; small enough to simulate in milliseconds."""
    lr = Term("log_uniform", (0.01, 0.4))
    spec = StudySpec(
        name="simulated",
        data=DataConfig("digits", (0, 1, 2, 3, 4, 5), near_ood=("held_out",), far_ood=("uniform",)),
        model=ModelConfig("small_cnn_8x8"),
        arms={
            "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {"lr": lr}),
            "logitnorm": ArmSpec(
                "logitnorm", "logitnorm", {"tau": Term("log_uniform", (0.01, 1.0)), "lr": lr}
            ),
            "hem": ArmSpec("hem", "hem", {"mu.scale": Term("log_uniform", (200.0, 20000.0)), "lr": lr}),
        },
        baseline="cross_entropy",
        training=TrainingConfig(epochs=6),
        noise=NoiseConfig(size=100),
        search=SearchSpec(
            trials=8,
            seeds=(0, 1),
            parallel=2,
            pruner=PrunerSpec("median", 2, {"n_startup_trials": 2}),
        ),
        confirm=ConfirmSpec((100, 101, 102)),
    )
    return replace(spec, **changes)


def landscape(config: TrialConfig, epoch: int) -> Metrics:
    """Made-up metrics: a bowl around lr = .1, luck from the seed, better with every epoch."""
    luck = random.Random(f"{config.key}/{epoch}").random()
    distance = abs(math.log10(config.training.lr) + 1.0)
    left = 1.0 - epoch / config.training.epochs
    fpr = min(1.0, max(0.0, 0.3 * distance + 0.5 * left + 0.1 * luck))
    return {
        "validation/accuracy": max(0.0, 0.98 - 0.05 * distance - 0.3 * left),
        "noise/fpr95": round(fpr, 2),
        "noise/auroc": 1.0 - fpr / 2,
    }


class Killed(Exception):
    """The driver was killed (in a simulation)."""


@dataclass
class Simulator:
    """Runs a campaign on ``slots`` made-up workers until it is done, or until ``kill_at`` ledger events."""

    spec: StudySpec
    folder: Path
    slots: int = 2
    order: int = 0
    """Seed of the trials' durations, and so of the order in which results arrive."""
    metrics: Callable[[TrialConfig, int], Metrics] = landscape
    failures: Callable[[TrialConfig, int], Outcome | None] = lambda config, attempt: None
    """An attempt may fail: what it ends with, or None."""
    kill_at: int | None = None
    campaign: type[Campaign] = Campaign
    wall_clock: Callable[[float], float] = lambda now: now
    """What the clock on the wall says, which people may set, at a moment of the session."""
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By arm and regime, the reason: said at the beginning of every session, as a real one does."""
    starts: list[str] = field(default_factory=list)
    """Keys, in order of their starts, over all runs."""

    def run(self) -> StudyRecord:
        ledger = Ledger(self.folder / "ledger.jsonl")
        record = StudyRecord.fold(read_events(ledger.path))
        written = itertools.count(1)

        def emit(event: dict[str, Any]) -> None:
            ledger.append(event, durable=False)
            if next(written) == self.kill_at:
                raise Killed

        try:
            opened = {
                "event": "opened",
                "t": 0.0,
                "study": self.spec.name,
                "arms": list(self.spec.arms),
                "data": {"hash": FACTS.hash},
                "commit": "",
            }
            emit(opened)
            record.apply(opened)
            for (arm, regime), reason in self.skipped.items():
                if regime not in record.arms[arm].skipped:
                    skipped = {"event": "skipped", "t": 0.0, "arm": arm, "regime": regime, "reason": reason}
                    emit(skipped)
                    record.apply(skipped)
            journal = BufferedJournal(self.folder / "optuna.journal")
            now = [0.0]
            campaign = self.campaign(
                self.spec,
                FACTS,
                record,
                emit,
                journal,
                clock=lambda: self.wall_clock(now[0]),
                monotonic=lambda: now[0],
            )
            self._loop(campaign, now)
            journal.flush()
        finally:
            ledger.close()
        return record

    def _loop(self, campaign: Campaign, now: list[float]) -> None:
        dice = random.Random(self.order)
        events: list[tuple[float, int, TrialRequest, int]] = []
        tie = itertools.count()
        running = 0
        while True:
            while running < self.slots and (request := campaign.next_trial()) is not None:
                self.starts.append(request.key)
                running += 1
                heapq.heappush(events, (now[0] + dice.random(), next(tie), request, 1))
            if not events:
                assert campaign.done
                return
            now[0], _, request, epoch = heapq.heappop(events)
            config = request.config
            failure = self.failures(config, request.attempt)
            if failure is not None:
                campaign.finish(request.key, failure)
                running -= 1
                continue
            metrics = self.metrics(config, epoch)
            if campaign.report(request.key, epoch, metrics):
                campaign.finish(request.key, Outcome("stopped", {}, 0.1 * epoch))
                running -= 1
            elif epoch == config.training.epochs:
                campaign.finish(request.key, Outcome("complete", metrics, 0.1 * epoch))
                running -= 1
            else:
                heapq.heappush(events, (now[0] + dice.random(), next(tie), request, epoch + 1))


def decisions(record: StudyRecord) -> dict[str, Any]:
    """What a campaign decided, without times and order."""
    return {arm.label: _decided(arm) for first in record.arms.values() for arm in first.searches}


def _decided(arm: ArmRecord) -> dict[str, Any]:
    spent = arm.spent or {}
    return {
        "configurations": [(c.params, c.state, c.value, c.reason) for c in arm.configurations],
        "selected": arm.selected,
        "failure": arm.failure,
        "spent": {name: spent[name] for name in ("limit", "allowed", "spent") if name in spent},
        "confirmed": {
            # Its own place too: a trial that several share is always the same one's.
            regime: {s: (t.place, t.number, t.params, t.state, t.metrics) for s, t in sorted(trials.items())}
            for regime, trials in arm.confirms.items()
        },
        "skipped": arm.skipped,
    }
