"""What holds for every architecture: published sizes, stated facts, shapes, gradients, a step of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workloads.contract import ModelConfig
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.models.catalogue import MODELS
from workloads.models.dropout import Dropout

COLOUR = (3, 32, 32)
IMAGENET = (3, 224, 224)
FEATURES = {
    "small_cnn_8x8": 64,
    "small_cnn_28x28": 64,
    "small_cnn_32x32": 128,
    "mlp": 256,
    "resnet18": 512,
    "resnet34": 512,
    "resnet32": 64,
    "wrn_40_2": 128,
    "wrn_16_2": 128,
    "wrn_22_10": 640,
    "wrn_28_10": 640,
    "wrn_40_4": 256,
    "densenet_bc_100_12": 342,
    "vit_tiny": 192,
}
LIGHT: dict[str, dict[str, Any]] = {
    "small_cnn_8x8": {"width": 4},
    "small_cnn_28x28": {"width": 4},
    "small_cnn_32x32": {"width": 4},
    "mlp": {"hidden": 16, "dropout": 0.5},
    "resnet18": {},
    "resnet32": {},
    "wrn_40_2": {"depth": 10},
    "densenet_bc_100_12": {"depth": 16, "dropout": 0.5},
    "vit_tiny": {"patch": 4, "depth": 2, "embed": 24, "dropout": 0.5},
}
"""One of every class, small, with dropout where there is any."""


def light(name: str, image_shape: tuple[int, int, int], seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return build_model(ModelConfig(name, LIGHT[name]), image_shape, 5)


def size(name: str, image_shape: tuple[int, int, int], classes: int, **params: Any) -> int:
    """Trainable parameters with a linear head."""
    with torch.device("meta"):
        model = build_model(ModelConfig(name, params), image_shape, classes)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def shape_of(name: str) -> tuple[int, int, int]:
    """The images for which an entry states its facts."""
    channels, height, width = (int(n) for n in str(MODELS[name].facts["image_shape"]).split("x"))
    return channels, height, width


@pytest.mark.parametrize(
    ("name", "image_shape", "classes", "params", "published"),
    [
        # The code of LogitNorm's authors; Zagoruyko and Komodakis print 2.2M and 36.5M.
        ("wrn_40_2", COLOUR, 10, {}, 2_243_546),
        ("wrn_28_10", COLOUR, 10, {}, 36_479_194),
        # RepDistiller's table.
        ("wrn_16_2", COLOUR, 100, {}, 703_284),
        # kuangliu/pytorch-cifar.
        ("resnet18", COLOUR, 10, {}, 11_173_962),
        ("resnet34", COLOUR, 10, {}, 21_282_122),
        # torchvision's tables.
        ("resnet18", IMAGENET, 1000, {"stem": "imagenet", "output_stride": 32}, 11_689_512),
        ("resnet34", IMAGENET, 1000, {"stem": "imagenet", "output_stride": 32}, 21_797_672),
        # He et al. print 0.46M; akamaster/pytorch_resnet_cifar10.
        ("resnet32", COLOUR, 10, {}, 464_154),
        # Huang et al. print 0.8M; bamos/densenet.pytorch.
        ("densenet_bc_100_12", COLOUR, 10, {}, 769_162),
        # timm's vit_tiny_patch16_224, 5.72M.
        ("vit_tiny", IMAGENET, 1000, {"patch": 16}, 5_717_416),
    ],
)
def test_a_network_has_the_published_number_of_parameters(
    name: str, image_shape: tuple[int, int, int], classes: int, params: dict[str, Any], published: int
) -> None:
    assert size(name, image_shape, classes, **params) == published


@pytest.mark.parametrize(
    ("name", "depth", "k", "millions"),
    [
        ("wrn_40_2", 40, 2, 2.2),
        ("wrn_16_2", 16, 2, 0.7),
        ("wrn_22_10", 22, 10, 26.8),
        ("wrn_28_10", 28, 10, 36.5),
        ("wrn_40_4", 40, 4, 8.9),
    ],
)
def test_a_wide_network_has_the_size_that_the_paper_prints_and_a_hand_computation_gives(
    name: str, depth: int, k: int, millions: float
) -> None:
    by_hand, channels = 27 * 16, 16
    for width in (16 * k, 32 * k, 64 * k):
        for _ in range((depth - 4) // 6):
            by_hand += 2 * channels + 9 * channels * width + 2 * width + 9 * width * width
            by_hand += channels * width if channels != width else 0
            channels = width
    by_hand += 2 * channels + 10 * channels + 10
    assert size(name, COLOUR, 10) == by_hand
    assert by_hand / 1e6 == pytest.approx(millions, abs=0.05)  # printed with one decimal


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_states_its_true_size_and_has_the_published_width_of_features(name: str) -> None:
    facts = MODELS[name].facts
    classes = int(facts["num_classes"])
    assert size(name, shape_of(name), classes) == facts["parameters"]
    with torch.device("meta"):
        model = build_model(ModelConfig(name), shape_of(name), classes)
        images = torch.zeros(1, *shape_of(name))
        by_hooks = multiplications(model.trunk, images)
        with FlopCounterMode(display=False) as counter:
            features = model.trunk(images)
    assert features.shape[1] == model.trunk.features == FEATURES[name]
    head = features.shape[1] * classes
    assert by_hooks + head == facts["macs"]
    # torch's own counter, which sees operators and no modules, counts two operations a multiplication.
    assert counter.get_total_flops() // 2 == by_hooks


def multiplications(trunk: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of one image, counted from the shapes that pass through the layers."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.MultiheadAttention):
            tokens, width = inputs[0].shape[1:]
            # Queries, keys, values and what leaves; then the scores and the weighted sum of values.
            total += 4 * tokens * width**2 + 2 * tokens**2 * width
        elif isinstance(module, nn.Linear):
            total += output[0].numel() * module.in_features

    handles = [module.register_forward_hook(count) for module in trunk.modules()]
    trunk(images)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("image_shape", [(1, 16, 16), (3, 16, 16), (3, 32, 32), (1, 28, 28), (3, 24, 32)])
def test_every_class_of_network_takes_grey_and_colour_images_of_many_sizes(
    name: str, image_shape: tuple[int, int, int]
) -> None:
    with torch.device("meta"):
        model = light(name, image_shape)
        features = model.trunk(torch.zeros(2, *image_shape))
    assert features.shape == (2, model.trunk.features)
    assert model.head.weight.shape == (5, model.trunk.features)


def test_the_small_versions_of_the_networks_miss_no_class() -> None:
    def modules(names: Iterable[str]) -> set[str]:
        return {str(MODELS[name].path).partition(":")[0] for name in names}

    assert modules(LIGHT) == modules(MODELS)


@pytest.mark.parametrize("name", LIGHT)
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    model = light(name, (3, 16, 16))
    output = model(torch.randn(8, 3, 16, 16))
    nn.functional.cross_entropy(output.logits, torch.arange(8) % 5).backward()  # type: ignore[no-untyped-call]
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", LIGHT)
def test_evaluation_differs_from_training_by_batch_norm_and_dropout_alone(name: str) -> None:
    model = light(name, (3, 16, 16))
    images = torch.randn(8, 3, 16, 16)
    switched = (nn.BatchNorm2d, Dropout, nn.Dropout)
    model.train()
    for module in model.modules():
        if isinstance(module, switched):
            module.eval()
    held = model(images).logits
    model.eval()
    # nn.MultiheadAttention has a faster path in evaluation; it rounds otherwise (float32, values near 1).
    assert torch.allclose(model(images).logits, held, atol=1e-5)
    assert torch.equal(model(images).logits, model(images).logits)
    if any(isinstance(module, switched) for module in model.modules()):
        model.train()
        assert not torch.allclose(model(images).logits, held, atol=1e-3)


@pytest.mark.parametrize("name", LIGHT)
def test_channels_last_memory_gives_the_same_results(name: str) -> None:
    model = light(name, (3, 16, 16)).double().eval()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    plain = model(images)
    last = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    # Sums in another order, in float64.
    assert torch.allclose(last.features, plain.features, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LIGHT)
def test_the_global_generator_alone_decides_the_initial_weights(name: str) -> None:
    one, again, other = (light(name, (3, 16, 16), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["wrn_40_2", "resnet18", "densenet_bc_100_12", "resnet32"])
def test_convolutions_start_he_normal_and_batch_norms_as_the_identity(name: str) -> None:
    model = light(name, COLOUR)
    fan_of = {"resnet32": 1}.get(name, 0)  # LDAM's code counts what enters, the others what leaves
    checked = 0
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        elif isinstance(module, nn.Conv2d):
            assert module.bias is None
            fan = module.weight.shape[fan_of] * module.weight[0, 0].numel()
            scaled = module.weight.detach() * math.sqrt(fan / 2)
            count = scaled.numel()
            # Of N normal draws the mean is known to 1/sqrt(N), the variance to sqrt(2/N).
            assert abs(scaled.mean().item()) < 5 / math.sqrt(count)
            assert abs(scaled.square().mean().item() - 1) < 5 * math.sqrt(2 / count)
            checked += 1
    assert checked > 5


@pytest.mark.parametrize("name", LIGHT)
def test_the_smallest_images_that_are_allowed_can_be_trained_on(name: str) -> None:
    smallest = {
        "mlp": 1,
        "vit_tiny": 4,
        "small_cnn_8x8": 2,
        "resnet32": 4,
        "wrn_40_2": 4,
        "densenet_bc_100_12": 4,
    }
    side = smallest.get(name, 8)
    model = light(name, (1, side, side))
    assert model(torch.randn(4, 1, side, side)).logits.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_takes_a_step_of_training(name: str) -> None:
    torch.manual_seed(0)
    # 8x8 images: the arithmetic of wrn_28_10 on four of 32x32 takes seconds.
    channels = shape_of(name)[0]
    model = build_model(ModelConfig(name), (channels, 8, 8), 10).to(memory_format=torch.channels_last)
    images = torch.randn(4, channels, 8, 8).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(4)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(model(images).logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert loss.isfinite()
    moved = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    # A bias in front of a norm, and a weight whose unit is never active, may stay.
    assert sum(moved) > 0.9 * len(moved)
