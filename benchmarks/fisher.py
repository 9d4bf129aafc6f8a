"""What the Fisher information of a batch costs: here, and image by image, as it is usually written.

    python -m benchmarks.fisher [MODEL ...] [--batch 128] [--rounds 9] [--expected] [--json FILE]

One thread of a CPU, float32, channels last, ten classes, cross-entropy. In every round the ways run one after
the other, in an order that turns round by round; printed are medians, and the median and quartiles of the
rounds' ratios. "step" is one forward and backward pass of the whole batch, which gives no squares: a way that
needs both cannot be faster than it by much.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rounds import interleave
from workloads.contract import ModelConfig
from workloads.losses.cross_entropy import CrossEntropy
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.training.fisher import Kind, fisher_diagonal

SHAPES = {
    "small_cnn_8x8": (1, 8, 8),
    "small_cnn_28x28": (1, 28, 28),
    "mlp": (1, 28, 28),
    "small_cnn_32x32": (3, 32, 32),
    "wrn_16_2": (3, 32, 32),
}
CLASSES = 10
Squares = dict[str, Tensor]


def loop(model: Classifier, images: Tensor, labels: Tensor, expected: bool) -> Squares:
    """Forward, backward and square, an image (and where ``expected`` a class) at a time."""
    model.eval()
    totals = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(len(images)):
        log_p = F.log_softmax(model(images[i : i + 1]).logits, dim=1)[0]
        for column in range(CLASSES) if expected else [int(labels[i])]:
            model.zero_grad()
            (-log_p[column]).backward(retain_graph=expected)  # type: ignore[no-untyped-call]
            weight = float(log_p[column].detach().exp()) if expected else 1.0
            for name, p in model.named_parameters():
                if p.grad is not None:
                    totals[name] += weight * p.grad**2
    model.zero_grad()
    return {name: total / len(images) for name, total in totals.items()}


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return seconds


def measure(name: str, batch: int, rounds: int, expected: bool) -> dict[str, Any]:
    """Seconds of each way by round, after a call of each that is not counted.

    Raises: RuntimeError where the two do not agree: then there is nothing to compare.
    """
    torch.manual_seed(0)
    model = build_model(ModelConfig(name), SHAPES[name], CLASSES)
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(batch, *SHAPES[name]).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,))
    loss = CrossEntropy()
    kind: Kind = "expected" if expected else "labels"

    def here() -> Squares:
        return fisher_diagonal(model, loss, [(images, labels)], kind=kind)

    def step() -> None:
        model.zero_grad()
        loss(model(images), labels).backward()

    found, wanted = here(), loop(model, images, labels, expected)
    step()
    for parameter, values in wanted.items():
        # float32 sums of squares in another order.
        if float((found[parameter] - values).abs().max()) > 1e-3 * float(values.abs().max()):
            raise RuntimeError(f"{name}: the two ways differ in {parameter}")
    ways = {
        "loop": timed(lambda: loop(model, images, labels, expected)),
        "here": timed(here),
        "step": timed(step),
    }
    return {"model": name, "kind": kind, "batch": batch, "rounds": interleave(ways, rounds)}


def line(result: dict[str, Any]) -> str:
    """``model  loop  here  step  ratio (quartiles)``."""
    rounds = result["rounds"]
    middle = {way: 1e3 * statistics.median(r[way] for r in rounds) for way in ("loop", "here", "step")}
    low, ratio, high = statistics.quantiles([r["loop"] / r["here"] for r in rounds], n=4, method="inclusive")
    times = "  ".join(f"{middle[way]:7.1f} ms" for way in ("loop", "here", "step"))
    return f"{result['model']:<17}{times}  {ratio:6.1f} ({low:.1f} to {high:.1f})"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(SHAPES)} (default: all)")
    parser.add_argument("--batch", type=int, default=128, help="images (default 128)")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, at least 2 (default 9)")
    parser.add_argument("--expected", action="store_true", help="over all classes, not for the label")
    parser.add_argument("--json", type=Path, help="write every round there")
    given = parser.parse_args(argv)
    if not set(given.models) <= set(SHAPES):
        parser.error(f"MODEL must be one of {', '.join(SHAPES)}")
    if given.rounds < 2 or given.batch < 1:
        parser.error("--rounds must be at least 2 and --batch at least 1")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints a line a model."""
    given = parse(argv)
    torch.set_num_threads(1)
    print(f"{'model':<17}{'loop':>10}  {'here':>10}  {'step':>10}  loop / here (quartiles)")
    results = []
    for name in given.models or SHAPES:
        results.append(measure(name, given.batch, given.rounds, given.expected))
        print(line(results[-1]), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
