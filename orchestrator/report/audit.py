"""What the audits say: sentences and tables, and numbers for MLflow.

A sentence claims an order only where the interval does not hold zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.campaign.audit import draw
from orchestrator.campaign.record import StudyRecord
from orchestrator.campaign.standing import audits_ended, audits_planned
from orchestrator.report import numbers
from orchestrator.report.agreement import FEWEST, Agreement
from orchestrator.report.audit_tables import audited_table, proxy_table, pruning_table
from orchestrator.report.budget import saved_by_pruning
from orchestrator.report.cells import Table
from orchestrator.report.comparison import arm_record, ordered_arms
from orchestrator.report.metrics import sides
from orchestrator.report.proxy_audit import Reading, proxy_readings
from orchestrator.report.pruning_audit import PruningAudit, pruning_audit, step_text
from orchestrator.study.spec import AuditSpec, StudySpec
from orchestrator.study.terms import space_size


@dataclass(frozen=True)
class Audits:
    """The part of a report on the audits; empty where the study asks for none."""

    sentences: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    """By the names of their CSV files."""


def assemble_audits(spec: StudySpec, record: StudyRecord) -> Audits:
    """Sentences and tables of what the study asks for, as far as it is known."""
    if spec.audit == AuditSpec():
        return Audits()
    pruning = pruning_audits(spec, record)
    readings = proxy_readings(spec, record)
    tables = {
        "audit_pruning": pruning_table(spec, record, pruning),
        "audit_proxy": proxy_table(spec, readings),
        "audit_configurations": audited_table(spec, record, pruning),
    }
    sentences = (
        *_standing(spec, record),
        *(sentence for audit in pruning for sentence in pruning_sentences(spec, record, audit)),
        *proxy_sentences(spec, readings),
    )
    return Audits(sentences, {name: table for name, table in tables.items() if table.rows})


def pruning_audits(spec: StudySpec, record: StudyRecord) -> list[PruningAudit]:
    """Of every arm that has one, the baseline first."""
    found = (pruning_audit(spec, record, arm) for arm in ordered_arms(spec))
    return [audit for audit in found if audit is not None]


def audit_summaries(spec: StudySpec, record: StudyRecord) -> dict[str, dict[str, float]]:
    """By arm, what its audit run in MLflow shows; rates and taus unscaled."""
    found: dict[str, dict[str, float]] = {}
    for audit in pruning_audits(spec, record):
        shown = found.setdefault(audit.arm, {})
        shown |= {"audit/pruned/stopped": audit.stopped, "audit/pruned/audited": len(audit.audited)}
        if audit.audited:
            shown["audit/pruned/better"] = audit.better
        if audit.regret is not None:
            shown["audit/pruned/regret"] = audit.regret
        if audit.order is not None:
            shown |= _order_numbers("audit/pruned/tau", audit.order)
    for reading in proxy_readings(spec, record):
        if reading.unit == "configuration":
            shown = found.setdefault(reading.level, {})
            shown["audit/proxy/configurations"] = reading.order.n
            shown |= _order_numbers(f"audit/proxy/{reading.target}/tau", reading.order)
    return found


def _order_numbers(name: str, order: Agreement) -> dict[str, float]:
    ends = {name: order.tau, f"{name}_low": order.low, f"{name}_high": order.high}
    return {key: value for key, value in ends.items() if value is not None}


# -- how far they are -------------------------------------------------------------------------------------


def _standing(spec: StudySpec, record: StudyRecord) -> Iterator[str]:
    arms = [arm_record(record, name) for name in ordered_arms(spec)]
    waiting = [arm.name for arm in arms if arm.selected is None and not arm.failure]
    if waiting:
        yield f"Audits begin when everything is chosen; still searching: {', '.join(waiting)}."
        return
    planned = sum(audits_planned(spec, arm) for arm in arms)
    ended = sum(audits_ended(spec, arm) for arm in arms)
    if ended < planned:
        yield f"{ended} of {planned} audit trials have ended: what is shown is provisional."
    fixed = [arm.name for arm in arms if space_size(spec.arms[arm.name].space) == 1]
    if fixed:
        yield f"Nothing is searched, so there is nothing to audit, in {', '.join(fixed)}."
    for arm in arms:
        if arm.failure:
            yield f"{arm.name}: not audited, as nothing could be selected."
            continue
        failed = [
            number
            for number in draw(spec, arm).numbers
            if any(trial.state == "failed" for trial in arm.audits.get(number, {}).values())
        ]
        if failed:
            named = ", ".join(f"no. {number}" for number in failed)
            yield (
                f"{arm.name}: {numbers.counted(len(failed), 'audited configuration')} left out, as a trial "
                f"of it failed ({named})."
            )


# -- pruning ----------------------------------------------------------------------------------------------


def pruning_sentences(spec: StudySpec, record: StudyRecord, audit: PruningAudit) -> Iterator[str]:
    """What pruning cost an arm, whether early values order as the final ones do, and what was saved."""
    epochs, seconds = saved_by_pruning(spec, arm_record(record, audit.arm))
    saved = f"Pruning saved {epochs} epochs (about {numbers.seconds(seconds)} of busy time)"
    if not audit.stopped:
        pruned = f", all {audit.ruled_out} pruned ones were ruled out otherwise" if audit.ruled_out else ""
        yield f"{audit.arm}: its pruner stopped no configuration{pruned}: there is no pruning to audit."
        return
    if not audit.audited:
        yield f"{audit.arm}: of {_counted(audit.stopped)} that the pruner stopped none has been audited yet."
        return
    were = "was" if len(audit.audited) == 1 else "were"
    head = f"{audit.arm}: of {_counted(audit.stopped)} that the pruner stopped, {len(audit.audited)} drawn"
    yield (
        f"{head} at random {were} run to the end; {_lost(spec, audit)}. {saved}, and this audit took "
        f"{numbers.seconds(audit.seconds)}."
    )
    if audit.order is not None and audit.step is not None:
        yield f"{audit.arm}: {_early_order(spec, audit.order, step_text(spec, audit.step))}."


def _lost(spec: StudySpec, audit: PruningAudit) -> str:
    assert audit.share is not None
    low, high = (numbers.percent(end) for end in audit.share)
    interval = f"{numbers.percent(spec.report.confidence)} interval of the share {low} to {high}"
    if not audit.better:
        return f"none would have been better than the chosen one ({interval})"
    size = (
        ""
        if audit.regret is None
        else f", the best by {numbers.fixed(100 * audit.regret, 2)} points of FPR95"
    )
    return f"{audit.better} would have been better than the chosen one ({interval}){size}"


def _early_order(spec: StudySpec, order: Agreement, step: str) -> str:
    what, told = f"values at {step} (where half of the audited had been stopped)", tau_text(spec, order)
    over = f"{order.n} audited and completed configurations"
    if order.tau is None:
        return f"{what} are all alike, then or at the end, over {over}: nothing to order"
    if order.same:
        return f"{what} order configurations as the final ones do: {told}, {over}"
    if order.opposite:
        return f"{what} order configurations AGAINST the final ones: {told}, {over}"
    return f"it is not shown that {what} order configurations as the final ones do: {told}, {over}"


def _counted(count: int) -> str:
    return numbers.counted(count, "configuration")


# -- the proxy --------------------------------------------------------------------------------------------


def proxy_sentences(spec: StudySpec, readings: list[Reading]) -> Iterator[str]:
    """One for each level and side, and one for each level at which the noise FPR95 saturates."""
    shown = [reading for reading in readings if reading.target in sides(spec)]
    if spec.audit.proxy is not None and not shown:
        yield "Whether the noise FPR95 orders as real OOD does is not known: too little has been measured."
    for reading in shown:
        yield _proxy_sentence(spec, reading)
    for level in dict.fromkeys(reading.level for reading in shown):
        reading = next(each for each in shown if each.level == level)
        if reading.zeros > 1:
            yield (
                f"{_of(reading)}: the noise FPR95 is 0 in {reading.zeros} of {_units(reading)}; among these "
                "it orders nothing (tau-b takes them as ties)."
            )


def _proxy_sentence(spec: StudySpec, reading: Reading) -> str:
    order, real = reading.order, f"real {reading.target} OOD"
    what = {
        "configuration": f"the configurations of {reading.level}",
        "trial": "the trials of all arms",
        "arm": "the arms (means over the confirm seeds)",
    }[reading.unit]
    if order.tau is None:
        return f"The noise FPR95, or that of {real}, is the same for all of {what}: nothing to order."
    told = f"{tau_text(spec, order)}, {_units(reading)}."
    if order.low is None:
        return (
            f"Whether the noise FPR95 orders {what} as {real} does cannot be told from fewer than {FEWEST} "
            f"{reading.unit if reading.unit == 'arm' else 'configuration'}s: {told}"
        )
    if order.same:
        return f"The noise FPR95 orders {what} as {real} does: {told}"
    if order.opposite:
        return f"The noise FPR95 orders {what} AGAINST {real}: {told}"
    return f"It is not shown that the noise FPR95 orders {what} as {real} does: {told}"


def _of(reading: Reading) -> str:
    return reading.level[0].upper() + reading.level[1:] if reading.unit != "configuration" else reading.level


def _units(reading: Reading) -> str:
    if reading.unit == "trial":
        return f"{numbers.counted(reading.order.n, 'trial')} of {_counted(reading.order.groups)}"
    return numbers.counted(reading.order.n, reading.unit)


def tau_text(spec: StudySpec, order: Agreement) -> str:
    """``tau .41, 95 % interval .05 to .70``; the tau alone where there is no interval."""
    tau = f"tau {numbers.fixed(order.tau, 2, signed=True)}"
    if order.low is None:
        return f"{tau} (no interval)"
    low, high = (numbers.fixed(end, 2, signed=True) for end in (order.low, order.high))
    return f"{tau}, {numbers.percent(spec.report.confidence)} interval {low} to {high}"
