"""What a study may say of budgets and repeats, and what its author is told about it."""

from __future__ import annotations

import pytest

from orchestrator.errors import StudyInvalid
from orchestrator.study.loader import parse_study
from orchestrator.study.spec import StudySpec
from orchestrator.study.warnings import warnings

from .bad_studies import GOOD


def parsed(search: str = "seeds: [0, 1]", confirm: str = "[100, 101]", budget: str = "{}") -> StudySpec:
    text = GOOD.replace("seeds: [0, 1]", search).replace("[100, 101, 102, 103, 104]", confirm)
    return parse_study(text + f"budget: {budget}\n", "study.yaml")


def refused(search: str = "seeds: [0, 1]", confirm: str = "[100, 101]", budget: str = "{}") -> list[str]:
    with pytest.raises(StudyInvalid) as found:
        parsed(search, confirm, budget)
    return [str(problem) for problem in found.value.problems]


def test_a_budget_must_cover_one_configuration() -> None:
    assert parsed(budget="{trials: 2}").budget.trials == 2
    (said,) = refused(budget="{trials: 1}")
    assert "budget.trials: must be at least 2, one for each of search.seeds; got 1" in said


def test_no_repeat_may_train_on_a_confirm_seed() -> None:
    assert parsed("seeds: [0, 1]\n  repeats: 3", "[20002]").search.repeats == 3
    (said,) = refused("seeds: [0, 1]\n  repeats: 3", "[100, 20001]")
    assert "confirm.seeds" in said
    assert "repeat 2 trains on search.seeds + 20,000, and so on 20001" in said
    assert parsed("seeds: [0, 1]\n  repeats: 2", "[20001]").search.repeats == 2


def test_repeats_must_not_share_their_seeds() -> None:
    (said,) = refused("seeds: [0, 10000]\n  repeats: 2")
    assert "search.seeds: must share no seed with its repeats" in said
    assert "10000 is among search.seeds" in said
    assert parsed("seeds: [0, 10000]").search.seeds == (0, 10_000)
    (said,) = refused("seeds: [0, 25000, 15000]\n  repeats: 2")
    assert "25000" in said


@pytest.mark.parametrize("limit", ["device_seconds", "wall_seconds"])
def test_a_limit_of_seconds_is_said_to_depend_on_the_machine(limit: str) -> None:
    (said,) = [w for w in warnings(parsed(budget=f"{{{limit}: 60}}")) if w.startswith("budget")]
    assert said.startswith(f"budget.{limit}: where the search ends depends on the machine")
    assert not [w for w in warnings(parsed(budget="{trials: 4}")) if w.startswith("budget")]


def test_two_repeats_and_repeats_within_a_time_are_warned_of() -> None:
    two = warnings(parsed("seeds: [0, 1]\n  repeats: 2", budget="{wall_seconds: 60}"))
    assert any("first searches come first" in w for w in two)
    assert any(w.startswith("search.repeats: 2 give one difference") for w in two)
    three = warnings(parsed("seeds: [0, 1]\n  repeats: 3"))
    assert not any("repeats" in w for w in three)
