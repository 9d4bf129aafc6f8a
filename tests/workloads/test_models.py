"""The models: shapes, initialisation, and the sizes that the catalogue states."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workloads.contract import ModelConfig
from workloads.models.build import build_model
from workloads.models.catalogue import MODELS

SMALL = ModelConfig("small_cnn_8x8")


def counted_macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of one image, counted from the shapes that pass through."""
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    for module in model.modules():
        module.register_forward_hook(count)
    model(images)
    return total


def test_the_small_network_gives_logits_and_the_features_that_its_head_reads() -> None:
    model = build_model(SMALL, (1, 8, 8), 6).eval()
    logits, features = model(torch.randn(5, 1, 8, 8))
    assert logits.shape == (5, 6)
    assert features.shape == (5, 64)
    assert torch.allclose(features @ model.head.weight.T + model.head.bias, logits, atol=1e-6)


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


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.path])
def test_the_catalogue_states_the_true_size_of_a_model(name: str) -> None:
    facts = MODELS[name].facts
    channels, height, width = (int(n) for n in str(facts["image_shape"]).split("x"))
    model = build_model(ModelConfig(name), (channels, height, width), int(facts["num_classes"]))
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]
    assert counted_macs(model.eval(), torch.zeros(1, channels, height, width)) == facts["macs"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("wrn_40_2"), "cannot be run by this version"),
        (ModelConfig("small_cnn"), "one of small_cnn_8x8, wrn_40_2; got 'small_cnn'"),
        (ModelConfig("small_cnn_8x8", {"depth": 3}), r"has the parameters width; got \['depth'\]"),
        (ModelConfig("small_cnn_8x8", {"width": 0}), "width must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_reason(config: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(config, (1, 8, 8), 6)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2x2; got 1x8"):
        build_model(SMALL, (1, 1, 8), 6)
