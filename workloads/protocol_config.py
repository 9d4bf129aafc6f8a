"""The settings of the protocols: plain, frozen and JSON-serialisable, as the contract that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["plain", "class_balanced", "drw", "resampling", "logit_adjustment", "crt"]
Strategy = Literal["naive", "replay", "derpp", "ewc", "l2", "lwf", "joint"]
Scenario = Literal["class_il", "task_il", "domain_il"]


@dataclass(frozen=True)
class LongTailedConfig:
    """Training images whose classes differ in size, and what is done about it. Tests stay as they are."""

    method: Method = "plain"
    """``plain``: the loss as it is. ``class_balanced``: images weighted by 1 / effective number of their
    class (Cui et al. 2019). ``drw``: the same weights from ``drw_from`` of the training on (Cao et al. 2019).
    ``resampling``: every class drawn equally often. ``logit_adjustment``: plain training, then ``tau`` times
    the log of the class shares taken off the logits (Menon et al. 2021). ``crt``: plain training, then a new
    head on the frozen trunk, every class drawn equally often (Kang et al. 2020)."""
    profile: Literal["exp", "step"] = "exp"
    """Sizes fall exponentially from the first class to the last, or the second half of the classes is
    small."""
    factor: float = 100.0
    """Size of the largest class over that of the smallest, at least 1."""
    subset_seed: int = 0
    """Which images of a class are kept; the same for every trial."""
    beta: float = 0.9999
    """Of the effective number, ``class_balanced`` and ``drw``."""
    drw_from: float = 0.8
    """Share of the training after which ``drw`` weights."""
    tau: float = 1.0
    """Strength of ``logit_adjustment``."""
    crt_epochs: int = 10
    """Epochs of the new head of ``crt``."""


@dataclass(frozen=True)
class ContinualConfig:
    """A stream of tasks, learned one after the other, and what is done against forgetting."""

    strategy: Strategy = "naive"
    """``naive``: nothing. ``replay``: images kept in a reservoir are shown again. ``derpp``: also their
    logits of then (Buzzega et al. 2020). ``ewc``: important weights are held (Kirkpatrick et al. 2017).
    ``l2``: all weights are. ``lwf``: the last model's answers are (Li and Hoiem 2016). ``joint``: all tasks
    at once, the upper bound."""
    scenario: Scenario = "class_il"
    """``class_il``: which of all classes so far. ``task_il``: which of the classes of a task that is told.
    ``domain_il``: the same labels in every task."""
    stream: Literal["split", "permuted", "rotated"] = "split"
    """Groups of classes; or all classes, pixels permuted or images rotated differently in every task."""
    tasks: int = 5
    order: Literal["seed", "natural"] = "seed"
    """Of classes, permutations or angles: drawn by the trial's seed, or as they come."""
    counts: Literal["task", "seen", "total"] = "seen"
    """The training images that a loss is told of (HEM's N, class counts): those of the task, replayed ones
    included; of all tasks so far; or of the whole stream."""
    buffer: int = 500
    """Images in the reservoir."""
    replay_batch: int | None = None
    """Images replayed a step; None: as many as the batch has."""
    derpp_alpha: float = 0.1
    """Weight of the distance to the logits of then."""
    derpp_beta: float = 0.5
    """Weight of the loss of replayed images."""
    ewc_lambda: float = 10.0
    """Strength: lambda / 2 times the sum of F (theta - theta*)^2."""
    fisher: Literal["labels", "expected", "batch_mean"] = "labels"
    """F: squared gradients of each image's softmax NLL at its label; their expectation over the model's own
    answers; or squared gradients of mini-batch means of the training loss (Avalanche)."""
    fisher_images: int = 1000
    """Training images of the task that F is estimated on, at most."""
    l2_lambda: float = 1.0
    """Strength: lambda / 2 times the squared distance to the last task's weights."""
    lwf_lambda: float = 1.0
    lwf_temperature: float = 2.0
    ood_images: int = 2000
    """Images of each OOD set that are asked after every task, at most."""
