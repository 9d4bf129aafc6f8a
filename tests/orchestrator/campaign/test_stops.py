"""Why a pruner stopped a configuration, written and read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.campaign import stops
from orchestrator.campaign.stops import Stop
from tests.orchestrator.simulation import Simulator, study

SEEDS = (3, 5, 9)


@pytest.mark.parametrize(
    ("reason", "seeds", "stop"),
    [
        (stops.within("median", 7, 9, SEEDS), SEEDS, Stop(2, 7)),
        (stops.within("median", 7, 3, SEEDS), SEEDS, Stop(0, 7)),
        (stops.within("successive_halving", 12, 4, (4,)), (4,), Stop(0, 12)),
        (stops.after("wilcoxon", 2, SEEDS), SEEDS, Stop(2, 0)),
    ],
)
def test_a_stop_is_read_back_from_its_sentence(reason: str, seeds: tuple[int, ...], stop: Stop) -> None:
    assert stops.read(reason, seeds) == stop


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "cannot win any more after 1 of 2 seeds",
        "the budget ended (trials 4)",
        "stopped by the median pruner at epoch 3 of seed 77",
    ],
)
def test_what_no_pruner_ended_is_no_stop(reason: str) -> None:
    assert stops.read(reason, SEEDS) is None


def test_sentences_of_ledgers_that_were_written_before_are_read() -> None:
    assert stops.read("stopped by the median pruner at epoch 5", (0,)) == Stop(0, 5)
    assert stops.read("stopped by the median pruner at epoch 5 of seed 5", SEEDS) == Stop(1, 5)
    assert stops.read("stopped by the median pruner after 1 of 3 seeds", SEEDS) == Stop(1, 0)


def test_every_pruned_configuration_of_a_search_was_stopped_where_its_sentence_says(tmp_path: Path) -> None:
    spec = study()
    record = Simulator(spec, tmp_path).run()
    pruned = [c for arm in record.arms.values() for c in arm.configurations if c.state == "pruned"]
    found = [(c, stop) for c in pruned if (stop := stops.read(c.reason, spec.search.seeds)) is not None]
    assert found
    assert len(found) < len(pruned), "none was ruled out otherwise"
    for configuration, stop in found:
        through = spec.search.seeds[: stop.finished]
        assert all(configuration.trials[seed].state == "complete" for seed in through)
        if stop.epoch:
            assert stop.epoch in configuration.trials[spec.search.seeds[stop.finished]].reports


def test_stops_are_ordered_as_a_configuration_passes_them() -> None:
    assert sorted([Stop(1, 0), Stop(0, 9), Stop(1, 2)]) == [Stop(0, 9), Stop(1, 0), Stop(1, 2)]
