"""Architectures one by one: structures checked by hand, and what each refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import DenseNet, resnet18
from torchvision.models import VisionTransformer as TorchvisionTransformer

from workloads.contract import ModelConfig
from workloads.models.build import build_model
from workloads.models.densenet import DenseNetBC
from workloads.models.dropout import Dropout
from workloads.models.mlp import MLP
from workloads.models.resnet import ResNet18
from workloads.models.resnet32 import PaddedBlock, ResNet32
from workloads.models.small_cnn import SmallCNN
from workloads.models.vit import VisionTransformer
from workloads.models.wrn import WideBlock, WideResNet

COLOUR = (3, 32, 32)


def silence(layer: Any) -> None:
    """Weights and biases to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def test_the_small_network_of_the_quickstart_draws_and_names_what_it_always_did() -> None:
    torch.manual_seed(3)
    model = SmallCNN((1, 8, 8), width=2)
    torch.manual_seed(3)
    for key, shape in {"0": (2, 1, 3, 3), "3": (4, 2, 3, 3), "7": (8, 4, 3, 3)}.items():
        nn.Conv2d(shape[1], shape[0], 3, bias=False)  # its own draws come first
        expected = nn.init.kaiming_normal_(torch.empty(shape), mode="fan_out", nonlinearity="relu")
        assert torch.equal(model.state_dict()[f"{key}.weight"], expected)
    norms = [f"{n}.{k}" for n in (1, 4, 8) for k in ("weight", "bias")]
    assert {name for name, _ in model.named_parameters()} == {"0.weight", "3.weight", "7.weight", *norms}


def test_a_wide_network_of_depth_d_has_d_convolutions_with_those_of_its_shortcuts() -> None:
    trunk = WideResNet(COLOUR, depth=22, width=2)
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size[0] for m in convolutions].count(3) == 19
    assert [m.kernel_size[0] for m in convolutions].count(1) == 3
    blocks = [m for m in trunk.modules() if isinstance(m, WideBlock)]
    assert [next(m.stride[0] for m in b.residual if isinstance(m, nn.Conv2d)) for b in blocks] == [
        *(1, 1, 1),
        *(2, 1, 1),
        *(2, 1, 1),
    ]
    assert [type(m) for m in blocks[0].residual] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, Dropout, nn.Conv2d]
    assert {m.p for m in trunk.modules() if isinstance(m, Dropout)} == {0.3}


def test_a_wide_block_adds_what_came_in_or_the_first_activation() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    same, wider = WideBlock(4, 4, 1, 0.0).eval(), WideBlock(4, 8, 2, 0.0).eval()
    for block in (same, wider):
        silence(block.residual[-1])
    assert torch.equal(same(x), x)
    assert wider.shortcut is not None
    # Batch norm at its start divides by sqrt(1 + 1e-5) in evaluation.
    assert torch.allclose(wider(x), wider.shortcut(x.relu() / math.sqrt(1 + 1e-5)), atol=1e-6)


