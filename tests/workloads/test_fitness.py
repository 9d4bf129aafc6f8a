"""What is said of a loss in a stream or on a long tail before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.workloads.small_trials import SIX, Bench
from workloads.check import Misfit, problem
from workloads.contract import AugmentationConfig, TrialConfig
from workloads.protocols.fitness import presented


class Plain(nn.Module):
    """A user's loss that knows no losses of single images."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels)


class Sized(nn.Module):
    """A user's loss that was made for six columns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.scale * logits, labels)


class Undefined(nn.Module):
    """A user's loss that is not a number."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.sum() * torch.nan


def said(bench: Bench, config: TrialConfig) -> Misfit | None:
    return problem(config, dict(vars(bench.facts(config.data))))


PLAIN, SIZED = f"{__name__}:Plain", f"{__name__}:Sized"
TAILS: list[tuple[dict[str, Any], str, str]] = [
    ({"method": "class_balanced", "loss": "arcface", "loss_params": {"triplet": 0.5}}, "arm", "WithTriplet"),
    ({"method": "drw", "loss": PLAIN}, "arm", "PlainLoss gives one number for a batch"),
    ({"method": "drw", "loss": "ldam"}, "arm", "re-weights classes by itself"),
    ({"method": "class_balanced", "loss": "ldam"}, "arm", "re-weights classes by itself"),
    ({"method": "logit_adjustment", "loss": "balanced_softmax"}, "arm", "twice would be too much"),
    ({"method": "logit_adjustment", "loss": "logit_adjustment"}, "arm", "twice would be too much"),
    (
        {"method": "class_balanced", "loss": "cross_entropy", "loss_params": {"class_weights": "inverse"}},
        "arm",
        "twice would be too much",
    ),
    (
        {"method": "drw", "loss": "focal", "loss_params": {"alpha": "effective"}},
        "arm",
        "twice would be too much",
    ),
    ({"method": "plain", "factor": 1000.0}, "settings", "without an image"),
    ({"method": "plain", "loss": f"{__name__}:Undefined"}, "arm", "its loss of 4 drawn images is nan"),
]
STREAMS: list[tuple[dict[str, Any], str, str]] = [
    ({"tasks": 7}, "settings", "cannot be cut into 7 tasks"),
    ({"tasks": 6, "scenario": "task_il"}, "settings", "nothing to tell apart"),
    ({"stream": "permuted"}, "settings", "Write scenario domain_il"),
    ({"strategy": "replay", "buffer": 10_000}, "settings", "a larger one is joint training; got 10000"),
    ({"strategy": "derpp", "buffer": 10_000}, "settings", "a larger one is joint training; got 10000"),
    ({"augmentation": AugmentationConfig(mixup=0.2)}, "settings", "got augmentation.mixup 0.2"),
    ({"augmentation": AugmentationConfig(cutmix=1.0)}, "settings", "got augmentation.cutmix 1.0"),
    ({"loss": SIZED}, "arm", "must match the size"),
    ({"loss": "hem", "loss_params": {"mu": -1.0}}, "arm", "mu"),
]


@pytest.mark.parametrize(("settings", "whose", "says"), TAILS)
def test_a_long_tailed_trial_that_cannot_be_is_explained(
    bench: Bench, settings: dict[str, Any], whose: str, says: str
) -> None:
    found = said(bench, bench.tail(**settings))
    assert found is not None
    assert (found.whose, says in found.reason) == (whose, True), found
    assert "\n" not in found.reason


@pytest.mark.parametrize(("settings", "whose", "says"), STREAMS)
def test_a_stream_that_cannot_be_is_explained(
    bench: Bench, settings: dict[str, Any], whose: str, says: str
) -> None:
    found = said(bench, bench.stream(**settings))
    assert found is not None
    assert (found.whose, says in found.reason) == (whose, True), found
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "drw", "loss": "ldam", "loss_params": {"drw": 1.0}},
        {"method": "plain", "loss": PLAIN},
        {"method": "crt", "loss": "arcface", "loss_params": {"triplet": 0.5}},
        {"method": "resampling", "loss": "balanced_softmax"},
        {"method": "plain", "loss": "cross_entropy", "loss_params": {"class_weights": "inverse"}},
        {"method": "plain", "factor": 24.0},
    ],
)
def test_a_long_tailed_trial_that_can_be_is_no_problem(bench: Bench, settings: dict[str, Any]) -> None:
    assert said(bench, bench.tail(**settings)) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": PLAIN},
        {"loss": SIZED, "scenario": "domain_il", "stream": "rotated"},
        {"loss": SIZED, "strategy": "joint"},
        {"strategy": "naive", "buffer": 10_000},
        {"strategy": "replay", "buffer": 3 * 140, "scenario": "domain_il", "stream": "permuted"},
        {"loss": "arcface", "loss_params": {"triplet": 0.5}, "strategy": "replay"},
    ],
)
def test_a_stream_that_can_be_is_no_problem(bench: Bench, settings: dict[str, Any]) -> None:
    assert said(bench, bench.stream(**settings)) is None


def test_a_loss_is_tried_with_what_the_first_task_will_tell_it(bench: Bench) -> None:
    facts = dict(vars(bench.facts(SIX)))
    counts = facts["train_counts"]
    assert len(counts) == 6
    context = presented(bench.stream(), facts).context
    assert context.class_counts == (counts[0], counts[1], 0, 0, 0, 0)
    assert context.active == (0, 1)
    assert context.num_train == counts[0] + counts[1]
    joint = presented(bench.stream("joint"), facts)
    assert (joint.context.class_counts, joint.active) == (counts, None)
    domains = presented(bench.stream("naive", "domain_il"), facts)
    assert len(domains.context.class_counts) == 2
    assert domains.active is None
    tail = presented(bench.tail(factor=8.0), facts)
    assert tail.context.class_counts[0] > 7 * tail.context.class_counts[5] > 0
