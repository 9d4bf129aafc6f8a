"""What a choice of images does to them, to batches and to training; resumption; what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.workloads.test_engine import CONTEXT, flat_model, weights
from tests.workloads.test_selection import IMAGES, RULES
from tests.workloads.test_training import PIXELS, PLAIN, data
from workloads.contract import AugmentationConfig, SaturatedConfig, SkipConfig, TrainingConfig
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.losses.build import build_loss
from workloads.training.augmentation.randaugment import randaugment
from workloads.training.batches import Batch, Batches, Normaliser
from workloads.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from workloads.training.engine import Engine
from workloads.training.numerics import reproducible
from workloads.training.objective import Objective
from workloads.training.selection import Choice, Selection, operations, stress

CPU = torch.device("cpu")


@pytest.mark.parametrize("magnitude", [9, 30])
def test_stressed_images_go_through_randaugment_and_the_others_stay(magnitude: int) -> None:
    source = torch.Generator().manual_seed(2)
    images = torch.randint(256, (IMAGES, 3, 8, 8), generator=source, dtype=torch.uint8)
    chosen = torch.rand(IMAGES, generator=source) < 0.5
    config = SaturatedConfig("zero_loss", operations=3, magnitude=magnitude)
    codes = operations(chosen, config, seed=4, epoch=2, image_shape=(3, 8, 8))
    assert codes.shape == (IMAGES, 3)
    assert torch.equal((codes >= 0).all(1), chosen)
    before = images.clone()
    got = stress(images, codes, magnitude)
    assert torch.equal(images, before)
    changed = 0
    for image, result, code, stressed in zip(images, got, codes, chosen.tolist(), strict=True):
        expected = randaugment(image[None], code[None], magnitude)[0] if stressed else image
        assert torch.equal(result, expected)
        changed += not torch.equal(result, image)
    assert changed > int(chosen.sum()) / 2


def test_what_is_drawn_for_stressed_images_follows_seed_epoch_and_place_and_nothing_else() -> None:
    config, everyone = SaturatedConfig("random", operations=2), torch.ones(IMAGES, dtype=torch.bool)
    some = torch.arange(IMAGES) % 3 == 0

    def drawn(chosen: Tensor, seed: int = 0, epoch: int = 1) -> Tensor:
        return operations(chosen, config, seed, epoch, (1, 8, 8))

    assert torch.equal(drawn(some)[some], drawn(everyone)[some])
    assert not torch.equal(drawn(everyone), drawn(everyone, epoch=2))
    assert not torch.equal(drawn(everyone), drawn(everyone, seed=1))
    assert (drawn(torch.zeros(IMAGES, dtype=torch.bool)) == -1).all()
    # Nor are they those of an augmentation of all images: 28 codes, so 40 pairs agree twice or so by chance.
    whole = operations_of_augmentation()
    assert int((drawn(everyone) == whole).all(1).sum()) < 5


def operations_of_augmentation() -> Tensor:
    from workloads.training.augmentation import draw

    drawn = draw(AugmentationConfig(randaugment=2), 0, 1, torch.arange(IMAGES), (1, 8, 8)).operations
    assert drawn is not None
    return drawn


def test_other_augmentation_stays_as_it_was_beside_stressed_images() -> None:
    images, _ = data(IMAGES, size=8)
    labels = torch.arange(IMAGES)
    augmentation = AugmentationConfig(flip=True, crop=2, repeats=2)
    config = dataclasses.replace(PLAIN, augmentation=augmentation, saturated=SaturatedConfig("zero_loss"))
    batches = Batches(images, labels, IMAGES, config, seed=0)
    stressed = labels < 25
    plain = list(batches.epoch(1, PIXELS))
    got = list(batches.epoch(1, PIXELS, Choice(stressed=stressed)))
    assert len(got) == len(plain) == batches.steps(1, Choice(stressed=stressed))
    copies = set()
    for one, other in zip(plain, got, strict=True):
        assert torch.equal(one.index, other.index)
        same = (one.images == other.images).flatten(1).all(1)
        assert same[one.index >= 25].all()
        for image, pixels in zip(other.index.tolist(), other.images, strict=True):
            copies.add((image, *pixels.flatten().tolist()))
    # Each copy of an image has operations of its own.
    assert len(copies) > 70


@pytest.mark.parametrize("repeats", [1, 2])
def test_an_epoch_shows_those_that_are_chosen_in_the_order_that_it_has_anyway(repeats: int) -> None:
    images, _ = data(IMAGES)
    config = dataclasses.replace(PLAIN, augmentation=AugmentationConfig(repeats=repeats))
    batches = Batches(images, torch.arange(IMAGES), IMAGES, config, seed=0)
    shown = torch.arange(IMAGES) % 5 != 0
    choice = Choice(shown=shown)
    whole = torch.cat([batch.index for batch in batches.epoch(3, PIXELS)])
    got = list(batches.epoch(3, PIXELS, choice))
    assert torch.cat([batch.index for batch in got]).tolist() == [i for i in whole.tolist() if i % 5]
    for batch in got:
        assert torch.equal(batch.images[:, 0, 0, 0], images[batch.index, 0, 0, 0].float())
        assert torch.equal(batch.labels, batch.index)
    assert batches.steps(3, choice) == len(got) == 4 * repeats
    assert batches.steps(3, None) == len(batches) == 5 * repeats


def test_a_balanced_epoch_that_drew_fewer_than_two_of_the_chosen_shows_all_that_it_drew() -> None:
    images, labels = data(IMAGES)
    batches = Batches(images, labels, 3, PLAIN, seed=0, balanced=True)
    drawn = torch.cat([batch.index for batch in batches.epoch(1, PIXELS)]).tolist()
    once = next(i for i in range(IMAGES) if drawn.count(i) == 1)
    twice = next(i for i in range(IMAGES) if drawn.count(i) == 2)
    for image, expected in ((once, drawn), (twice, [twice, twice])):
        choice = Choice(shown=torch.arange(IMAGES) == image)
        got = list(batches.epoch(1, PIXELS, choice))
        assert torch.cat([batch.index for batch in got]).tolist() == expected
        assert len(got) == batches.steps(1, choice)


class Noting(Objective):
    """The plain objective, which notes the images of every epoch with their losses, as the model saw them."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[list[tuple[int, float]]] = []

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append([])

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        value, losses = super().value(loss, output, batch)
        assert losses is not None
        self.epochs[-1] += zip(batch.index.tolist(), losses.tolist(), strict=True)
        return value, losses


