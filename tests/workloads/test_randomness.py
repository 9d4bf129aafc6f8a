"""Streams by purpose."""

from __future__ import annotations

import numpy as np

from workloads.data.randomness import generator


def test_the_same_purpose_gives_the_same_stream_and_another_purpose_another() -> None:
    purposes: list[tuple[str | int | float, ...]] = [
        *(("a", 1), ("a", 2), ("b", 1), ("a", "1"), ("a", 1.0)),
        *(("a1",), ("a",), ()),
    ]
    first, second = ([generator(*purpose).integers(0, 2**62) for purpose in purposes] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(purposes)


def test_a_stream_does_not_depend_on_global_state() -> None:
    np.random.seed(0)
    first = generator("x").random()
    np.random.seed(1)
    assert generator("x").random() == first
