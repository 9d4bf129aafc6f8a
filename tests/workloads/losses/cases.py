"""Every loss in every variant: how it is built, its numpy reference, and which invariances it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.workloads.losses.batches import Batch, Given, context_of, make_batch, rare_to_frequent
from tests.workloads.losses.reference_arrays import Array, norm
from workloads.losses.base import Loss
from workloads.losses.build import build_loss

Value = Callable[[Given], float]
Scores = Callable[[Given], Array]


@dataclass(frozen=True)
class Case:
    """One variant of one loss."""

    loss: str
    params: Mapping[str, Any]
    reference: Value
    scores: Scores
    """The logits that scores must see."""
    shift: bool | None
    """Whether adding a number to a sample's logits changes nothing; None: the loss does not read logits."""
    scale: bool
    """Whether lengthening the features changes nothing, where the head has no bias."""
    stats: frozenset[str]
    """What it tracks in training."""
    learned: frozenset[str] = frozenset()
    """Names of its trained parameters."""
    rel: float = 1e-9
    """How near the reference must be; float64 leaves 1e-9 after a few hundred sums of logits of about 100."""

    def __str__(self) -> str:
        words = (f"{key}={_word(value)}" for key, value in self.params.items())
        return f"{self.loss}[{','.join(words)}]"

    def build(
        self,
        counts: tuple[int, ...],
        progress: float = 1.0,
        changes: Mapping[str, Any] | None = None,
        active: tuple[int, ...] | None = None,
    ) -> Loss:
        """The loss in float64 and in evaluation mode, for classes with ``counts`` training images."""
        params = {**self.params, **(changes or {})}
        loss = build_loss(self.loss, params, context_of(counts, active)).double().eval()
        if params.get("mode") == "per_class":
            # Equal margins are a shift of all logits, which nothing would show.
            with torch.no_grad():
                loss.get_parameter("m").copy_(torch.from_numpy(class_margins(len(counts))))
        loss.set_progress(progress)
        return loss

    def batch(self, N: int = 7, C: int = 4, D: int = 5, seed: int = 0, **kinds: Any) -> Batch:
        """A random batch through the head that the loss asks for."""
        return make_batch(self.build(rare_to_frequent(C)).head, N, C, D, seed, **kinds)


def class_margins(C: int) -> Array:
    """The margins that mode ``per_class`` of MELN is tested with."""
    return np.linspace(0.0, 0.5, C)


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "+".join(f"{key}:{_word(number)}" for key, number in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


LOGIT_NORM = frozenset({"logit_norm"})
ANGLE = frozenset({"target_angle"})


def on_logits(
    loss: str,
    params: Mapping[str, Any],
    reference: Value,
    *,
    scores: Scores = lambda g: g.Z,
    shift: bool = True,
    scale: bool = False,
    tracks: str = "",
    learned: str = "",
    rel: float = 1e-9,
) -> Case:
    stats = LOGIT_NORM | set(tracks.split())
    return Case(loss, params, reference, scores, shift, scale, stats, frozenset(learned.split()), rel)


def on_cosines(
    loss: str,
    params: Mapping[str, Any],
    reference: Value,
    s: Callable[[int], float] | float,
    *,
    scores: Scores | None = None,
    tracks: str = "",
    learned: str = "",
) -> Case:
    """A case whose scores are s times the cosines; s may be a function of the number of classes."""
    scaled: Scores = scores or (lambda g: (s(g.C) if callable(s) else s) * g.c)
    return Case(
        loss, params, reference, scaled, None, True, ANGLE | set(tracks.split()), frozenset(learned.split())
    )


def on_angles(loss: str, params: Mapping[str, Any], reference: Value, scores: Scores) -> Case:
    """A case that multiplies an angle and keeps the length of the features."""
    return Case(loss, params, reference, scores, None, False, LOGIT_NORM | {"target_angle", "lambda"})


def inverse_weights(g: Given) -> Array:
    """1 / n_j, scaled to a sum of C."""
    return np.asarray(g.C / g.counts / (1 / g.counts).sum())


def sqrt2_log(C: int) -> float:
    """AdaCos's scale; 1 for two classes, where it would be 0."""
    return math.sqrt(2) * math.log(C - 1) if C > 2 else 1.0


def unit_weights(g: Given) -> Array:
    """The logits with class weights of length 1 and no bias."""
    return np.asarray(g.X @ np.array([w / norm(w) for w in g.W]).T)
