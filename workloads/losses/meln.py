"""Margin-enhanced LogitNorm (MELN), as published and in the readings in which its margin acts."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.head import HeadOutput, lengths
from workloads.losses.base import Loss, LossContext, Targets
from workloads.losses.logitnorm import EPSILON
from workloads.losses.rules import above_zero, not_negative, one_of, switch

COLDEST, WARMEST = 0.01, 1.0
"""Where a held temperature (what the logits are divided by) may go."""
MODES = ("target", "source", "shifted_norm", "per_class")


class MarginEnhancedLogitNorm(Loss):
    """Cross-entropy of normalised logits at a learned temperature T, with a margin m.

    ``mode``:
    - ``target``: (Z / |Z| - m 1_y) / T. The margin is on the true class, as CosFace has it on cosines.
    - ``source``: (Z - m) / |Z| / T, as published. The softmax does not see a number that is subtracted from
      all logits, so m changes nothing and never learns: this is LogitNorm with tau = T.
    - ``shifted_norm``: (Z - m) / |Z - m| / T, the only reading in which a scalar margin acts.
    - ``per_class``: (Z - m_c) / |Z| / T with one learned margin a class.

    The loss falls with T wherever most images are right, and plain SGD takes T through zero. So T is learned
    as its logarithm, at a tenth of the learning rate, and held where it divides by 0.01 to 1. A learned
    margin on the true class only falls: m is fixed by default.

    Args:
        mode: see above.
        T: temperature at the start, > 0.
        m: margin (at the start, where it is learned), >= 0.
        learn_T: train T.
        learn_m: train m (``per_class`` always does).
        temperature: ``divide`` by T, as the published code does, or ``multiply`` by it, as its text says.
        constraint: ``log`` holds T as above; ``none`` trains the bare number, as published: it runs away.
        lr_scale: learning rate of T and m, as a multiple of the model's, > 0.
    Raises: ValueError where T <= 0 or a held T starts outside its range, m < 0, lr_scale <= 0, for another
        word, or ``per_class`` without a context.
    Source: the README "Margin-Enhanced LogitNorm Loss" (``source`` is its code, ``temperature="multiply"``
        its formula).
    Differs from source: 1. the modes but ``source`` are ours; 2. T0 = 0.1 instead of 1, where the loss cannot
        fall below 1.42 with ten classes; 3. T is held.
    """

    def __init__(
        self,
        mode: Literal["target", "source", "shifted_norm", "per_class"] = "target",
        T: float = 0.1,
        m: float = 0.1,
        learn_T: bool = True,
        learn_m: bool = False,
        temperature: Literal["divide", "multiply"] = "divide",
        constraint: Literal["log", "none"] = "log",
        lr_scale: float = 0.1,
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        self.mode = one_of("meln", "mode", mode, MODES)
        self.targets: Targets = "hard" if mode == "target" else "soft"
        self.temperature = one_of("meln", "temperature", temperature, ("divide", "multiply"))
        self.constraint = one_of("meln", "constraint", constraint, ("log", "none"))
        start = above_zero("meln", "T", T)
        margin = torch.tensor(not_negative("meln", "m", m))
        if mode == "per_class":
            if context is None:
                raise ValueError("meln: mode per_class needs a context that knows the number of classes")
            margin = margin.repeat(context.num_classes)
        self.lr_scale = above_zero("meln", "lr_scale", lr_scale)
        divisor = start if temperature == "divide" else 1 / start
        if constraint == "log" and not COLDEST <= divisor <= WARMEST:
            low, high = (COLDEST, WARMEST) if temperature == "divide" else (1 / WARMEST, 1 / COLDEST)
            raise ValueError(f"meln: T must be in {low:g}..{high:g} where it is held there; got {T!r}")
        kept = math.log(start) if constraint == "log" else start
        self.t = nn.Parameter(torch.tensor(kept), requires_grad=switch("meln", "learn_T", learn_T))
        learned = switch("meln", "learn_m", learn_m) or mode == "per_class"
        self.m = nn.Parameter(margin, requires_grad=learned)

    @property
    def divisor(self) -> Tensor:
        """What the normalised logits are divided by, 0-dimensional."""
        if self.constraint == "none":
            return self.t if self.temperature == "divide" else 1 / self.t
        return (self.t if self.temperature == "divide" else -self.t).exp()

    @torch.no_grad()
    def _hold(self) -> None:
        """Bring a T that the last step took too far back to its bound, where it still has a gradient."""
        low, high = math.log(COLDEST), math.log(WARMEST)
        self.t.clamp_(*((low, high) if self.temperature == "divide" else (-high, -low)))

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        if self.training and self.constraint == "log":
            self._hold()
        Z, T = output.logits, self.divisor.to(output.logits.dtype)
        self.track("T", T if self.temperature == "divide" else 1 / T)
        self.track("m", self.m.mean())
        return F.cross_entropy(self._with_margin(output, Z, targets, T), targets, reduction="none")

    def _with_margin(self, output: HeadOutput, Z: Tensor, targets: Tensor, T: Tensor) -> Tensor:
        m = self.of_classes(self.m, output) if self.mode == "per_class" else self.m.to(Z.dtype)
        if self.mode == "shifted_norm":
            shifted = Z - m
            return shifted * (1 / ((lengths(shifted) + EPSILON) * T))
        factor = 1 / ((lengths(Z) + EPSILON) * T)  # [batch, 1]
        if self.mode == "target":
            return (Z * factor).scatter_add(1, targets.unsqueeze(1), (-m / T).expand(len(Z), 1))
        return (Z - m) * factor
