"""The process-wide switches that a result depends on, set for one trial and put back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible(device: torch.device, threads: int) -> Iterator[None]:
    """Deterministic kernels on the CPU and a fixed number of BLAS threads, which changes how sums are split.

    Workers run many trials in one process: each sets these anew and none leaves a trace in the next. On a GPU
    results are not promised to the bit, and kernels stay as fast as they are.
    """
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_rng_state(),
    )
    torch.set_num_threads(threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        torch.set_rng_state(before[3])
