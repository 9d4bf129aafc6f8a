"""The models: shapes, initialisation, stated sizes, a head for every loss, and what a trial saves of one."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workloads.contract import (
    DataConfig,
    DataFacts,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    TrainingConfig,
    TrialConfig,
)
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.models.build import build_model
from workloads.models.heads import CosineHead, GodinHead, Head, LinearHead, Projector
from workloads.run import prepare, run
from workloads.training.checkpoint import read_checkpoint

SMALL = ModelConfig("small_cnn_8x8")
CONTEXT = LossContext(60, 6, (5, 20, 5, 10, 10, 10))
HEADS = {"logits": LinearHead, "features+fc": LinearHead, "cosine": CosineHead, "godin": GodinHead}
DATA = DataConfig("digits", id_classes=(0, 1, 2), near_ood=("held_out",), far_ood=("uniform",))
NOISE = NoiseConfig(sigmas=(0.25,), size=60)
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("cross_entropy", {}),
    "linear without bias": ("modified_softmax", {}),
    "linear at the prior": ("bce", {}),
    "linear read twice": ("t2fnorm", {"tau": 0.3}),
    "cosine": ("arcface", {"s": 8.0}),
    "cosine with a state": ("adacos", {}),
    "cosine with triplets": ("normface", {"triplet": 0.5, "learn_s": True}),
    "godin": ("godin", {}),
    "godin with the other choices": ("godin", {"h": "inner", "g": "exp"}),
}


def counted_macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of one image, counted from the shapes that pass through."""
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear | Head):
            total += module.weight.numel()

    for module in model.modules():
        module.register_forward_hook(count)
    model(images)
    return total


def test_the_small_network_gives_logits_and_the_features_that_its_head_reads() -> None:
    model = build_model(SMALL, (1, 8, 8), 6).eval()
    output = model(torch.randn(5, 1, 8, 8))
    assert output.logits.shape == (5, 6)
    assert output.features.shape == (5, 64)
    assert model.head.bias is not None
    # float32 rounds sums of 64 terms near 1 at about 1e-7.
    again = output.features @ model.head.weight.T + model.head.bias
    assert torch.allclose(again, output.logits, atol=1e-6)


def test_its_width_scales_every_layer() -> None:
    model = build_model(ModelConfig("small_cnn_8x8", {"width": 4}), (3, 8, 8), 2)
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [4, 8, 16]


def test_its_convolutions_start_he_normal_and_its_head_is_not_zero() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig("small_cnn_8x8", {"width": 32}), (1, 8, 8), 6)
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    # 73,728 draws: the standard deviation is known to about 0.3 %.
    assert last.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    bound = 1 / math.sqrt(128)
    assert 0.9 * bound < model.head.weight.abs().max().item() <= bound


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in build_model(SMALL, (1, 8, 8), 6).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("small_cnn"), "one of small_cnn_8x8, .*; got 'small_cnn'"),
        (ModelConfig("small_cnn_8x8", {"depth": 3}), r"has the parameters width; got \['depth'\]"),
        (ModelConfig("small_cnn_8x8", {"width": 0}), "width must be at least 1; got 0"),
        (ModelConfig("small_cnn_8x8", projector=0), r"model\.projector must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_reason(config: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(config, (1, 8, 8), 6)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2x2; got 1x8"):
        build_model(SMALL, (1, 1, 8), 6)


def test_a_projector_stands_between_the_trunk_and_the_head() -> None:
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(SMALL, projector=12), (1, 8, 8), 6).eval()
    assert isinstance(model.projector, Projector)
    images = torch.randn(5, 1, 8, 8)
    output = model(images)
    assert torch.equal(output.features, model.projector(model.trunk(images)))
    assert output.features.shape == (5, 12)
    assert model.head.weight.shape == (6, 12)
    without = build_model(SMALL, (1, 8, 8), 6)
    # Linear 64-48, batch norm 48, Linear 48-12, and a head of 12 instead of 64 features.
    projected = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in without.parameters())
    assert projected == (64 * 48 + 48) + 2 * 48 + (48 * 12 + 12) + 6 * (12 - 64)
    assert without.projector is None