def engine(
    config: TrainingConfig, loss: Loss | None = None, objective: Objective | None = None, seed: int = 0
) -> Engine:
    images, labels = data(24)
    loss = loss or build_loss("hem", {"mu": 1.0}, CONTEXT)
    batches = Batches(images, labels, 3, config, seed)
    return Engine(
        flat_model(dropout=0.2, head=loss.head),
        loss,
        batches,
        Normaliser([0.5], [0.25], CPU),
        config,
        seed,
        objective,
    )


def skipping(epochs: int = 6, **settings: Any) -> TrainingConfig:
    return dataclasses.replace(PLAIN, epochs=epochs, batch_size=4, lr=0.05, **settings)


@pytest.mark.parametrize("sits_out", [1, 2])
@pytest.mark.parametrize("repeats", [1, 2])
def test_in_training_an_image_without_a_loss_sits_out_and_comes_back(sits_out: int, repeats: int) -> None:
    config = skipping(10, skip=SkipConfig("zero_loss", sits_out))
    config = dataclasses.replace(config, augmentation=AugmentationConfig(crop=1, repeats=repeats))
    noted = Noting()
    trained = engine(config, objective=noted)
    reports = [trained.train_epoch() for _ in range(10)]
    free = [1] * 24
    passes = skipped = 0
    for epoch, (seen, report) in enumerate(zip(noted.epochs, reports, strict=True), start=1):
        expected = {i for i in range(24) if free[i] <= epoch}
        expected = expected if len(expected) > 1 else set(range(24))
        assert sorted(i for i, _ in seen) == sorted([*expected] * repeats)
        for image in expected:
            if all(value == 0 for other, value in seen if other == image):
                free[image] = epoch + sits_out + 1
        passes += len(seen)
        assert report["train/forward_passes"] == passes
        assert report["train/skipped"] == pytest.approx(1 - len(expected) / 24, abs=1e-12)
        skipped += 24 - len(expected)
    assert skipped > 24


