"""Whether two ways of training reach the same accuracy, AUROC and FPR95: seed by seed, or no ratio counts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOUNDS = {"accuracy": 0.01, "auroc": 0.01, "fpr95": 0.02}
"""A mean difference below these is no difference, however small the noise: a point, or two of FPR95."""
WIDEST = {"accuracy": 0.05, "auroc": 0.1, "fpr95": 0.1}
"""An interval wider than this on either side would agree with almost anything."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Ours minus the peer's, over paired seeds."""

    metric: str
    ours: float
    peer: float
    difference: float
    half_width: float
    """Of the paired t interval."""

    @property
    def decides(self) -> bool:
        """Whether the interval is narrow enough for a difference that matters to be seen."""
        return self.half_width <= WIDEST[self.metric]

    @property
    def agrees(self) -> bool:
        """The interval decides, and holds 0, or the difference is below its bound."""
        return self.decides and abs(self.difference) <= max(self.half_width, BOUNDS[self.metric])


def compare(
    ours: Sequence[Mapping[str, float]], peer: Sequence[Mapping[str, float]]
) -> tuple[Comparison, ...]:
    """Args: metrics of each seed, in the same order. Raises: ValueError for fewer than two seeds."""
    if len(ours) != len(peer) or len(ours) < 2:
        raise ValueError(f"parity needs two or more paired seeds; got {len(ours)} and {len(peer)}")
    return tuple(_compare(name, [o[name] for o in ours], [p[name] for p in peer]) for name in BOUNDS)


def _compare(metric: str, ours: Sequence[float], peer: Sequence[float]) -> Comparison:
    from scipy import stats

    differences = [a - b for a, b in zip(ours, peer, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    return Comparison(
        metric,
        statistics.mean(ours),
        statistics.mean(peer),
        statistics.mean(differences),
        quantile * error,
    )


def line(comparison: Comparison, what: str) -> str:
    verdict = "agrees" if comparison.agrees else "DIFFERS" if comparison.decides else "UNDECIDED"
    return (
        f"parity {what:<10}{comparison.metric:<10} ours {comparison.ours:.4f}  peer {comparison.peer:.4f}  "
        f"difference {comparison.difference:+.4f} +/- {comparison.half_width:.4f}  {verdict}"
    )
