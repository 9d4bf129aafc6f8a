"""The rows of a table that stands for several regimes: variants one after the other, arms inside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.cells import Cell
from orchestrator.report.comparison import arm_record, ordered_arms
from orchestrator.report.measured import any_confirmed, seed_count
from orchestrator.study.regimes import Regime
from orchestrator.study.spec import StudySpec

Row = tuple[Cell, ...]


def regime_rows(
    spec: StudySpec,
    record: StudyRecord,
    shown: Sequence[Regime],
    columns: int,
    cells: Callable[[str, Regime], Sequence[Cell]],
) -> tuple[Row, ...]:
    """Arm, variant, n and what ``cells`` says of the arm in the regime; the baseline first in each variant.

    An arm that cannot be trained in a regime has a row that says why.

    Args:
        columns: how many cells ``cells`` gives.
    """
    rows: list[Row] = []
    for regime in shown:
        for arm in ordered_arms(spec):
            head = (Cell(arm), Cell(regime.variant))
            reason = arm_record(record, arm).skipped.get(regime.name)
            if reason is not None:
                said = Cell(f"not trained: {reason}", spread=True)
                rows.append((*head, said, *[Cell("")] * columns))
            else:
                count = Cell(seed_count(spec, record, arm, regime.name))
                rows.append((*head, count, *cells(arm, regime)))
    return tuple(rows)


def begun(spec: StudySpec, record: StudyRecord, those: Sequence[Regime]) -> list[Regime]:
    """Of these regimes the ones with a complete confirm trial."""
    return [regime for regime in those if any_confirmed(spec, record, regime.name)]


def unfinished_note(spec: StudySpec, record: StudyRecord, those: Sequence[Regime]) -> list[str]:
    """Which variants have no row yet."""
    missing = [regime.variant for regime in those if not any_confirmed(spec, record, regime.name)]
    return [f"No trial has finished yet: {', '.join(missing)}."] if missing else []
