"""What a loss carries along: copies, checkpoints, statistics, and its own parameters in the optimiser."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from workloads.contract import TrainingConfig
from workloads.head import HeadSpec
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.models.base import Classifier
from workloads.training.optimizers import build_optimizer

CONTEXT = LossContext(1094, 4, (503, 302, 181, 108))
LEARNED = [case for case in CASES if case.learned]


class Features(torch.nn.Module):
    """A trunk without a parameter."""

    features = 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_pickled_or_copied_loss_is_the_same_loss(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts, progress=0.3)
    expected = loss(batch.output, batch.labels).item()
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert twin(batch.output, batch.labels).item() == expected
        assert torch.equal(twin.eval_logits(batch.output), loss.eval_logits(batch.output))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_copy_shares_nothing_with_its_original(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts).train()
    twin = copy.deepcopy(loss)
    twin.set_progress(0.0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.sub_(0.5)
    untouched = case.build(batch.counts).train()
    assert loss(batch.output, batch.labels).item() == untouched(batch.output, batch.labels).item()
    assert twin.stats() == {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_checkpoint_holds_what_training_changes_and_nothing_else(case: Case) -> None:
    state = case.build(CONTEXT.class_counts).state_dict()
    kept = {"t", "m"} if case.loss == "meln" else set(case.learned)
    if case.loss == "adacos":
        kept |= {"s"}
    assert set(state) == kept


@pytest.mark.parametrize("case", [case for case in CASES if case.learned or case.loss == "adacos"], ids=str)
def test_a_checkpoint_brings_back_the_value(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts).train()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(0.75)
    loss(batch.output, batch.labels)
    expected = loss.eval()(batch.output, batch.labels).item()
    fresh = case.build(batch.counts)
    if case.params.get("mode") != "fixed":
        assert fresh(batch.output, batch.labels).item() != expected
    fresh.load_state_dict(loss.state_dict())
    assert fresh(batch.output, batch.labels).item() == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_tracks_what_the_table_says_in_training_only(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts)
    loss(batch.output, batch.labels)
    assert loss.stats() == {}
    loss.train()(batch.output, batch.labels)
    seen = loss.stats()
    assert set(seen) == case.stats
    assert all(isinstance(value, float) and value == value for value in seen.values())
    assert loss.stats() == {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statistics_are_means_over_the_batches(case: Case) -> None:
    batches = [case.batch(seed=seed) for seed in (1, 2, 3)]
    together, alone = (case.build(batches[0].counts).train() for _ in range(2))
    each = []
    for batch in batches:
        together(batch.output, batch.labels)
        alone(batch.output, batch.labels)
        each.append(alone.stats())
    means = together.stats()
    for key, value in means.items():
        expected = sum(stats[key] for stats in each) / 3
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tracking_keeps_no_graph(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts).train()
    loss(batch.output, batch.labels)
    parts = [part for part in loss.modules() if isinstance(part, Loss)]
    tracked = [value for part in parts for value in part._sums.values()]
    assert len(tracked) >= len(case.stats)
    assert not any(value.requires_grad for value in tracked)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_learned_numbers_are_an_optimiser_group_without_weight_decay(case: Case) -> None:
    loss = case.build(CONTEXT.class_counts)
    config = TrainingConfig(epochs=1, lr=0.4, weight_decay=0.01)
    model = Classifier(Features(), 4, HeadSpec(bias=False))
    groups = build_optimizer(model, loss, config).param_groups
    ours = [p for name, p in loss.named_parameters() if name in case.learned]
    own = [group for group in groups if any(p is q for p in group["params"] for q in ours)]
    assert len(groups) == (2 if case.learned else 1)
    for group in own:
        assert len(group["params"]) == len(ours)
        assert group["weight_decay"] == 0.0
        assert group["lr_scale"] == 0.1


@pytest.mark.parametrize("name", LOSSES)
def test_the_learning_rate_of_learned_numbers_is_a_parameter_of_those_who_have_any(name: str) -> None:
    changeable = "lr_scale" in LOSSES[name].parameters
    assert changeable == any(case.learned for case in LEARNED if case.loss == name)
    if changeable:
        loss = build_loss(name, {"lr_scale": 0.025, "triplet": 1.0}, CONTEXT)
        assert loss.lr_scale == 0.025
