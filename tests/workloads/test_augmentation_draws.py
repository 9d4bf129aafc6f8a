"""What augmentation draws: a generator without state, and the distributions of the decisions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from workloads.contract import AugmentationConfig
from workloads.training.augmentation import Draws, check, draw, repeated
from workloads.training.augmentation.boxes import area
from workloads.training.augmentation.philox import Words, below, chance, philox, uniform, words
from workloads.training.augmentation.randaugment import OPERATIONS

SHAPE = (3, 32, 32)
ALL = AugmentationConfig(flip=True, crop=4, erasing=0.5, randaugment=3, mixup=0.2, cutmix=1.0)
P_VALUE = 1e-3
"""Seeds are fixed, so a test always gives the same answer; a wrong distribution gives far less than this."""


def one(*values: int) -> Words:
    a, b, c, d = (torch.tensor([value]) for value in values)
    return a, b, c, d


def fields(draws: Draws) -> dict[str, Tensor]:
    return {k: v for k, v in vars(draws).items() if v is not None}


def assert_uniform(values: Tensor, bins: int) -> None:
    counts = values.flatten().bincount(minlength=bins)
    assert len(counts) == bins
    assert stats.chisquare(counts.numpy()).pvalue > P_VALUE


def assert_uncorrelated(a: Tensor, b: Tensor) -> None:
    correlation = float(torch.corrcoef(torch.stack((a, b)))[0, 1])
    assert abs(correlation) < 4 / math.sqrt(len(a)), "more than 4 standard errors from 0"


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_generator_gives_the_known_answers_of_its_authors(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    """From the file kat_vectors of Random123."""
    assert tuple(int(word) for word in philox(one(*counter), key)) == expected


def test_a_word_belongs_to_the_whole_key_the_whole_position_and_the_block() -> None:
    key, position, block = 0x0123456789ABCDEF, 0x0000000200000003, 7
    expected = philox(one(3, 2, 7, 0), (0x89ABCDEF, 0x01234567))
    assert torch.equal(torch.stack(words(key, torch.tensor([position]), block)), torch.stack(expected))


def test_uniform_numbers_never_reach_the_ends() -> None:
    lowest, highest = uniform(torch.tensor([0, 2**32 - 1])).tolist()
    assert (lowest, highest) == (2.0**-33, 1 - 2.0**-33)


def test_integers_and_chances_hold_at_the_ends_of_the_words() -> None:
    ends = torch.tensor([0, 2**32 - 1])
    assert below(ends, 9).tolist() == [0, 8]
    assert chance(ends, 0.0).tolist() == [False, False]
    assert chance(ends, 1.0).tolist() == [True, True]
    assert chance(torch.tensor([2**31 - 1, 2**31]), 0.5).tolist() == [True, False]


def test_each_of_the_four_words_is_uniform_and_uncorrelated_with_its_neighbours() -> None:
    four = words(2024, torch.arange(100_000), 0)
    for number, word in enumerate(four):
        assert_uniform(word >> 24, 256)
        assert_uniform(word & 255, 256)
        u = uniform(word)
        for distance in (1, 2, 128):
            assert_uncorrelated(u[:-distance], u[distance:])
        for other in four[number + 1 :]:
            assert_uncorrelated(u, uniform(other))
        assert_uncorrelated(u, uniform(words(2025, torch.arange(100_000), 0)[number]))
        assert_uncorrelated(u, uniform(words(2024, torch.arange(100_000), 1)[number]))


def test_draws_depend_neither_on_the_batch_nor_on_the_order_of_drawing() -> None:
    whole = draw(ALL, 3, 5, torch.arange(50), SHAPE)
    shuffle = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    shuffled = fields(draw(ALL, 3, 5, shuffle, SHAPE))
    late = fields(draw(ALL, 3, 5, torch.arange(30, 37), SHAPE))
    assert set(fields(whole)) == {field.name for field in dataclasses.fields(Draws)}
    for name, tensor in fields(whole[30:37]).items():
        assert torch.equal(tensor, late[name]), name
    for name, tensor in fields(whole).items():
        assert torch.equal(tensor if name == "noise" else tensor[shuffle], shuffled[name]), name


def test_draws_neither_read_nor_move_the_global_generator() -> None:
    torch.manual_seed(1)
    first = fields(draw(ALL, 3, 5, torch.arange(20), SHAPE))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = fields(draw(ALL, 3, 5, torch.arange(20), SHAPE))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(("seed", "epoch"), [(4, 5), (3, 6)])
def test_another_seed_or_epoch_draws_everything_anew(seed: int, epoch: int) -> None:
    here = fields(draw(ALL, 3, 5, torch.arange(64), SHAPE))
    there = fields(draw(ALL, seed, epoch, torch.arange(64), SHAPE))
    assert not [name for name, tensor in here.items() if torch.equal(tensor, there[name])]


@pytest.mark.parametrize(
    "alone",
    [{"flip": True}, {"crop": 4}, {"erasing": 0.5}, {"randaugment": 2}],
    ids=lambda alone: "".join(alone),
)
def test_switching_one_thing_on_leaves_the_others_as_they_were(alone: dict[str, Any]) -> None:
    together = fields(draw(ALL, 3, 5, torch.arange(64), SHAPE))
    drawn = fields(draw(AugmentationConfig(**alone), 3, 5, torch.arange(64), SHAPE))
    assert drawn
    for name, tensor in drawn.items():
        expected = together[name][:, :2] if name == "operations" else together[name]
        assert torch.equal(tensor, expected), name


def test_draws_go_to_the_device_but_for_the_operations_that_group_a_batch() -> None:
    moved = fields(draw(ALL, 3, 5, torch.arange(4), SHAPE).to(torch.device("meta")))
    assert len(moved) == len(dataclasses.fields(Draws))
    assert [name for name, tensor in moved.items() if tensor.device.type == "cpu"] == ["operations"]


def test_positions_elsewhere_than_on_the_cpu_are_refused() -> None:
    with pytest.raises(ValueError, match="positions must be on the CPU; got meta"):
        draw(ALL, 3, 5, torch.arange(4, device="meta"), SHAPE)


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    assert fields(draw(AugmentationConfig(), 3, 5, torch.arange(4), SHAPE)) == {}


def test_every_crop_is_equally_likely_and_half_the_images_are_mirrored() -> None:
    draws = draw(ALL, 0, 1, torch.arange(50_000), SHAPE)
    assert draws.shifts is not None
    assert draws.flips is not None
    cells = (draws.shifts[:, 0] * 9 + draws.shifts[:, 1]) * 2 + draws.flips
    assert_uniform(cells, 162)


def test_operations_are_equally_likely_and_only_signed_ones_are_negated() -> None:
    operations = draw(ALL, 0, 1, torch.arange(20_000), SHAPE).operations
    assert operations is not None
    assert operations.shape == (20_000, 3)
    signed = [operation.signed for operation in OPERATIONS.values()]
    for column in operations.unbind(1):
        assert_uniform(column // 2, 14)
        for number, has_sign in enumerate(signed):
            negated = column[column // 2 == number] % 2
            # About 1400 of each: 4 standard errors of a half are 0.053.
            assert float(negated.double().mean()) == pytest.approx(0.5 * has_sign, abs=0.053 * has_sign)
    first, second, third = (column // 2 for column in operations.unbind(1))
    assert_uniform(first * 14 + second, 196)
    assert_uniform(second * 14 + third, 196)
    assert_uniform(first * 14 + third, 196)


def test_erased_boxes_have_a_uniform_area_and_a_log_uniform_aspect() -> None:
    """On a large square image, so that whole pixels hide neither."""
    side = 1000
    draws = draw(AugmentationConfig(erasing=0.25), 0, 1, torch.arange(20_000), (1, side, side))
    assert draws.erased is not None
    boxes = draws.erased[area(draws.erased) > 0]
    # 5000 expected, standard deviation sqrt(20000 * 0.25 * 0.75) = 61.
    assert abs(len(boxes) - 5000) < 4 * 61
    assert int(boxes.min()) >= 0
    assert int(boxes.max()) <= side
    share = area(boxes).double() / side**2
    assert stats.kstest(share.numpy(), stats.uniform(0.02, 0.31).cdf).pvalue > P_VALUE
    top, left, bottom, right = boxes.double().unbind(1)
    position = ((bottom - top) / (right - left)).log() / math.log(1 / 0.3)
    # Below an area of 0.3 every aspect fits; above it a square image cannot hold the extreme ones.
    assert stats.kstest(position[share < 0.3].numpy(), stats.uniform(-1, 2).cdf).pvalue > P_VALUE
    room = (top / (side - (bottom - top)), left / (side - (right - left)))
    movable = (bottom - top < side) & (right - left < side)
    for place in room:
        assert stats.kstest(place[movable].numpy(), stats.uniform(0, 1).cdf).pvalue > P_VALUE
    assert_uncorrelated(room[0][movable], room[1][movable])
    assert draws.noise_starts is not None
    starts = draws.noise_starts[area(draws.erased) > 0].double()
    for place in room:
        assert_uncorrelated(place[movable], starts[movable])


@pytest.mark.parametrize(("height", "width"), [(20, 2000), (2000, 20)])
def test_a_strip_too_narrow_for_the_aspects_loses_the_same_area(height: int, width: int) -> None:
    draws = draw(AugmentationConfig(erasing=1.0), 0, 1, torch.arange(2000), (1, height, width))
    assert draws.erased is not None
    share = area(draws.erased).double() / (height * width)
    # The standard error of the mean is 0.002; whole pixels of a box about 15 wide are even on average.
    assert float(share.mean()) == pytest.approx((0.02 + 0.33) / 2, abs=0.008)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 64), (64, 3), (7, 5)])
def test_erased_and_pasted_boxes_lie_in_images_of_any_shape(height: int, width: int) -> None:
    draws = draw(
        dataclasses.replace(ALL, crop=None, erasing=1.0), 0, 1, torch.arange(500), (1, height, width)
    )
    assert draws.erased is not None
    assert draws.pasted is not None
    assert int(area(draws.erased).min()) > 0
    for boxes in (draws.erased, draws.pasted):
        top, left, bottom, right = boxes.unbind(1)
        assert bool(((top >= 0) & (left >= 0) & (top <= bottom) & (left <= right)).all())
        assert bool(((bottom <= height) & (right <= width)).all())
        assert (int(bottom.max()), int(right.max())) == (height, width) or boxes is draws.pasted


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 8.0])
def test_mixup_weights_follow_their_beta_distribution(alpha: float) -> None:
    draws = draw(AugmentationConfig(mixup=alpha), 0, 1, torch.arange(20_000), SHAPE)
    assert draws.blends is not None
    assert draws.pasted is not None
    assert int(area(draws.pasted).max()) == 0
    # Below 1/2 only: near 1, where small alphas crowd, float32 cannot tell the weights apart.
    low = draws.blends[draws.blends < 0.5].double().numpy()
    assert abs(len(low) - 10_000) < 4 * math.sqrt(20_000) / 2
    assert stats.kstest(low, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > P_VALUE


def test_cutmix_boxes_are_square_cuts_whose_centres_and_areas_follow_the_paper() -> None:
    side = 1000
    draws = draw(AugmentationConfig(cutmix=1.0), 0, 1, torch.arange(20_000), (1, side, side))
    assert draws.blends is not None
    assert draws.pasted is not None
    assert float(draws.blends.max()) == 0
    top, left, bottom, right = draws.pasted.unbind(1)
    inner = (top > 0) & (left > 0) & (bottom < side) & (right < side)
    assert bool((bottom - top == right - left)[inner].all())
    # A box of side s is inside with probability (1 - s)^2; lambda is uniform, so s has the density 2s.
    assert float(inner.double().mean()) == pytest.approx(1 / 6, abs=4 * 0.0027)
    # Where a box lies says nothing of its size: not of lambda, nor of its distance from 1/2.
    share = area(draws.pasted)[inner].double() / side**2
    for edges in (top + bottom, left + right):
        assert_uncorrelated(edges[inner].double(), share)
        assert_uncorrelated(edges[inner].double(), (share - 0.5).abs())
    # A centre anywhere leaves s - s^2 / 4 of a side on average, the two sides are independent given s:
    # E[(s - s^2 / 4)^2] = 1/2 - 1/5 + 1/48 with E[s^n] = 2 / (n + 2). The standard error is 0.0017.
    mean = float(area(draws.pasted).double().mean()) / side**2
    assert mean == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=4 * 0.0017)


def test_with_both_on_an_image_gets_mixup_or_cutmix_never_both() -> None:
    draws = draw(ALL, 0, 1, torch.arange(20_000), SHAPE)
    assert draws.blends is not None
    assert draws.pasted is not None
    pasted = area(draws.pasted) > 0
    assert not bool((pasted & (draws.blends > 0)).any())
    # A half gets CutMix; of those, 1 / 256 have a side below two pixels, which is none.
    assert float(pasted.double().mean()) == pytest.approx(0.5 * (1 - 1 / 256), abs=0.015)
    # Centres are even over the image: the boxes' middle is the image's, to half a pixel of rounding and
    # four standard errors of 0.08.
    top, left, bottom, right = draws.pasted[pasted].double().unbind(1)
    assert float((top + bottom).mean() / 2) == pytest.approx(16, abs=0.32 + 0.5)
    assert float((left + right).mean() / 2) == pytest.approx(16, abs=0.32 + 0.5)


def test_noise_is_standard_normal_and_new_in_every_epoch() -> None:
    draws = draw(ALL, 0, 1, torch.arange(4), SHAPE)
    other = draw(ALL, 0, 2, torch.arange(4), SHAPE)
    assert draws.noise is not None
    assert draws.noise_starts is not None
    assert other.noise is not None
    assert stats.kstest(draws.noise.numpy(), "norm").pvalue > P_VALUE
    quarter = math.ceil(len(draws.noise) / 4)
    for distance in (1, 2, 3, quarter, 2 * quarter, 3 * quarter):
        assert_uncorrelated(draws.noise[:-distance], draws.noise[distance:])
    assert_uncorrelated(draws.noise, other.noise)
    assert len(draws.noise) == 2**16 + 3 * 32 * 32 - 1


def test_copies_of_an_image_stand_side_by_side_and_are_augmented_differently() -> None:
    config = dataclasses.replace(ALL, repeats=3)
    order = repeated(torch.tensor([4, 0, 2]), config)
    assert order.tolist() == [4, 4, 4, 0, 0, 0, 2, 2, 2]
    shifts = draw(config, 0, 1, torch.arange(len(order)), SHAPE).shifts
    assert shifts is not None
    assert len({tuple(shift) for shift in shifts[:3].tolist()}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0}, "augmentation.crop must be at least 1, or None for no crop; got 0"),
        ({"padding": "edge"}, "augmentation.padding must be 'zero' or 'reflect'; got 'edge'"),
        (
            {"crop": 5, "padding": "reflect"},
            "augmentation.crop must be below the image's smaller side (5) where padding is 'reflect'; got 5",
        ),
        ({"erasing": 1.5}, "augmentation.erasing is a probability and must be in 0..1; got 1.5"),
        ({"erasing": math.nan}, "augmentation.erasing is a probability and must be in 0..1; got nan"),
        ({"randaugment": -1}, "augmentation.randaugment must be at least 0; got -1"),
        ({"randaugment": 2}, "augmentation.randaugment needs images of 1 or 3 channels, these have 2; got 2"),
        ({"randaugment_magnitude": 31}, "augmentation.randaugment_magnitude must be in 0..30; got 31"),
        ({"mixup": -0.1}, "augmentation.mixup must be at least 0 and finite; got -0.1"),
        ({"cutmix": math.inf}, "augmentation.cutmix must be at least 0 and finite; got inf"),
        ({"repeats": 0}, "augmentation.repeats must be at least 1; got 0"),
    ],
)
def test_an_impossible_configuration_is_refused_with_field_rule_and_value(
    settings: dict[str, Any], message: str
) -> None:
    for refuse in (
        lambda config: check(config, (2, 5, 6)),
        lambda config: draw(config, 0, 1, torch.arange(2), (2, 5, 6)),
    ):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole message is compared
            refuse(AugmentationConfig(**settings))
        assert str(refusal.value) == message


def test_all_problems_of_a_configuration_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"crop must be.*\n.*erasing is.*\n.*repeats must be"):
        check(AugmentationConfig(crop=-1, erasing=2.0, repeats=0), SHAPE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_words_on_a_gpu_are_the_words_on_the_cpu() -> None:
    positions = torch.arange(10_000)
    here, there = words(2**63 - 1, positions, 3), words(2**63 - 1, positions.cuda(), 3)
    assert torch.equal(torch.stack(here), torch.stack(there).cpu())
    assert torch.equal(
        torch.stack([uniform(w) for w in here]), torch.stack([uniform(w) for w in there]).cpu()
    )
