"""A reservoir keeps every row of a stream with the same probability, and a resumed one decides the same."""

from __future__ import annotations

import io

import pytest
import torch
from scipy import stats
from torch import Tensor

from workloads.training.augmentation.philox import words
from workloads.training.reservoir import Reservoir
from workloads.training.seeds import derive_seed

CPU = torch.device("cpu")
P_VALUE = 1e-3
"""Seeds are fixed, so a test always gives the same answer; a wrong distribution gives far less than this."""


def rows(start: int, end: int) -> dict[str, Tensor]:
    """Rows whose every column says their number."""
    number = torch.arange(start, end)
    images = (number % 256).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return {"images": images, "labels": number, "logits": torch.stack((number, -number), 1).float()}


def filled(capacity: int, sizes: list[int], seed: int = 3) -> Reservoir:
    memory = Reservoir(capacity, seed, CPU)
    start = 0
    for size in sizes:
        memory.add(**rows(start, start + size))
        start += size
    return memory


def content(memory: Reservoir) -> list[int]:
    """The rows by slot."""
    labels: Tensor = memory.state_dict()["columns"]["labels"]
    return labels.tolist()


def algorithm_r(capacity: int, stream: int, seed: int) -> list[int]:
    """Vitter's algorithm R, one row after the other, in Python's own integers."""
    slots: list[int] = []
    for k in range(stream):
        word = int(words(derive_seed(seed, "reservoir"), torch.tensor([k]), 0)[0])
        r = word * (k + 1) // 2**32
        if k < capacity:
            slots.append(k)
        elif r < capacity:
            slots[r] = k
    return slots


@pytest.mark.parametrize("sizes", [[300], [1] * 300, [7, 13, 80, 0, 200], [20, 280], [19, 2, 279]])
def test_however_the_stream_is_cut_the_slots_are_those_of_algorithm_r(sizes: list[int]) -> None:
    assert content(filled(20, sizes)) == algorithm_r(20, 300, 3)


def test_all_columns_of_a_row_stay_together() -> None:
    memory = filled(20, [64] * 5)
    columns = memory.state_dict()["columns"]
    expected = rows(0, 320)
    for name, values in columns.items():
        assert values.dtype == expected[name].dtype
        assert torch.equal(values, expected[name][columns["labels"]])
    drawn = memory.sample(8, 0)
    for name, values in drawn.items():
        assert torch.equal(values, expected[name][drawn["labels"]])


def test_every_row_of_a_stream_is_kept_equally_often() -> None:
    kept = torch.cat([torch.tensor(content(filled(10, [25, 35], seed))) for seed in range(600)])
    counts = kept.bincount(minlength=60)
    # Without replacement the counts vary less (5/6) than the chi-square supposes.
    assert stats.chisquare(counts.numpy()).pvalue > P_VALUE
    assert counts.sum() == 6000


def test_a_memory_that_holds_the_stream_keeps_all_of_it_in_order() -> None:
    memory = filled(50, [7, 7, 36])
    assert content(memory) == list(range(50))
    assert (len(memory), memory.seen) == (50, 50)
    memory = filled(1000, [7, 7])
    assert content(memory) == list(range(14))
    assert (len(memory), memory.seen) == (14, 14)


def test_memory_grows_with_the_rows_and_never_beyond_the_capacity() -> None:
    memory = filled(1000, [10] * 5)
    assert len(memory._columns["labels"]) <= 100
    memory.add(**rows(50, 2000))
    assert len(memory._columns["labels"]) == len(memory) == 1000


def test_filling_row_by_row_asks_for_memory_a_few_times() -> None:
    memory, sizes = Reservoir(1000, 0, CPU), set()
    for number in range(1000):
        memory.add(**rows(number, number + 1))
        sizes.add(len(memory._columns["labels"]))
    assert len(sizes) <= 12


def test_a_resumed_memory_is_that_of_an_undisturbed_run() -> None:
    whole = filled(20, [50, 130])
    first = filled(20, [50])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed = Reservoir(20, 3, CPU)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert len(resumed) == 20
    resumed.add(**rows(50, 180))
    assert content(resumed) == content(whole)
    assert resumed.seen == whole.seen == 180
    for number in range(5):
        assert torch.equal(resumed.sample(6, number)["labels"], whole.sample(6, number)["labels"])


def test_a_resumed_memory_that_was_not_full_grows_on() -> None:
    resumed = Reservoir(20, 3, CPU)
    resumed.load_state_dict(filled(20, [7]).state_dict())
    resumed.add(**rows(7, 40))
    assert content(resumed) == algorithm_r(20, 40, 3)


