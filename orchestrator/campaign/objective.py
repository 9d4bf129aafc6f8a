"""The objective of a search: the FPR95 of Gaussian noise on validation, guarded by accuracy.

One number orders three things, smaller is better:

1. a network below the accuracy guard is worse than any above it: 1 + seeds + (guard - accuracy), so
   that one such seed makes a configuration worse than any that has none;
2. above the guard: the share of noise images accepted at 95 % of validation accepted (``noise/fpr95``);
3. equal FPR95: 1 - AUROC, scaled below the smallest step that the mean FPR95 over the seeds can make.

Source: the noise validation of LogitNorm (Wei et al. 2022, section 4.1); guard and tie-break are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.study.spec import GuardSpec, StudySpec


def meets_guard(value: float, seeds: int) -> bool:
    """Whether a configuration's value (a mean over ``seeds``) is one of networks all above the guard."""
    return value < 1.0 + 0.5 / seeds


@dataclass(frozen=True)
class Objective:
    """The objective of one study.

    ``quantum`` is the smallest possible difference between two means of FPR95 over the search seeds.
    """

    guard: GuardSpec
    seeds: int
    """Search seeds of a configuration."""
    quantum: float
    chance: float
    """Accuracy of guessing, 1 / classes."""

    @classmethod
    def of(cls, spec: StudySpec, num_classes: int) -> Objective:
        images = spec.noise.size * len(spec.noise.sigmas)
        seeds = len(spec.search.seeds)
        return cls(spec.search.guard, seeds, 1.0 / (images * seeds), 1.0 / num_classes)

    def threshold(self, best_accuracy: float | None) -> float:
        """Validation accuracy that a configuration must reach.

        Args:
            best_accuracy: best mean validation accuracy of a complete configuration of the arm, if any.
        """
        least = self.guard.min_accuracy
        if least is None:
            least = (1.0 + self.chance) / 2
        return least if best_accuracy is None else max(least, best_accuracy - self.guard.max_drop)

    def value(self, metrics: Mapping[str, float], threshold: float) -> float:
        """The objective of one trial's metrics: at most 1 + quantum above the guard, 2 and more below it."""
        accuracy = metrics["validation/accuracy"]
        if accuracy < threshold:
            return 1.0 + self.seeds + (threshold - accuracy)
        return metrics["noise/fpr95"] + (1.0 - metrics["noise/auroc"]) * self.quantum