def test_the_undecayed_parameters_of_a_model_are_those_of_its_head() -> None:
    model = build_model(SMALL, (1, 8, 8), 6, HeadSpec("godin", similarity="inner"))
    kept = list(model.undecayed())
    assert [p is q for p, q in zip(kept, [model.head.weight, model.head.bias], strict=True)] == [True, True]
    assert list(build_model(SMALL, (1, 8, 8), 6).undecayed()) == []


@pytest.mark.parametrize("projector", [None, 12])
@pytest.mark.parametrize("name", [name for name, entry in LOSSES.items() if entry.path])
def test_every_loss_gets_the_head_that_it_needs_and_trains_all_of_the_model(
    name: str, projector: int | None
) -> None:
    loss = build_loss(name, {}, CONTEXT)
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(SMALL, projector=projector), (1, 8, 8), 6, loss.head)
    assert type(model.head) is HEADS[loss.needs]
    assert loss.needs == LOSSES[name].facts["head"]
    output = model(torch.randn(12, 1, 8, 8))
    assert output.logits.shape == (12, 6)
    loss(output, torch.arange(12) % 6).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert model.head.weight.grad is not None
    # Every class has two images, so each row of W is pulled.
    assert (model.head.weight.grad.abs().amax(dim=1) > 0).all()
    assert loss.eval_logits(output).shape == (12, 6)


class NeedsGodin(Loss):
    needs = "godin"

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output.logits, targets)


def test_a_loss_that_only_says_that_it_needs_a_godin_head_gets_one() -> None:
    assert type(build_model(SMALL, (1, 8, 8), 6, NeedsGodin().head).head) is GodinHead


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def facts(root: Path) -> DataFacts:
    return prepare(DATA, NOISE, root)


@pytest.mark.parametrize("projector", [None, 8])
@pytest.mark.parametrize("arm", ARMS)
def test_the_saved_logits_are_what_the_saved_features_and_head_give(
    facts: DataFacts, root: Path, tmp_path: Path, arm: str, projector: int | None
) -> None:
    name, params = ARMS[arm]
    config = TrialConfig(
        arm="arm",
        stage="confirm",
        protocol="standard",
        seed=0,
        loss=name,
        loss_params=params,
        data=DATA,
        data_hash=facts.hash,
        model=ModelConfig("small_cnn_8x8", {"width": 4}, projector),
        training=TrainingConfig(epochs=2, batch_size=64, lr=0.03),
        noise=NOISE,
        evaluation=EvaluationConfig(),
    )
    result = run(config, lambda _: None, folder=tmp_path, data_root=root)
    assert [name for name, value in result.metrics.items() if not math.isfinite(value)] == []

    kept = read_checkpoint(tmp_path / "checkpoint.pt", config.key, torch.device("cpu"))
    assert kept is not None
    loss = build_loss(name, params, LossContext(facts.num_train, 3, (1, 1, 1))).eval()
    loss.load_state_dict(kept.engine["loss"])
    model = build_model(config.model, facts.image_shape, 3, loss.head).eval()
    with np.load(tmp_path / "outputs" / "head.npz") as saved:
        model.head.load_state_dict({key: torch.from_numpy(saved[key]) for key in saved})
    for name in ("id_test", "id_validation", "held_out", "uniform"):
        with np.load(tmp_path / "outputs" / f"{name}.npz") as saved:
            logits, features = saved["logits"], torch.from_numpy(saved["features"])
        assert features.shape[1] == (projector or 16)
        with torch.no_grad():
            again = loss.eval_logits(model.head(features)).numpy()
        # The same float32 products in batches of another size.
        assert np.allclose(again, logits, rtol=1e-5, atol=1e-5)
        assert np.ptp(logits, axis=1).min() > 1e-3
