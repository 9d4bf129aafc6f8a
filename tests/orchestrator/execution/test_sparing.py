"""A costly view is worked out anew only after it has been shown for fifty times as long as it took."""

from __future__ import annotations

import pytest

from orchestrator.execution.sparing import Sparing


class Machine:
    """A view that takes ``cost`` seconds of processor, and the clocks that it is measured by."""

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.now = 100.0
        self.spent = 7.0
        self.views = 0

    def view(self) -> int:
        self.spent += self.cost
        self.views += 1
        return self.views

    def sparing(self) -> Sparing[int]:
        return Sparing(self.view, lambda: self.now, lambda: self.spent)


def test_a_view_that_costs_next_to_nothing_is_always_fresh() -> None:
    machine = Machine(cost=0.001)
    sparing = machine.sparing()
    assert [sparing(), sparing(), sparing()] == [1, 2, 3]


@pytest.mark.parametrize(("later", "seen"), [(0.0, 1), (0.99, 1), (1.01, 2)])
def test_a_view_of_20_ms_is_kept_for_a_second(later: float, seen: int) -> None:
    machine = Machine(cost=0.02)
    sparing = machine.sparing()
    assert sparing() == 1
    machine.now += later
    assert sparing() == seen


def test_asked_all_the_time_it_takes_no_more_than_a_fiftieth_of_the_processor() -> None:
    machine = Machine(cost=0.02)
    sparing = machine.sparing()
    for _ in range(10_000):
        sparing()
        machine.now += 0.01
    # 100 s: a view a second, and rounding.
    assert 95 <= machine.views <= 101


def test_an_answer_that_is_nothing_is_kept_like_any_other() -> None:
    asked = []
    spent = [0.0]

    def view() -> None:
        spent[0] += 0.02
        asked.append(1)

    sparing = Sparing(view, lambda: 5.0, lambda: spent[0])
    sparing()
    sparing()
    assert len(asked) == 1
