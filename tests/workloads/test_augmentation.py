"""What augmentation does to a batch, against slow references, image by image."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from workloads.contract import AugmentationConfig
from workloads.training.augmentation import Draws, augment, draw, erase, mix
from workloads.training.augmentation.geometry import crop, flip
from workloads.training.augmentation.randaugment import OPERATIONS, randaugment

SHAPES = [(1, 3, 6, 6), (5, 3, 8, 8), (4, 1, 7, 5), (3, 2, 5, 9), (2, 4, 3, 3)]
"""Batches of one, odd sides, other sides than square, other channels than three."""
EVERYTHING = AugmentationConfig(flip=True, crop=3, erasing=0.5, randaugment=2, mixup=0.5, cutmix=0.5)


def pixels(*shape: int, seed: int = 7) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=source, dtype=torch.uint8)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(8))


def padded_and_sliced(image: Tensor, top: int, left: int, pad: int, padding: str) -> Tensor:
    height, width = image.shape[1:]
    mode: Any = "constant" if padding == "zero" else "reflect"
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode=mode)
    return torch.from_numpy(padded[:, top : top + height, left : left + width].copy())


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_is_the_slice_of_the_padded_image_at_every_shift(
    shape: tuple[int, ...], padding: Literal["zero", "reflect"]
) -> None:
    images = pixels(*shape)
    pad = 2
    shifts = list(itertools.product(range(2 * pad + 1), repeat=2))
    for start in range(len(shifts)):
        own = [shifts[(start + number) % len(shifts)] for number in range(len(images))]
        cropped = crop(images, torch.tensor(own), pad, padding)
        for image, result, (top, left) in zip(images, cropped, own, strict=True):
            assert torch.equal(result, padded_and_sliced(image, top, left, pad, padding)), (top, left)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_a_crop_does_not_depend_on_the_layout_in_memory(padding: Literal["zero", "reflect"]) -> None:
    images = pixels(4, 3, 8, 6)
    shifts = torch.tensor([[0, 0], [4, 4], [1, 3], [2, 2]])
    expected = crop(images, shifts, 2, padding)
    wide = torch.zeros(4, 3, 8, 12, dtype=torch.uint8)
    wide[..., ::2] = images
    for other in (images.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        assert torch.equal(crop(other, shifts, 2, padding), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_marked_images_are_mirrored_and_the_others_stay(shape: tuple[int, ...]) -> None:
    images = pixels(*shape)
    for marks in itertools.product([False, True], repeat=len(images)):
        for image, result, marked in zip(images, flip(images, torch.tensor(marks)), marks, strict=True):
            assert torch.equal(result, torch.flip(image, [2]) if marked else image)


def test_images_are_cropped_then_mirrored_then_given_their_operations() -> None:
    config = AugmentationConfig(flip=True, crop=2, padding="reflect", randaugment=1)
    images = pixels(64, 3, 8, 8)
    before = images.clone()
    draws = draw(config, 0, 1, torch.arange(64), (3, 8, 8))
    assert draws.shifts is not None
    assert draws.flips is not None
    assert draws.operations is not None
    result = augment(images, draws, config)
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    for number, image in enumerate(images):
        top, left = draws.shifts[number].tolist()
        image = padded_and_sliced(image, top, left, 2, "reflect")
        image = image.flip(2) if draws.flips[number] else image
        expected = randaugment(image[None], draws.operations[number : number + 1], 9)[0]
        assert torch.equal(result[number], expected)


def test_a_batch_is_augmented_as_its_images_are_one_by_one() -> None:
    images, labels = pixels(12, 3, 9, 7), torch.arange(12) % 4
    draws = draw(EVERYTHING, 1, 2, torch.arange(12), (3, 9, 7))
    whole = augment(images, draws, EVERYTHING)
    erased = erase(whole.float(), draws)
    for number in range(12):
        own = draws[number : number + 1]
        single = augment(images[number : number + 1], own, EVERYTHING)
        assert torch.equal(single[0], whole[number])
        assert torch.equal(erase(single.float(), own)[0], erased[number])
        alone, targets = mix(single.float(), labels[number : number + 1], 4, own, EVERYTHING)
        # An image alone is its own partner: a weighted mean of two equal numbers, rounded once.
        torch.testing.assert_close(alone, single.float(), rtol=1e-6, atol=0)
        assert targets[0].tolist() == pytest.approx([float(c == number % 4) for c in range(4)], abs=1e-6)


def test_nothing_is_done_where_nothing_is_drawn() -> None:
    images, config = pixels(3, 1, 4, 4), AugmentationConfig()
    assert augment(images, Draws(), config) is images
    smooth = images.float()
    assert erase(smooth, Draws()) is smooth
    mixed, targets = mix(smooth, torch.tensor([1, 0, 1]), 2, Draws(), config)
    assert mixed is smooth
    assert targets.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_images_that_are_not_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be torch\.uint8; got torch\.float32"):
        augment(torch.zeros(1, 3, 4, 4), Draws(), AugmentationConfig())


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_equals_that_of_torchvision_on_each_image(
    name: str, channels: int, magnitude: int
) -> None:
    reference = v2.RandAugment(num_ops=1, magnitude=magnitude)
    images = pixels(3, channels, 11, 14)
    magnitudes, signed = reference._AUGMENTATION_SPACE[name]
    steps = magnitudes(31, 11, 14)
    strength = 0.0 if steps is None else float(steps[magnitude])
    place = list(OPERATIONS).index(name)
    assert OPERATIONS[name].signed == signed
    for negated in (0, 1) if signed else (0,):
        results = randaugment(images, torch.full((3, 1), 2 * place + negated), magnitude)
        for image, result in zip(images, results, strict=True):
            expected = reference._apply_image_or_video_transform(
                image, name, -strength if negated else strength, reference.interpolation, reference._fill
            )
            assert result.dtype == torch.uint8
            assert torch.equal(result, expected)


def test_torchvision_is_not_imported_for_a_crop() -> None:
    code = (
        "import sys, torch, workloads.training.augmentation as a;"
        "from workloads.contract import AugmentationConfig as C;"
        "c = C(flip=True, crop=1, mixup=1.0, erasing=1.0); d = a.draw(c, 0, 1, torch.arange(2), (1, 4, 4));"
        "a.augment(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), d, c); sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_operations_are_those_of_torchvision_in_its_order() -> None:
    assert list(OPERATIONS) == list(v2.RandAugment._AUGMENTATION_SPACE)


def test_images_with_different_operations_keep_their_places_and_the_order_of_operations() -> None:
    images = pixels(30, 3, 10, 10)
    codes = draw(AugmentationConfig(randaugment=2), 3, 1, torch.arange(30), (3, 10, 10)).operations
    assert codes is not None
    results = randaugment(images, codes, 9)
    for image, result, (first, second) in zip(images, results, codes, strict=True):
        once = randaugment(image[None], first[None, None], 9)
        assert torch.equal(result, randaugment(once, second[None, None], 9)[0])


@pytest.mark.parametrize("shape", [(40, 3, 16, 16), (40, 1, 9, 6)])
def test_erasing_puts_noise_in_the_box_and_leaves_every_other_pixel(shape: tuple[int, int, int, int]) -> None:
    images = normal(*shape)
    draws = draw(AugmentationConfig(erasing=0.5), 0, 1, torch.arange(40), shape[1:])
    assert draws.erased is not None
    assert draws.noise is not None
    assert draws.noise_starts is not None
    results = erase(images, draws)
    _, channels, height, width = shape
    untouched = 0
    for number, (image, result) in enumerate(zip(images, results, strict=True)):
        top, left, bottom, right = draws.erased[number].tolist()
        start = int(draws.noise_starts[number])
        noise = draws.noise[start : start + image.numel()].reshape(height, width, channels).permute(2, 0, 1)
        expected = image.clone()
        expected[:, top:bottom, left:right] = noise[:, top:bottom, left:right]
        assert torch.equal(result, expected)
        untouched += torch.equal(result, image)
    # 20 expected, standard deviation 3.2.
    assert 8 <= untouched <= 32


def test_erasing_does_not_depend_on_the_layout_in_memory_and_keeps_it() -> None:
    images = normal(6, 3, 8, 8)
    draws = draw(AugmentationConfig(erasing=1.0), 0, 1, torch.arange(6), (3, 8, 8))
    last = erase(images.contiguous(memory_format=torch.channels_last), draws)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(erase(images, draws), last)


def test_cutmix_pastes_the_partner_and_gives_its_label_the_share_of_its_pixels() -> None:
    images, labels = normal(50, 3, 8, 10), torch.arange(50)
    config = AugmentationConfig(cutmix=1.0)
    draws = draw(config, 0, 1, torch.arange(50), (3, 8, 10))
    assert draws.pasted is not None
    results, targets = mix(images, labels, 50, draws, config)
    for number, result in enumerate(results):
        top, left, bottom, right = draws.pasted[number].tolist()
        expected = images[number].clone()
        expected[:, top:bottom, left:right] = images[number - 1][:, top:bottom, left:right]
        assert torch.equal(result, expected)
        taken = float((result != images[number]).float().mean())
        # 80 pixels, in float32.
        assert float(targets[number, number - 1]) == pytest.approx(taken, abs=1e-6)
        assert float(targets[number, number]) == pytest.approx(1 - taken, abs=1e-6)


def test_mixup_weighs_image_and_label_of_the_partner_alike() -> None:
    images, labels = normal(50, 3, 4, 4), torch.arange(50)
    config = AugmentationConfig(mixup=0.4)
    draws = draw(config, 0, 1, torch.arange(50), (3, 4, 4))
    assert draws.blends is not None
    results, targets = mix(images, labels, 50, draws, config)
    for number, weight in enumerate(draws.blends.double()):
        expected = (1 - weight) * images[number].double() + weight * images[number - 1].double()
        # float32 against float64: a few roundings of numbers up to about 4.
        torch.testing.assert_close(results[number].double(), expected, rtol=0, atol=2e-6)
        assert float(targets[number, number - 1]) == pytest.approx(float(weight), abs=1e-6)
    assert len(set(draws.blends.tolist())) == 50, "lambda is one for each image"


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("repeats", [1, 2, 3])
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_targets_sum_to_one_and_come_from_the_image_and_its_partner(
    batch: int, repeats: int, mixup: float, cutmix: float
) -> None:
    config = AugmentationConfig(mixup=mixup, cutmix=cutmix, repeats=repeats)
    draws = draw(config, 0, 1, torch.arange(batch), (1, 6, 6))
    labels = torch.arange(batch)
    _, targets = mix(normal(batch, 1, 6, 6), labels, batch, draws, config)
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(batch), rtol=0, atol=1e-6)
    for number, target in enumerate(targets):
        assert set(target.nonzero().flatten().tolist()) <= {number, (number - repeats) % batch}


@pytest.mark.parametrize(("batch", "repeats"), [(8, 1), (20, 3), (2, 5), (1, 4)])
def test_the_partner_stands_as_many_places_before_as_there_are_copies(batch: int, repeats: int) -> None:
    config = AugmentationConfig(mixup=1.0, repeats=repeats)
    draws = draw(config, 0, 1, torch.arange(batch), (1, 1, batch))
    assert draws.blends is not None
    own = torch.eye(batch)
    mixed, targets = mix(own[:, None, None], torch.arange(batch), batch, draws, config)
    expected = torch.lerp(own, own.roll(repeats, 0), draws.blends[:, None])
    assert torch.equal(mixed[:, 0, 0], expected)
    assert torch.equal(targets, expected)


def test_an_image_is_never_mixed_with_a_copy_of_itself() -> None:
    config = AugmentationConfig(mixup=1.0, repeats=3)
    labels = torch.arange(7).repeat_interleave(3)[1:]
    draws = draw(config, 0, 1, torch.arange(20), (1, 2, 2))
    _, targets = mix(normal(20, 1, 2, 2), labels, 7, draws, config)
    assert bool((targets.count_nonzero(1) == 2).all())


def test_mixing_keeps_half_precision_and_channels_last() -> None:
    config = AugmentationConfig(mixup=1.0, cutmix=1.0)
    images = normal(9, 3, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    draws = draw(config, 0, 1, torch.arange(9), (3, 8, 8))
    mixed, _ = mix(images, torch.arange(9), 9, draws, config)
    assert mixed.dtype == torch.bfloat16
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_crops_mirrors_and_erases_as_the_cpu_does() -> None:
    config = AugmentationConfig(flip=True, crop=4, padding="reflect", erasing=0.5)
    images = pixels(64, 3, 32, 32)
    draws = draw(config, 0, 1, torch.arange(64), (3, 32, 32))
    there = draws.to(torch.device("cuda"))
    here = augment(images, draws, config)
    result = augment(images.cuda(), there, config)
    assert torch.equal(here, result.cpu())
    assert torch.equal(erase(here.float(), draws), erase(result.float(), there).cpu())
