"""The process-wide switches that a result depends on, set for one trial and put back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from workloads.contract import Precision


@contextmanager
def reproducible(device: torch.device, threads: int, *, tf32: bool = False) -> Iterator[None]:
    """Deterministic kernels on the CPU and a fixed number of BLAS threads, which changes how sums are split.

    ``tf32`` allows a GPU to round the factors of float32 products to 10 bits.

    Workers run many trials in one process: each sets these anew and none leaves a trace in the next. On a GPU
    results are not promised to the bit, and kernels stay as fast as they are.
    """
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.get_rng_state(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )
    torch.set_num_threads(threads)
    if device.type == "cpu":
        # As use_deterministic_algorithms(True), which also loads the compiler: a second, and 80 MB.
        torch.set_deterministic_debug_mode("error")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.set_rng_state(before[2])
        torch.set_float32_matmul_precision(before[3])
        torch.backends.cudnn.allow_tf32 = before[4]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """What a trunk runs under; heads and losses stay in float32 by themselves."""
    if precision == "bf16":
        return torch.autocast(device_type=device.type, dtype=torch.bfloat16)
    return nullcontext()