def test_the_weightless_shortcut_takes_every_other_pixel_between_channels_of_zeros() -> None:
    block = PaddedBlock(2, 4, 2).eval()
    silence(block.residual[-1])
    x = torch.arange(1.0, 33.0).view(1, 2, 4, 4)
    out = block(x)
    assert out[0, 0].abs().max() == out[0, 3].abs().max() == 0
    assert out[0, 1].tolist() == [[1, 3], [9, 11]]
    assert out[0, 2].tolist() == [[17, 19], [25, 27]]
    convolutions = [m for m in ResNet32(COLOUR).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == 32
    assert [m.stride[0] for m in convolutions if m.stride[0] != 1] == [2, 2]


def test_the_dense_network_appends_growth_channels_a_layer_and_halves_at_transitions() -> None:
    trunk = DenseNetBC(COLOUR)
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == 100
    outer = [(m.in_channels, m.out_channels) for m in trunk if isinstance(m, nn.Conv2d)]
    assert outer == [(3, 24), (216, 108), (300, 150)]
    inner = [(m.kernel_size[0], m.out_channels) for m in convolutions if m not in list(trunk)]
    assert inner == [(1, 48), (3, 12)] * 48


def resnet_map(stem: str, output_stride: int, side: int) -> tuple[int, int]:
    """Side of the last map, and parameters."""
    with torch.device("meta"):
        trunk = ResNet18((3, side, side), stem, output_stride)
        out = nn.Sequential(*list(trunk)[:-1])(torch.zeros(2, 3, side, side))
    assert out.shape[:2] == (2, 512)
    return out.shape[3], sum(p.numel() for p in trunk.parameters())


@pytest.mark.parametrize("stem", ["cifar", "deep", "imagenet"])
def test_a_smaller_output_stride_enlarges_the_map_and_keeps_the_parameters(stem: str) -> None:
    strides = (4, 8) if stem == "cifar" else (4, 8, 16, 32)
    found = {stride: resnet_map(stem, stride, 64) for stride in strides}
    assert {stride: side for stride, (side, _) in found.items()} == {
        stride: 64 // stride for stride in strides
    }
    assert len({count for _, count in found.values()}) == 1


def test_a_dilated_stage_sees_what_the_strided_one_sees() -> None:
    """With the same weights, every other pixel of the dilated map is the strided map."""
    torch.manual_seed(0)
    strided, dilated = ResNet18((3, 32, 32), "cifar", 8).eval(), ResNet18((3, 32, 32), "cifar", 4).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        small = nn.Sequential(*list(strided)[:-1])(images)
        large = nn.Sequential(*list(dilated)[:-1])(images)
    # float32 sums of 4608 terms in another order.
    assert torch.allclose(large[:, :, ::2, ::2], small, rtol=1e-3, atol=1e-4 * small.max().item())


def torchvisions_resnet() -> tuple[nn.Module, nn.Module]:
    theirs = resnet18()
    theirs.fc = nn.Identity()
    return ResNet18((3, 64, 64), "imagenet", 32), theirs


def torchvisions_densenet() -> tuple[nn.Module, nn.Module]:
    theirs = DenseNet(growth_rate=12, block_config=(3, 3, 3), num_init_features=24)
    # Its stem is ImageNet's.
    theirs.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    del theirs.features.norm0, theirs.features.relu0, theirs.features.pool0
    theirs.classifier = nn.Identity()
    return DenseNetBC((3, 64, 64), depth=22), theirs


def torchvisions_transformer() -> tuple[nn.Module, nn.Module]:
    theirs = TorchvisionTransformer(64, 8, 2, 3, 24, 96)
    theirs.heads = nn.Identity()
    return VisionTransformer((3, 64, 64), patch=8, embed=24, depth=2, heads=3), theirs


@pytest.mark.parametrize("pair", [torchvisions_resnet, torchvisions_densenet, torchvisions_transformer])
def test_torchvisions_network_with_the_same_weights_gives_the_same_features(
    pair: Callable[[], tuple[nn.Module, nn.Module]],
) -> None:
    torch.manual_seed(0)
    ours, theirs = (network.double() for network in pair())
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            # Also the norms and what they have seen differ from their start, and from layer to layer.
            tensor.add_(0.1 * torch.rand_like(tensor))
    state = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(state))
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for network in (ours, theirs):
        network.eval()
    # Sums in another order, in float64.
    assert torch.allclose(ours(images), theirs(images), rtol=1e-9, atol=1e-12)


def test_the_stems_have_the_convolutions_that_their_sources_have() -> None:
    found = {}
    for stem in ("cifar", "deep", "imagenet"):
        layers = list(ResNet18((3, 64, 64), stem))
        found[stem] = [
            (m.kernel_size[0], m.out_channels, m.stride[0]) if isinstance(m, nn.Conv2d) else "pool"
            for m in layers
            if isinstance(m, nn.Conv2d | nn.MaxPool2d)
        ]
    assert found == {
        "cifar": [(3, 64, 1)],
        "deep": [(3, 32, 2), (3, 32, 1), (3, 64, 1), "pool"],
        "imagenet": [(7, 64, 2), "pool"],
    }