def test_a_saved_state_does_not_change_with_the_memory() -> None:
    memory = filled(5, [5])
    state = memory.state_dict()
    other = Reservoir(5, 3, CPU)
    other.load_state_dict(state)
    memory.add(**rows(5, 200))
    other.add(**rows(5, 100))
    assert state["columns"]["labels"].tolist() == list(range(5))
    assert state["seen"] == 5


def test_another_seed_keeps_other_rows() -> None:
    assert content(filled(20, [300], seed=3)) != content(filled(20, [300], seed=4))


def test_a_sample_has_no_row_twice_and_all_rows_where_it_asks_for_more() -> None:
    memory = filled(30, [200])
    for number in range(50):
        drawn = memory.sample(20, number)["labels"].tolist()
        assert len(set(drawn)) == 20
        assert set(drawn) <= set(content(memory))
    assert sorted(memory.sample(31, 7)["labels"].tolist()) == sorted(content(memory))
    assert len(memory.sample(0, 7)["labels"]) == 0


def test_a_sample_is_a_function_of_the_seed_and_the_number_of_the_draw() -> None:
    memory, same = filled(30, [30]), filled(30, [30])
    draws = [memory.sample(10, number)["labels"].tolist() for number in range(20)]
    again = [same.sample(10, number)["labels"].tolist() for number in reversed(range(20))][::-1]
    assert draws == again
    assert len({tuple(draw) for draw in draws}) == 20
    assert filled(30, [30], seed=4).sample(10, 0)["labels"].tolist() != draws[0]


def test_a_sample_is_the_start_of_a_shuffle_with_draws_of_its_own() -> None:
    memory = filled(12, [12])
    places = list(range(12))
    draws = words(derive_seed(3, "replay"), torch.arange(9), 5)[0].tolist()
    for step, word in enumerate(draws):
        other = step + word * (12 - step) // 2**32
        places[step], places[other] = places[other], places[step]
    assert memory.sample(9, 5)["labels"].tolist() == places[:9]


def test_every_ordered_sample_is_equally_likely() -> None:
    memory = filled(4, [4])
    drawn = torch.stack([memory.sample(3, number)["labels"] for number in range(2400)])
    codes = drawn[:, 0] * 16 + drawn[:, 1] * 4 + drawn[:, 2]
    counts = codes.bincount(minlength=64)
    assert (counts > 0).sum() == 24
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > P_VALUE


def test_classes_are_counted_among_the_stored_rows() -> None:
    memory = Reservoir(6, 0, CPU)
    assert memory.class_counts(3).tolist() == [0, 0, 0]
    memory.add(labels=torch.tensor([0, 2, 2]))
    assert memory.class_counts(4).tolist() == [1, 0, 2, 0]
    memory.add(labels=torch.tensor([1]))
    assert memory.class_counts(3).tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="below 2; got 2"):
        memory.class_counts(2)


def test_rows_are_copies_without_a_graph() -> None:
    memory = Reservoir(4, 0, CPU)
    logits = torch.ones(2, 3, requires_grad=True)
    values = logits * 2
    memory.add(logits=values)
    with torch.no_grad():
        values.zero_()
    drawn = memory.sample(2, 0)["logits"]
    assert not drawn.requires_grad
    assert (drawn == 2).all()


def test_nothing_is_drawn_from_torchs_generator_and_no_kernel_is_undetermined() -> None:
    before = torch.get_rng_state()
    torch.set_deterministic_debug_mode("error")
    try:
        memory = filled(20, [300])
        memory.sample(5, 0)
        memory.class_counts(300)
    finally:
        torch.set_deterministic_debug_mode("default")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": torch.zeros(2, dtype=torch.int64), "task": torch.zeros(3)}, "one number of rows"),
        ({}, "no columns"),
        ({"labels": torch.zeros(2)}, "those of the rows before"),
        ({"labels": torch.zeros(2, 1, dtype=torch.int64)}, "those of the rows before"),
        ({"images": torch.zeros(2, dtype=torch.int64)}, "those of the rows before"),
    ],
)
def test_rows_of_another_kind_are_refused_and_change_nothing(
    columns: dict[str, Tensor], message: str
) -> None:
    memory = Reservoir(4, 0, CPU)
    memory.add(labels=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=message):
        memory.add(**columns)
    assert memory.seen == 2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1; got 0"):
        Reservoir(0, 0, CPU)
    with pytest.raises(ValueError, match="at least 0 rows; got -1"):
        filled(4, [4]).sample(-1, 0)
    with pytest.raises(ValueError, match="has seed 3; this one has 4"):
        Reservoir(4, 4, CPU).load_state_dict(filled(4, [4]).state_dict())
    with pytest.raises(ValueError, match="has capacity 4; this one has 5"):
        Reservoir(5, 3, CPU).load_state_dict(filled(4, [4]).state_dict())
