"""How many trials fit side by side, and what share of a GPU each gets."""

from __future__ import annotations

import math

import pytest

from orchestrator.campaign.record import TrialRecord
from orchestrator.execution.packing import SMALLEST, Packing, has_room, share_of, slots
from orchestrator.study.spec import GpuShare, ResourcesSpec

GB = 10**9


def trial(
    arm: str = "hem",
    stage: str = "search",
    *,
    memory: int = 0,
    total: int = 80 * GB,
    failures: tuple[str, ...] = (),
) -> TrialRecord:
    made = TrialRecord("key", arm, stage, "standard", 0, 0, {})
    made.memory, made.device_memory, made.failures = memory, total, list(failures)
    return made


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpu", "gpu", "most", "fit"),
    [
        (8, 0, 1, 0.0, None, 8),
        (8, 0, 3, 0.0, None, 2),
        (8, 0, 1, 0.0, 3, 3),
        (8, 0, 16, 0.0, None, 0),
        (0.9, 0, 0.3, 0.0, None, 3),
        (8, 1, 1, 0.25, None, 4),
        (8, 2, 1, 0.25, None, 8),
        (3, 2, 1, 0.25, None, 3),
        # 0.4 does not lie half on one GPU and half on another.
        (8, 2, 1, 0.4, None, 4),
        (8, 3, 1, 2.0, None, 1),
        (8, 1, 1, 2.0, None, 0),
        (8, 0, 1, 0.25, None, 0),
        # Ten tenths are a whole, also in floating point.
        (40, 1, 1, 0.1, None, 10),
        (8, 2, 1, "auto", None, 2),
        (8, 0, 1, "auto", None, 0),
    ],
)
def test_trials_that_fit_are_counted_by_what_is_scarcest(
    cpus: float, gpus: float, cpu: float, gpu: GpuShare, most: int | None, fit: int
) -> None:
    assert slots([(cpus, gpus)], ResourcesSpec(cpu, gpu), most) == fit


def test_a_trial_lies_on_one_node_and_takes_nothing_from_two() -> None:
    ones = [(4.0, 1.0), (4.0, 1.0)]
    assert slots(ones, ResourcesSpec(1, 2.0), None) == 0
    assert slots([*ones, (8.0, 4.0)], ResourcesSpec(1, 2.0), None) == 2
    assert slots([(3.0, 0.0)] * 3, ResourcesSpec(2, 0.0), None) == 3, "not four from nine processors"
    # Nodes with processors alone help nobody who wants a GPU.
    assert slots([(64.0, 0.0), (1.0, 4.0)], ResourcesSpec(1, 0.5), None) == 1
    assert slots(ones, ResourcesSpec(1, 0.5), 3) == 3
    assert not has_room([], ones, ResourcesSpec(1, 2.0), None)


@pytest.mark.parametrize(
    ("need", "count"),
    [
        # 72 of 80 GB may be used: 7 x 10 GB, 3 x 20 GB, 1 x 37 GB (two would want 74), 1 x 79 GB.
        (10 * GB, 7),
        (20 * GB, 3),
        (36 * GB, 2),
        (37 * GB, 1),
        (79 * GB, 1),
        (90 * GB, 1),
        (1 * GB, 16),
        (0, 16),
    ],
)
def test_a_gpu_is_cut_into_as_many_equal_parts_as_its_memory_holds(need: int, count: int) -> None:
    share = share_of(need, 80 * GB)
    # Ray counts in ten-thousandths, rounded down here so that the last part still fits.
    assert share == math.floor(10_000 / count) / 10_000
    assert count * round(share * 10_000) <= 10_000


def test_no_share_is_below_the_smallest() -> None:
    assert share_of(1, 80 * GB) == SMALLEST == 0.0625