def test_the_transformer_returns_its_class_token_after_the_last_norm() -> None:
    torch.manual_seed(0)
    trunk = VisionTransformer((3, 8, 12), patch=4, embed=24, depth=2, heads=3).eval()
    images = torch.randn(2, 3, 8, 12)
    features = trunk(images)
    # The last norm, at its start, leaves mean 0 and variance 1 (its epsilon is 1e-6).
    assert torch.allclose(features.mean(1), torch.zeros(2), atol=1e-5)
    assert torch.allclose(features.var(1, unbiased=False), torch.ones(2), atol=1e-4)
    assert trunk.encoder.pos_embedding.shape == (1, 1 + 2 * 3, 24)
    # Without positions it is blind to the order of its patches; with them it is not.
    swapped = torch.cat([images[..., 4:8], images[..., :4], images[..., 8:]], dim=3)
    assert not torch.allclose(trunk(swapped), features, atol=1e-4)
    nn.init.zeros_(trunk.encoder.pos_embedding)
    assert torch.allclose(trunk(swapped), trunk(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "image_shape", "message"),
    [
        ("wrn_40_2", {"depth": 41}, COLOUR, r"wrn: depth must be 6n \+ 4 .*; got 41"),
        ("wrn_40_2", {"depth": 4}, COLOUR, "wrn: depth must be at least 10; got 4"),
        ("wrn_40_2", {"depth": 40.0}, COLOUR, r"wrn: depth must be a whole number; got 40\.0"),
        ("wrn_40_2", {"width": 0}, COLOUR, "wrn: width must be at least 1; got 0"),
        ("wrn_40_2", {"dropout": 1.5}, COLOUR, r"wrn: dropout must be in 0\.\.1; got 1\.5"),
        ("wrn_40_2", {"dropout": math.nan}, COLOUR, r"wrn: dropout must be in 0\.\.1; got nan"),
        ("wrn_40_2", {"dropout": True}, COLOUR, r"wrn: dropout must be in 0\.\.1; got True"),
        ("wrn_40_2", {}, (1, 3, 8), "wrn: images must be at least 4x4; got 3x8"),
        ("wrn_40_2", {}, (0, 8, 8), "wrn: images must have at least 1 channel; got 0"),
        (
            "resnet18",
            {"stem": "wide"},
            COLOUR,
            "resnet18: stem must be cifar or deep or imagenet; got 'wide'",
        ),
        (
            "resnet34",
            {"output_stride": 2},
            COLOUR,
            "resnet34: output_stride must be 4 or 8 with the cifar stem",
        ),
        ("resnet18", {"output_stride": 32}, COLOUR, "4 or 8 with the cifar stem; got 32"),
        (
            "resnet18",
            {"stem": "deep", "output_stride": 5},
            COLOUR,
            "4 or 8 or 16 or 32 with the deep stem; got 5",
        ),
        (
            "resnet18",
            {"stem": "imagenet", "output_stride": 32},
            (1, 8, 8),
            "resnet18: images must be at least 32x32; got 8x8",
        ),
        ("resnet32", {}, (1, 2, 2), "resnet32: images must be at least 4x4; got 2x2"),
        ("densenet_bc_100_12", {"depth": 99}, COLOUR, r"densenet_bc: depth must be 6n \+ 4 .*; got 99"),
        ("densenet_bc_100_12", {"growth": 0}, COLOUR, "densenet_bc: growth must be at least 1; got 0"),
        (
            "densenet_bc_100_12",
            {"dropout": -0.1},
            COLOUR,
            r"densenet_bc: dropout must be in 0\.\.1; got -0\.1",
        ),
        ("densenet_bc_100_12", {}, (3, 32, 3), "densenet_bc: images must be at least 4x4; got 32x3"),
        ("vit_tiny", {"patch": 5}, COLOUR, "vit_tiny: patch must divide the image's 32x32; got 5"),
        ("vit_tiny", {"patch": 4}, (3, 32, 30), "vit_tiny: patch must divide the image's 32x30; got 4"),
        ("vit_tiny", {"patch": 0}, COLOUR, "vit_tiny: patch must be at least 1; got 0"),
        ("vit_tiny", {"heads": 5}, COLOUR, "vit_tiny: heads must divide embed, 192; got 5"),
        ("vit_tiny", {"depth": 0}, COLOUR, "vit_tiny: depth must be at least 1; got 0"),
        ("vit_tiny", {"dropout": 2}, COLOUR, r"vit_tiny: dropout must be in 0\.\.1; got 2"),
        ("mlp", {"hidden": 0}, COLOUR, "mlp: hidden must be at least 1; got 0"),
        ("mlp", {"depth": True}, COLOUR, "mlp: depth must be a whole number; got True"),
        ("mlp", {"dropout": "0.1"}, COLOUR, r"mlp: dropout must be in 0\.\.1; got '0\.1'"),
        ("small_cnn_28x28", {}, (1, 7, 28), "small_cnn_28x28: images must be at least 8x8; got 7x28"),
        ("small_cnn_28x28", {"width": 0}, (1, 28, 28), "small_cnn_28x28: width must be at least 1; got 0"),
        ("small_cnn_32x32", {}, (3, 4, 4), "small_cnn_32x32: images must be at least 8x8; got 4x4"),
        ("small_cnn_32x32", {"width": -1}, COLOUR, "small_cnn_32x32: width must be at least 1; got -1"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_network_is_built(
    name: str, params: dict[str, Any], image_shape: tuple[int, int, int], message: str
) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_model(ModelConfig(name, params), image_shape, 10)


def test_the_perceptron_has_the_layers_that_its_parameters_say() -> None:
    trunk = MLP((1, 4, 4), hidden=8, depth=3, dropout=0.2)
    assert [(m.in_features, m.out_features) for m in trunk if isinstance(m, nn.Linear)] == [
        (16, 8),
        (8, 8),
        (8, 8),
    ]
    assert [m.p for m in trunk if isinstance(m, Dropout)] == [0.2, 0.2, 0.2]


def test_the_first_weights_of_perceptron_and_transformer_have_the_variance_that_their_docstrings_state() -> (
    None
):
    torch.manual_seed(0)
    hidden = next(m for m in MLP((1, 8, 8), hidden=512) if isinstance(m, nn.Linear))
    patches = VisionTransformer((3, 8, 8), patch=4, depth=1).patches
    # 32,768 and 9,216 draws: a variance is known to 0.8 and 1.5 %.
    assert hidden.weight.var().item() == pytest.approx(2 / 64, rel=0.05)
    assert patches.weight.var().item() == pytest.approx(1 / 48, rel=0.08)
    for bias in (hidden.bias, patches.bias):
        assert bias is not None
        assert (bias == 0).all()