def test_who_is_chosen_at_random_follows_the_seed_of_the_trial() -> None:
    second = []
    for seed in (0, 1, 0):
        noted = Noting()
        trained = engine(skipping(skip=SkipConfig("random", 1, 0.5)), objective=noted, seed=seed)
        trained.train_epoch()
        trained.train_epoch()
        second.append({image for image, _ in noted.epochs[1]})
    assert second[0] == second[2] != second[1]


@pytest.mark.parametrize("settings", RULES, ids=lambda s: "+".join(f"{k}-{v.rule}" for k, v in s.items()))
def test_training_continues_after_any_epoch_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    config = skipping(augmentation=AugmentationConfig(crop=1), **settings)
    path = tmp_path / "checkpoint.pt"
    with reproducible(CPU, threads=1):
        whole = engine(config)
        expected = [whole.train_epoch() for _ in range(6)]
        running = engine(config)
        for stop in range(1, 6):
            running.train_epoch()
            # Reads with weights_only: nothing but tensors and plain values.
            write_checkpoint(path, "key", Checkpoint(running.state_dict(), (), 0.0, 0.0))
            read = read_checkpoint(path, "key", CPU)
            assert read is not None
            second = engine(config)
            second.load_state_dict(read.engine)
            assert [second.train_epoch() for _ in range(6 - stop)] == expected[stop:], stop
            assert torch.equal(weights(second), weights(whole))
    assert any(report["train/skipped"] + report["train/stressed"] > 0 for report in expected)


def test_without_a_rule_nothing_is_remembered_and_nothing_asked_of_the_loss() -> None:
    assert Selection.of(PLAIN, 21, CPU) is None
    trained = engine(skipping())
    report = trained.train_epoch()
    assert "selection" not in trained.state_dict()
    assert not trained.objective.detailed
    assert {"train/skipped", "train/stressed"}.isdisjoint(report)
    assert report["train/forward_passes"] == 24


@pytest.mark.parametrize("settings", RULES[:4], ids=str)
def test_a_rule_that_has_not_yet_chosen_changes_nothing(settings: dict[str, Any]) -> None:
    with reproducible(CPU, threads=1):
        plain, chosen = engine(skipping()), engine(skipping(**settings))
        expected, got = plain.train_epoch(), chosen.train_epoch()
    assert {name: got[name] for name in expected} == expected
    assert torch.equal(weights(plain), weights(chosen))
    assert got["train/skipped"] == got["train/stressed"] == 0


class Whole(Loss):
    """A loss that is one number for a batch."""

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(output.logits, targets)


@pytest.mark.parametrize(
    ("settings", "loss", "says"),
    [
        (
            {"skip": SkipConfig("zero_loss")},
            Whole(),
            r"training\.skip \(zero_loss\): .*Whole has one for a batch",
        ),
        (
            {"skip": SkipConfig("random", share=0.1), "saturated": SaturatedConfig("lowest_loss", 0.1)},
            build_loss("cross_entropy", {"triplet": 0.1}, CONTEXT),
            r"training\.skip \(random\) and training\.saturated \(lowest_loss\): .*WithTriplet",
        ),
        (
            {"saturated": SaturatedConfig("zero_loss"), "augmentation": AugmentationConfig(mixup=0.2)},
            build_loss("cross_entropy", {}, CONTEXT),
            r"training\.saturated \(zero_loss\): .*a mixed image has none.*got augmentation\.mixup 0\.2",
        ),
        (
            {"skip": SkipConfig("zero_loss"), "augmentation": AugmentationConfig(cutmix=1.0)},
            build_loss("cross_entropy", {}, CONTEXT),
            r"a mixed image has none.*got augmentation\.cutmix 1\.0",
        ),
        (
            {"saturated": SaturatedConfig("zero_loss", magnitude=31)},
            None,
            r"magnitude in 0\.\.30; got 2 and 31",
        ),
        ({"saturated": SaturatedConfig("zero_loss", operations=0)}, None, r"at least 1 .*got 0 and 9"),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_training(settings: Any, loss: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        engine(skipping(**settings), loss)


def test_randaugment_of_images_with_four_channels_is_refused_before_training() -> None:
    config = skipping(saturated=SaturatedConfig("random", 0.5))
    batches = Batches(torch.zeros(8, 4, 2, 2, dtype=torch.uint8), torch.arange(8) % 3, 3, config, 0)
    with pytest.raises(ValueError, match="1 or 3 channels; got 4"):
        Engine(flat_model(), build_loss("hem", {}, CONTEXT), batches, PIXELS, config, 0)