def test_the_first_trial_of_every_arm_and_stage_has_a_whole_gpu() -> None:
    packing = Packing(ResourcesSpec(1, "auto"))
    assert packing.gpus(trial()) == 1.0
    packing.learn(trial(memory=10 * GB))
    assert packing.gpus(trial()) == math.floor(10_000 / 7) / 10_000
    assert packing.gpus(trial("logitnorm")) == 1.0
    assert packing.gpus(trial(stage="confirm")) == 1.0


def test_the_largest_need_and_the_smallest_gpu_count() -> None:
    packing = Packing(ResourcesSpec(1, "auto"), [trial(memory=20 * GB), trial(memory=10 * GB)])
    assert packing.gpus(trial()) == 0.3333
    packing.learn(trial(memory=GB, total=50 * GB))
    assert packing.gpus(trial()) == 0.5


def test_a_trial_that_was_not_measured_teaches_nothing() -> None:
    packing = Packing(ResourcesSpec(1, "auto"), [trial(memory=0)])
    assert packing.gpus(trial()) == 1.0


def test_each_time_that_memory_ran_out_doubles_the_share_up_to_a_whole_gpu() -> None:
    out = "out_of_memory: RuntimeError"
    for gpu in (0.25, "auto"):
        packing = Packing(ResourcesSpec(1, gpu), [trial(memory=18 * GB)])
        shares = [packing.gpus(trial(failures=(out,) * n)) for n in range(4)]
        assert shares == [0.25, 0.5, 1.0, 1.0]
    lost = trial(failures=("lost: its worker went away", "exception: out_of_memory:"))
    assert Packing(ResourcesSpec(1, 0.25)).gpus(lost) == 0.25


def test_what_a_study_states_is_what_a_trial_gets() -> None:
    out = trial(failures=("out_of_memory: x",), memory=GB)
    assert Packing(ResourcesSpec(1, 0.0), [out]).gpus(out) == 0.0
    assert Packing(ResourcesSpec(1, 1.0), [out]).gpus(out) == 1.0
    assert Packing(ResourcesSpec(1, 2.0), [out]).gpus(out) == 2.0


def test_packed_trials_are_asked_for_while_the_gpus_are_not_full() -> None:
    auto = ResourcesSpec(1, "auto")
    assert has_room([], [(16, 1)], auto, None)
    assert not has_room([1.0], [(16, 1)], auto, None)
    assert has_room([1.0], [(16, 2)], auto, None)
    assert has_room([0.25] * 3, [(16, 1)], auto, None)
    assert not has_room([0.25] * 4, [(16, 1)], auto, None)
    # Sevenths, as Ray counts them: 7 x 0.1428 leave less than a grain each.
    assert has_room([0.1428] * 6, [(16, 1)], auto, None)
    assert not has_room([0.1428] * 7, [(16, 1)], auto, None)
    # One waits for a whole GPU: nothing smaller overtakes it.
    assert not has_room([0.25, 0.25, 1.0], [(16, 1)], auto, None)
    assert not has_room([0.25, 0.25], [(2, 1)], auto, None)
    assert not has_room([0.25, 0.25], [(16, 1)], auto, 2)


def test_others_are_asked_for_while_there_is_a_slot_and_its_part_of_a_gpu() -> None:
    quarter = ResourcesSpec(1, 0.25)
    assert has_room([0.25] * 3, [(16, 1)], quarter, None)
    assert not has_room([0.25] * 4, [(16, 1)], quarter, None)
    # After a trial ran out of memory it has twice as much.
    assert has_room([0.5, 0.25], [(16, 1)], quarter, None)
    assert not has_room([0.5, 0.25, 0.25], [(16, 1)], quarter, None)
    seventh = ResourcesSpec(1, 0.1428)
    assert [has_room([0.1428] * n, [(16, 1)], seventh, None) for n in (6, 7)] == [True, False]
    assert has_room([0.0], [(2, 0)], ResourcesSpec(1, 0.0), None)
    assert not has_room([0.0, 0.0], [(2, 0)], ResourcesSpec(1, 0.0), None)
