"""What each loss costs beside cross-entropy: forward and backward at the catalogue's defaults.

    python benchmarks/losses.py [NAME ...] [--classes 10 100 1000] [--rounds 60] [--compile] [--json FILE]

A step is the loss of one batch in training mode and its gradients. In every round the steps of
``torch.nn.functional.cross_entropy`` on the same logits, of the loss, of the loss with its statistics
switched off (what ``value`` computes for nothing else stays in) and, with ``--compile``, of the compiled loss
run one after the other, in an order that turns round by round. A ratio is the loss over cross-entropy of the
same round; printed are the median and the quartiles of the rounds.

The head is not timed: logits, cosines, features and weights are computed before and require a gradient. What
a loss multiplies by itself is timed and marked o: T2FNorm's logits, and the products on which ELogitNorm's
distances and the triplet term rest.

Exits with 1 where a compiled loss differs from the eager one by more than 1e-5 of its largest number.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestrator.execution.provenance import hardware
from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.models.heads import build_head

Step = Callable[[], tuple[Tensor | None, ...]]
TOLERANCE = 1e-5
"""Of a compiled loss. Sums in another order differ by a few 1e-7 of the largest number."""
OWN_PRODUCT = ("t2fnorm", "elogitnorm", "triplet")
LARGEST_CLASS, IMBALANCE = 5000, 100
"""Training images of the most frequent class, and that over those of the rarest."""


@dataclass(frozen=True)
class Variant:
    """A loss with the parameters that are not at their defaults."""

    loss: str
    params: Mapping[str, Any]

    @property
    def name(self) -> str:
        return " ".join((self.loss, *(f"{key}={value}" for key, value in self.params.items())))


VARIANTS = (
    *(Variant(name, {}) for name, entry in LOSSES.items() if entry.path is not None),
    Variant("cross_entropy", {"class_weights": "effective"}),
    Variant("cross_entropy", {"triplet": 1.0}),
    Variant("cross_entropy", {"triplet": 1.0, "triplet_mining": "semi_hard"}),
    Variant("cross_entropy", {"triplet": 1.0, "triplet_mining": "batch_all"}),
    Variant("focal", {"alpha": "effective", "weighting": "inside"}),
    Variant("mse", {"k": 15.0, "M": 30.0}),
    Variant("mse", {"input": "probs"}),
    Variant("l1", {"input": "probs"}),
    Variant("meln", {"mode": "source"}),
    Variant("meln", {"mode": "shifted_norm"}),
    Variant("meln", {"mode": "per_class"}),
    Variant("normface", {"learn_s": True}),
    Variant("arcface", {"grad": "straight_through"}),
    Variant("arcface", {"fallback": "easy"}),
    Variant("l_softmax", {"m": 4}),
    Variant("adacos", {"mode": "fixed"}),
    Variant("multi_margin", {"p": 2}),
    Variant("hem", {"threshold": "batch"}),
    Variant("hem_plus", {"threshold": "batch"}),
)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Row:
    """One loss at one number of classes; ratios are to cross-entropy, eager, without this package."""

    loss: str
    classes: int
    own_product: bool
    cross_entropy_us: Spread
    loss_us: Spread
    ratio: Spread
    untracked: Spread
    compiled: Spread | None = None
    graph_breaks: Sequence[str] = ()
    compiled_error: float | None = None
    """Largest difference from eager over the largest number, of the value and of every gradient."""


def build_case(
    variant: Variant, classes: int, batch: int, features: int, device: torch.device
) -> tuple[Loss, HeadOutput, Tensor]:
    """The loss in training mode, what a fresh head says of random features, and labels."""
    torch.manual_seed(0)
    counts = tuple(round(LARGEST_CLASS * IMBALANCE ** (-c / (classes - 1))) for c in range(classes))
    loss = build_loss(variant.loss, variant.params, LossContext(sum(counts), classes, counts)).to(device)
    head = build_head(loss.head, features, classes).to(device)
    said = head(torch.randn(batch, features, device=device)).detach()
    leaves = (None if t is None else t.clone().requires_grad_() for t in said)
    return loss, HeadOutput(*leaves), torch.randint(classes, (batch,), device=device)  # type: ignore[arg-type]


def step_of(value: Callable[[], Tensor], inputs: Sequence[Tensor]) -> Step:
    """One forward and one backward pass: the value, then its gradients."""

    def step() -> tuple[Tensor | None, ...]:
        result = value()
        return (result.detach(), *torch.autograd.grad(result, inputs, allow_unused=True))

    return step


def loss_step(loss: Callable[..., Tensor], own: Loss, output: HeadOutput, labels: Tensor) -> Step:
    """A step of ``loss``, whose trainable parameters are those of ``own``."""
    inputs = [t for t in (*output, *own.parameters()) if t is not None and t.requires_grad]
    return step_of(lambda: loss(output, labels), inputs)


def untracked(loss: Loss) -> Loss:
    """A copy that keeps no statistics."""
    silent = copy.deepcopy(loss)
    for module in silent.modules():
        for method in ("observe", "track"):
            if isinstance(module, Loss):
                setattr(module, method, lambda *_: None)
    return silent


def seconds(step: Step, repeats: int, device: torch.device) -> float:
    """Of one step, in a block of ``repeats``."""
    if device.type == "cuda":
        began = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        began.record()
        for _ in range(repeats):
            step()
        ended.record()
        torch.cuda.synchronize(device)
        return float(began.elapsed_time(ended)) / 1e3 / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def measure(
    steps: Mapping[str, Step], rounds: int, block_seconds: float, device: torch.device
) -> dict[str, list[float]]:
    """Seconds a step of each, round by round; blocks take about ``block_seconds``."""
    repeats = {}
    for name, step in steps.items():
        seconds(step, 3, device)
        repeats[name] = max(1, round(block_seconds / seconds(step, 10, device)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for _ in range(rounds):
        for name in order:
            times[name].append(seconds(steps[name], repeats[name], device))
        order = order[1:] + order[:1]
    return times


def difference(ours: Step, theirs: Step) -> float:
    """The largest, relative to the largest number, of the value and of each gradient."""
    worst = 0.0
    for a, b in zip(ours(), theirs(), strict=True):
        if (a is None) != (b is None):
            return float("inf")
        if a is not None and b is not None:
            scale = b.abs().max().clamp_min(torch.finfo(b.dtype).tiny)
            worst = max(worst, float((a - b).abs().max() / scale))
    return worst


def bench(variant: Variant, classes: int, arguments: argparse.Namespace) -> Row:
    device = torch.device(arguments.device)
    loss, output, labels = build_case(variant, classes, arguments.batch, arguments.features, device)
    silent = untracked(loss)
    steps = {
        "baseline": step_of(lambda: F.cross_entropy(output.logits, labels), [output.logits]),
        "loss": loss_step(loss, loss, output, labels),
        "untracked": loss_step(silent, silent, output, labels),
    }
    breaks: tuple[str, ...] = ()
    error = None
    if arguments.compile:
        # Otherwise a function that was compiled for one loss is tried on the next, and given up after eight.
        torch._dynamo.reset()
        explained = torch._dynamo.explain(copy.deepcopy(loss))(output, labels)
        breaks = tuple(str(reason.reason) for reason in explained.break_reasons)
        torch._dynamo.reset()
        inner, eager = copy.deepcopy(loss), copy.deepcopy(loss)
        compiled = torch.compile(inner)
        steps["compiled"] = loss_step(compiled, inner, output, labels)
        error = difference(steps["compiled"], loss_step(eager, eager, output, labels))
    times = measure(steps, arguments.rounds, arguments.block_ms / 1e3, device)
    ratios = {
        name: Spread.of([own / base for own, base in zip(taken, times["baseline"], strict=True)])
        for name, taken in times.items()
    }
    micros = {name: Spread.of([1e6 * t for t in taken]) for name, taken in times.items()}
    own_product = variant.loss in OWN_PRODUCT or "triplet" in variant.params
    return Row(
        variant.name,
        classes,
        own_product,
        micros["baseline"],
        micros["loss"],
        ratios["loss"],
        ratios["untracked"],
        ratios.get("compiled"),
        breaks,
        error,
    )


def line(row: Row) -> str:
    text = (
        f"{row.classes:5d}  {row.loss:<50s} {'o' if row.own_product else ' '} "
        f"{row.cross_entropy_us.median:8.1f} {row.loss_us.median:9.1f} "
        f"{_ratio(row.ratio)} {_ratio(row.untracked)}"
    )
    if row.compiled is None or row.compiled_error is None:
        return text
    return f"{text} {_ratio(row.compiled)} {len(row.graph_breaks):6d} {row.compiled_error:8.0e}"


def heading(arguments: argparse.Namespace) -> str:
    device = hardware()["processor"]
    if arguments.device.startswith("cuda"):
        device = f"{torch.cuda.get_device_name(arguments.device)}, {device}"
    columns = f"    C  {'loss':<50s} o    CE us   loss us {'loss / CE':^22s} {'untracked / CE':^22s}"
    if arguments.compile:
        columns += f" {'compiled / CE':^22s} breaks    error"
    return (
        f"torch {torch.__version__}, {device}, {arguments.threads} thread(s), float32, "
        f"batch {arguments.batch}, {arguments.features} features, {arguments.rounds} rounds\n{columns}"
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="losses of the catalogue; default: all")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=60, help="at least 2")
    parser.add_argument(
        "--block-ms",
        type=float,
        default=1.0,
        help="time of one loss in one round; short, so\nthat what interrupts the machine spoils few rounds",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, checked against eager")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row there, too")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.names if name not in LOSSES]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(LOSSES)}; got {', '.join(unknown)}")
    if arguments.rounds < 2:
        parser.error(f"--rounds must be at least 2, for quartiles; got {arguments.rounds}")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    torch.set_num_threads(arguments.threads)
    print(heading(arguments), flush=True)
    rows = []
    for classes in arguments.classes:
        for variant in VARIANTS:
            if not arguments.names or variant.loss in arguments.names:
                rows.append(bench(variant, classes, arguments))
                print(line(rows[-1]), flush=True)
    for row in rows:
        for reason in row.graph_breaks:
            print(f"graph break: {row.loss}, {row.classes} classes: {reason}")
    if arguments.json is not None:
        facts = {"torch": torch.__version__, **hardware(), **vars(arguments), "json": str(arguments.json)}
        record = {"facts": facts, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    wrong = [row for row in rows if row.compiled_error is not None and not row.compiled_error <= TOLERANCE]
    for row in wrong:
        print(f"compiled differs from eager: {row.loss}, {row.classes} classes, by {row.compiled_error:g}")
    return 1 if wrong else 0


def _ratio(spread: Spread) -> str:
    return f"{spread.median:6.2f} ({spread.low:6.2f}-{spread.high:6.2f})"


if __name__ == "__main__":
    sys.exit(main())
