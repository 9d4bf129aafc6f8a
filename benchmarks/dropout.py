"""What dropout costs on a CPU: this project's, and torch's, at the activation sizes of WRN-40-2.

    python benchmarks/dropout.py [--batch 128] [--rounds 40] [--dtype float32]

Forward and backward, on one thread, of channels-last activations. In every round the two run one after the
other, in an order that turns round by round; printed are the medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from workloads.models.dropout import Dropout

SIZES = ((32, 32), (64, 16), (128, 8))
"""Channels, and height and width, between the convolutions of a block in each of the three groups."""
BLOCKS = 6
"""Of each group."""
P = 0.3


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def step_of(layer: nn.Module, x: Tensor, gradient: Tensor) -> Callable[[], None]:
    def step() -> None:
        x.grad = None
        layer(x).backward(gradient)

    return step


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints a line a size, and the sum over the blocks of a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=128, help="images a step (default 128)")
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each (default 40)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(f"{'activation':>20}  {'torch':>9}  {'here':>9}  torch / here")
    totals = [0.0, 0.0]
    for channels, side in SIZES:
        x = torch.randn(given.batch, channels, side, side).to(getattr(torch, given.dtype))
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        gradient = torch.randn_like(x)
        steps = [step_of(layer, x, gradient) for layer in (nn.Dropout(P), Dropout(P))]
        times: list[list[float]] = [[], []]
        for round_ in range(given.rounds):
            for which in (0, 1) if round_ % 2 else (1, 0):
                times[which].append(seconds(steps[which]))
        theirs, ours = (statistics.median(t) for t in times)
        ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
        totals = [totals[0] + BLOCKS * theirs, totals[1] + BLOCKS * ours]
        shape = f"{given.batch}x{channels}x{side}x{side}"
        print(f"{shape:>20}  {1e3 * theirs:6.2f} ms  {1e3 * ours:6.2f} ms  {ratio:.2f}")
    print(f"{'18 blocks':>20}  {1e3 * totals[0]:6.1f} ms  {1e3 * totals[1]:6.1f} ms")


if __name__ == "__main__":
    main()
