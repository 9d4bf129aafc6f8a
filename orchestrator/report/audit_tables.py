"""The tables of the audits: what pruning lost, how noise orders, and every configuration that was audited."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from orchestrator.campaign.audit import draw, stop_of
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.campaign.stops import Stop
from orchestrator.report import numbers
from orchestrator.report.agreement import Agreement
from orchestrator.report.bookkeeping import parameters_text
from orchestrator.report.budget import saved_by_pruning
from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.comparison import arm_record, ordered_arms
from orchestrator.report.metrics import sides
from orchestrator.report.proxy_audit import NOISE, Reading
from orchestrator.report.pruning_audit import PruningAudit, is_complete, noise_then, step_text
from orchestrator.study.spec import StudySpec
from workloads.evaluation.score_names import parse_score

APART = (
    "Audit trials ran when every winner was frozen: nothing that was chosen, and no other table, rests on "
    "them."
)


def pruning_table(spec: StudySpec, record: StudyRecord, audits: Sequence[PruningAudit]) -> Table:
    """An arm a row: what was stopped, what of it would have won, and how early values order."""
    level = numbers.percent(spec.report.confidence)
    columns = (
        Column("arm"),
        *(Column(label, "configurations", numeric=True) for label in ("stopped", "ruled out", "audited")),
        Column("better than chosen", "of the audited", numeric=True),
        Column(f"share, {level} interval", "of the audited", numeric=True),
        Column("regret, points", "of the audited", numeric=True),
        Column("at", "early against final values"),
        Column("tau", "early against final values", numeric=True),
        Column(f"{level} interval", "early against final values", numeric=True),
        Column("n", "early against final values", numeric=True),
        Column("epochs", "saved", numeric=True),
        Column("time", "saved", numeric=True),
        Column("took", "audit", numeric=True),
    )
    rows = [
        (
            *row(
                audit.arm, str(audit.stopped), str(audit.ruled_out), f"{len(audit.audited)} of {audit.drawn}"
            ),
            *_lost(audit),
            *row(numbers.MISSING if audit.step is None else step_text(spec, audit.step)),
            *order_cells(audit.order),
            *_spared(spec, record, audit),
        )
        for audit in audits
    ]
    notes = (
        "Stopped: by the pruner. Ruled out: pruned as they could not win any more even with perfect values "
        "to come, or by the end of the budget; none of these is audited. Audited: drawn at random from the "
        "stopped, trained to the end on every search seed.",
        "Better: a lower objective on the search seeds, under the guard that chose the winner; the interval "
        "is that of Clopper and Pearson. Regret: by how much the objective (the noise FPR95, ties by AUROC) "
        "of the best audited one is lower; 0 where none is.",
        "Tau: Kendall's tau-b over the audited and the completed configurations, between their values where "
        "half of the audited had been stopped and their final ones.",
        APART,
    )
    return Table("Audit of pruning", columns, tuple(rows), notes)


def _lost(audit: PruningAudit) -> tuple[Cell, ...]:
    if not audit.audited or audit.share is None:
        return row(*[numbers.MISSING] * 3)
    low, high = (numbers.percent(end) for end in audit.share)
    regret = None if audit.regret is None else 100 * audit.regret
    return row(f"{audit.better} of {len(audit.audited)}", f"{low} to {high}", numbers.fixed(regret, 2))


def _spared(spec: StudySpec, record: StudyRecord, audit: PruningAudit) -> tuple[Cell, ...]:
    epochs, seconds = saved_by_pruning(spec, arm_record(record, audit.arm))
    return row(str(epochs), numbers.seconds(seconds), numbers.seconds(audit.seconds))


def order_cells(order: Agreement | None) -> tuple[Cell, ...]:
    """Tau, its interval and n."""
    if order is None:
        return row(*[numbers.MISSING] * 3)
    ends = [numbers.fixed(end, 2, signed=True) for end in (order.low, order.high)]
    interval = numbers.MISSING if order.low is None else " to ".join(ends)
    return row(numbers.fixed(order.tau, 2, signed=True), interval, str(order.n))


def proxy_table(spec: StudySpec, readings: Sequence[Reading]) -> Table:
    """A row for each level and real OOD set."""
    level = numbers.percent(spec.report.confidence)
    columns = (
        Column("over"),
        Column("real OOD"),
        Column("tau", numeric=True),
        Column(f"{level} interval", numeric=True),
        Column("n", numeric=True),
        Column("configurations", numeric=True),
        Column("noise FPR95 = 0", numeric=True),
        Column("same order?"),
    )
    rows = [
        (
            *row(f"configurations of {r.level}" if r.unit == "configuration" else r.level, r.target),
            *order_cells(r.order),
            *row(str(r.order.groups), str(r.zeros)),
            Cell(verdict(r.order), bold=r.order.same or r.order.opposite),
        )
        for r in readings
    ]
    notes = (
        "Kendall's tau-b between the FPR95 of Gaussian noise on validation, which the search minimises, and "
        f"that of real OOD test sets ({spec.evaluation.headline} score, ID positive): 1 the same order, -1 "
        "the opposite one. Ties count as ties: a noise FPR95 of 0 orders nothing. Intervals are not widened "
        "for their number.",
        "Configurations of an arm: drawn at random from all that were searched, means over the search seeds. "
        "All trials: theirs and the confirm trials of the standard regime; trials of one configuration count "
        "together in the interval. Arm means: over the confirm seeds of each winner.",
        APART,
    )
    return Table("Audit of the proxy", columns, tuple(rows), notes)


def verdict(order: Agreement) -> str:
    """Whether noise orders as real OOD does, as far as the interval tells."""
    if order.tau is None:
        return "all tied"
    if order.low is None:
        return "too few"
    return "yes" if order.same else "opposite" if order.opposite else "not shown"


def audited_table(spec: StudySpec, record: StudyRecord, audits: Sequence[PruningAudit]) -> Table:
    """Every configuration that was drawn, with means over its search seeds."""
    known = {(audit.arm, each.number): each for audit in audits for each in audit.audited}
    columns = (
        Column("arm"),
        Column("no.", numeric=True),
        Column("parameters"),
        Column("drawn for"),
        Column("stopped at"),
        Column("then", "noise FPR95", numeric=True),
        Column("at the end", "noise FPR95", numeric=True),
        *(Column(side, "real FPR95", numeric=True) for side in sides(spec)),
        Column("better than chosen"),
    )
    rows = []
    for name in ordered_arms(spec):
        arm = arm_record(record, name)
        drawn = draw(spec, arm)
        for number in drawn.numbers:
            configuration, each = arm.configurations[number], known.get((arm.name, number))
            trials, stop = arm.audits.get(number, {}), stop_of(spec, configuration)
            rows.append(
                row(
                    *(arm.name, str(number), parameters_text(configuration.params)),
                    " and ".join(drawn.of(number)),
                    configuration.state if stop is None else step_text(spec, stop),
                    _percent(_then(spec, trials, stop)),
                    *(_percent(mean_of(spec, trials, metric)) for metric in (NOISE, *_real(spec))),
                    ("yes" if each.better else "no") if each else "",
                )
            )
    return Table("Audited configurations", columns, tuple(rows), ("Means over the search seeds, percent.",))


def _then(spec: StudySpec, trials: Mapping[int, TrialRecord], stop: Stop | None) -> float | None:
    return noise_then(spec, trials, stop) if stop is not None and is_complete(spec, trials) else None


def _real(spec: StudySpec) -> list[str]:
    label = parse_score(spec.evaluation.headline).label
    return [f"ood/{side}/{label}/fpr95_id_positive" for side in sides(spec)]


def mean_of(spec: StudySpec, trials: Mapping[int, TrialRecord], name: str) -> float | None:
    """A metric's mean over a configuration's trials; None where one is not complete, or lacks it."""
    if not is_complete(spec, trials) or any(name not in trial.metrics for trial in trials.values()):
        return None
    return statistics.fmean(trial.metrics[name] for trial in trials.values())


def _percent(value: float | None) -> str:
    return numbers.fixed(None if value is None else 100 * value, 1)
