"""What a process takes of a GPU's memory."""

from __future__ import annotations

import gc
from types import TracebackType

import torch

CONTEXT = 600 * 2**20
"""Bytes that CUDA itself takes for a process, where it cannot be measured because others use the GPU too:
what torch's kernels and cuDNN take on a recent GPU, rounded up."""


class Gauge:
    """Watches the body's use of a device's memory; on the CPU it measures nothing.

    Args:
        share: of the GPU; a process with a whole one is taken to be alone there.
        confined: let the process fail where it wants more than its share, before others do.
    """

    def __init__(self, device: str, share: float, *, confined: bool) -> None:
        self._device = torch.device(device)
        self._on = self._device.type == "cuda"
        self._share = share
        self._confined = confined and share < 1

    def __enter__(self) -> Gauge:
        if self._on:
            # An earlier trial of this process may have left some.
            _release()
            torch.cuda.reset_peak_memory_stats(self._device)
            if self._confined:
                total = torch.cuda.mem_get_info(self._device)[1]
                torch.cuda.set_per_process_memory_fraction(allowance(self._share, total), self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on:
            _release()

    def read(self) -> tuple[int, int] | None:
        """Bytes at the peak so far, and bytes of the whole GPU; None on the CPU."""
        if not self._on:
            return None
        free, total = torch.cuda.mem_get_info(self._device)
        context = CONTEXT
        if self._share >= 1:
            context = max(0, total - free - torch.cuda.memory_reserved(self._device))
        return torch.cuda.max_memory_reserved(self._device) + context, total


def allowance(share: float, total: int) -> float:
    """The part of a GPU's memory that tensors may take, so that with CUDA's own a share is not passed."""
    return max(share / 2, share - CONTEXT / total)


def _release() -> None:
    gc.collect()
    torch.cuda.empty_cache()
