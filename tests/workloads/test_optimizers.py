"""The optimisers of a recipe: which parameters each trains, with which decay and at which rate."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tests.workloads.test_engine import Learnt, LearntGODIN, engine, flat_model
from tests.workloads.test_training import PLAIN, data
from workloads.losses.cross_entropy import CrossEntropy
from workloads.losses.meln import MarginEnhancedLogitNorm
from workloads.training.optimizers import MatrixMuon, build_optimizer


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_a_convolution_as_it_moves_the_matrix_of_its_filters(memory_format: Any) -> None:
    torch.manual_seed(3)
    start, pull = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    weight = nn.Parameter(start.clone(memory_format=memory_format))
    moved = MatrixMuon([{"params": [weight]}], lr=0.1, weight_decay=0.1)
    matrix = nn.Parameter(start.flatten(1).clone())
    expected = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        weight.grad, matrix.grad = pull.clone(memory_format=memory_format), pull.flatten(1).clone()
        moved.step()
        expected.step()  # type: ignore[no-untyped-call]
    # Newton and Schulz's iteration runs in bfloat16, and sums in another order of columns.
    assert torch.allclose(weight.detach().flatten(1), matrix.detach(), atol=2e-3)
    assert not torch.allclose(weight.detach(), start, atol=2e-2)


def test_muon_trains_the_hidden_matrices_and_adamw_the_rest() -> None:
    trained = engine(dataclasses.replace(PLAIN, optimizer="muon"), Learnt())
    muon, adamw = trained.optimizer.members
    assert isinstance(muon, MatrixMuon)
    names = {id(p): name for name, p in trained.model.named_parameters()}
    assert [names[id(p)] for p in muon.weights] == ["trunk.2.weight", "trunk.5.weight"]
    rest = [p for group in adamw.param_groups for p in group["params"]]
    assert len(rest) == len(trained.parameters) - 2
    with pytest.raises(ValueError, match="muon needs a trunk of two or more weight matrices"):
        build_optimizer(flat_model(), CrossEntropy(), dataclasses.replace(PLAIN, optimizer="muon"))


def test_norms_and_biases_are_decayed_unless_the_recipe_says_otherwise() -> None:
    config = dataclasses.replace(PLAIN, decay_norms_and_biases=False)
    model = flat_model()
    groups = build_optimizer(model, CrossEntropy(), config).param_groups
    decayed = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decayed == {id(model.head.weight): PLAIN.weight_decay, id(model.head.bias): 0.0}


def test_what_is_decayed_at_which_rate_is_a_group_of_its_own() -> None:
    loss = LearntGODIN(0.1)
    model = flat_model(head=loss.head)
    optimizer = build_optimizer(model, loss, PLAIN)
    names = {id(p): name for module in (model, loss) for name, p in module.named_parameters()}
    got = {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert got == {
        "head.weight": (0.0, 1.0),
        "head.bias": (0.0, 1.0),
        "head.divisor.0.weight": (1e-2, 1.0),
        "head.divisor.0.bias": (1e-2, 1.0),
        "head.divisor.1.weight": (1e-2, 1.0),
        "head.divisor.1.bias": (1e-2, 1.0),
        "scale": (0.0, 0.1),
    }
    assert len(build_optimizer(flat_model(), CrossEntropy(), PLAIN).param_groups) == 1


def test_parameters_that_are_not_trained_are_not_given_to_the_optimiser() -> None:
    loss = MarginEnhancedLogitNorm(learn_T=False)
    model = flat_model()
    assert sum(len(g["params"]) for g in build_optimizer(model, loss, PLAIN).param_groups) == 2
    model.head.weight.requires_grad_(False)
    (group,) = build_optimizer(model, loss, PLAIN).param_groups
    assert [p is model.head.bias for p in group["params"]] == [True]


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"schedule": "constant"}, [0.1, 0.1, 0.1]),
        ({"schedule": "cosine"}, [0.1, 0.075, 0.025]),
        ({"schedule": "step", "milestones": (0.3, 0.6)}, [0.1, 0.01, 0.001]),
        ({"schedule": "constant", "warmup_epochs": 3}, [0.1 / 3, 0.2 / 3, 0.1]),
    ],
)
def test_a_step_decays_and_scales_each_group_as_it_should(settings: Any, rates: list[float]) -> None:
    config = dataclasses.replace(PLAIN, batch_size=32, momentum=0.0, weight_decay=0.5, **settings)
    trained = engine(config, LearntGODIN(0.2))
    images, labels = data()
    for rate in rates:
        # All 21 images are one batch, so that a step needs no order.
        model, loss = copy.deepcopy(trained.model), copy.deepcopy(trained.loss)
        loss(model(trained.normalise(images)), labels).backward()
        trained.train_epoch()
        for name, before in [*model.named_parameters(), *loss.named_parameters()]:
            decay = 0.5 if "divisor" in name else 0.0
            scale = 0.2 if name == "scale" else 1.0
            assert before.grad is not None
            expected = before.detach() - rate * scale * (before.grad + decay * before.detach())
            after = dict([*trained.model.named_parameters(), *trained.loss.named_parameters()])[name]
            # float32, with the images of the mean in another order
            assert torch.allclose(after.detach(), expected, rtol=1e-5, atol=1e-6), name
