"""Which images an epoch shows and augments more: the rules against a slow account of each image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from workloads.contract import SaturatedConfig, SkipConfig, TrainingConfig
from workloads.training.selection import Choice, Selection

CPU = torch.device("cpu")
IMAGES = 40
EPOCHS = 12
RULES: list[dict[str, Any]] = [
    {"skip": SkipConfig("zero_loss", 2)},
    {"skip": SkipConfig("zero_loss", 5, recheck=0.4)},
    {"skip": SkipConfig("lowest_loss", 2, 0.3)},
    {"skip": SkipConfig("random", 2, 0.3)},
    {"saturated": SaturatedConfig("zero_loss")},
    {"saturated": SaturatedConfig("lowest_loss", 0.4)},
    {"saturated": SaturatedConfig("random")},
    {"saturated": SaturatedConfig("random", 0.4)},
    {"skip": SkipConfig("zero_loss", 1, recheck=0.2), "saturated": SaturatedConfig("zero_loss")},
    {"skip": SkipConfig("random", 3, 0.2), "saturated": SaturatedConfig("random", 0.3)},
]


def selection(skip: SkipConfig | None = None, saturated: SaturatedConfig | None = None) -> Selection:
    config = TrainingConfig(skip=skip or SkipConfig(), saturated=saturated or SaturatedConfig())
    chosen = Selection.of(config, IMAGES, CPU)
    assert chosen is not None
    return chosen


def loss_table() -> Tensor:
    """Losses of every image in every epoch, float32 [epochs, images]; about 40 % are zero, and some equal."""
    source = torch.Generator().manual_seed(3)
    return (torch.randint(-4, 6, (EPOCHS, IMAGES), generator=source).clamp_min(0) / 4).float()


def shown_of(choice: Choice) -> set[int]:
    return set(range(IMAGES)) if choice.shown is None else marked(choice.shown)


def marked(flags: Tensor | None) -> set[int]:
    assert flags is not None
    assert flags.shape == (IMAGES,)
    return {place for place, flag in enumerate(flags.tolist()) if flag}


def visit(memory: Selection, images: set[int], losses: Tensor) -> None:
    """An epoch that shows these images, in two batches, last image first."""
    order = sorted(images, reverse=True)
    for part in (order[:7], order[7:]):
        memory.saw(torch.tensor(part, dtype=torch.int64), losses[part])


def run(memory: Selection, seed: int = 0) -> list[tuple[set[int], Choice]]:
    """What each epoch of the table shows, with the whole choice."""
    told = []
    for epoch, losses in enumerate(loss_table(), start=1):
        choice = memory.choose(seed, epoch)
        shown = shown_of(choice)
        visit(memory, shown, losses)
        told.append((shown, choice))
    return told


def lowest(losses: list[float], among: set[int], share: float) -> set[int]:
    return set(sorted(among, key=lambda image: (losses[image], image))[: round(share * len(among))])


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize(("rule", "share"), [("zero_loss", 0.0), ("lowest_loss", 0.3), ("lowest_loss", 0.55)])
def test_who_sits_out_is_what_an_account_of_each_image_says(rule: Any, share: float, epochs: int) -> None:
    free = dict.fromkeys(range(IMAGES), 1)  # the first epoch that an image may be in
    got = run(selection(SkipConfig(rule, epochs, share)))
    for epoch, (losses, (shown, _)) in enumerate(zip(loss_table().tolist(), got, strict=True), start=1):
        expected = {image for image in range(IMAGES) if free[image] <= epoch}
        assert shown == expected, epoch
        out = {i for i in expected if losses[i] == 0}
        if rule == "lowest_loss":
            out = lowest(losses, expected, share)
        for image in out:
            free[image] = epoch + epochs + 1
    # The table must bring about what is tested.
    assert got[0][0] == set(range(IMAGES))
    assert all(2 <= len(shown) < IMAGES for shown, _ in got[1:])


@pytest.mark.parametrize("epochs", [1, 2])
def test_at_random_as_many_sit_out_for_as_long_and_never_the_same(epochs: int) -> None:
    got = [shown for shown, _ in run(selection(SkipConfig("random", epochs, 0.3)))]
    out = [set(range(IMAGES)) - shown for shown in got]
    assert out[0] == set()
    began: list[set[int]] = [set()]
    for epoch in range(1, EPOCHS):
        # Those that were shown in the epoch before and are not any more; nobody is told apart otherwise.
        new = out[epoch] & got[epoch - 1]
        assert len(new) == round(0.3 * len(got[epoch - 1]))
        began.append(new)
        assert out[epoch] == set().union(*began[max(0, epoch + 1 - epochs) :])
    assert len({frozenset(each) for each in began}) == EPOCHS
    assert [shown for shown, _ in run(selection(SkipConfig("random", epochs, 0.3)), seed=1)] != got


def test_at_random_every_image_sits_out_equally_often() -> None:
    memory, losses = selection(SkipConfig("random", 1, 0.25)), torch.ones(IMAGES)
    counts = torch.zeros(IMAGES)
    for epoch in range(1, 401):
        shown = memory.choose(0, epoch).shown
        assert shown is not None
        counts += ~shown
        visit(memory, marked(shown), losses)
    # A share 1/4 of those shown: x = (1 - x)/4, so 1/5 of 399 epochs, with a standard deviation below 8.
    assert abs(float(counts.mean()) - 399 / 5) < 1
    assert counts.min() > 80 - 5 * 8
    assert counts.max() < 80 + 5 * 8


def test_a_recheck_shows_so_many_of_those_that_sit_out_and_judges_them_anew() -> None:
    memory = selection(SkipConfig("zero_loss", epochs=300, recheck=0.1))
    losses = torch.zeros(IMAGES)
    losses[:4] = 1
    rechecked = 0
    visit(memory, set(range(IMAGES)), losses)
    for epoch in range(2, 252):
        shown = shown_of(memory.choose(5, epoch))
        assert {0, 1, 2, 3} <= shown
        rechecked += len(shown) - 4
        visit(memory, shown, losses)
    # 36 images, 250 epochs, a tenth: 900, standard deviation 28.
    assert 900 - 5 * 28 < rechecked < 900 + 5 * 28
    back = max(shown_of(memory.choose(5, 252)))
    assert back > 3
    losses[back] = 1
    visit(memory, shown_of(memory.choose(5, 252)), losses)
    assert all(back in shown_of(memory.choose(5, epoch)) for epoch in range(253, 280))


def test_a_recheck_is_a_function_of_seed_epoch_and_image() -> None:
    def drawn(seed: int, epoch: int, others: float) -> set[int]:
        memory = selection(SkipConfig("zero_loss", epochs=9, recheck=0.3))
        visit(memory, set(range(IMAGES)), torch.tensor([0.0] * 20 + [others] * 20))
        memory.choose(seed, 2)
        return {image for image in shown_of(memory.choose(seed, epoch)) if image < 20}

    assert drawn(0, 3, 0.0) == drawn(0, 3, 1.0) != set()
    assert drawn(0, 3, 0.0) != drawn(0, 4, 0.0)
    assert drawn(0, 3, 0.0) != drawn(1, 3, 0.0)


@pytest.mark.parametrize("positive", [0, 1, 2])
def test_an_epoch_that_would_show_fewer_than_two_images_shows_all_and_judges_them_anew(positive: int) -> None:
    memory = selection(SkipConfig("zero_loss", epochs=9))
    losses = torch.zeros(IMAGES)
    losses[:positive] = 1
    visit(memory, set(range(IMAGES)), losses)
    choice = memory.choose(0, 2)
    assert shown_of(choice) == ({0, 1} if positive == 2 else set(range(IMAGES)))
    assert choice.metrics()["train/skipped"] == (0.95 if positive == 2 else 0)
    visit(memory, shown_of(choice), (torch.arange(IMAGES) % 3).float())
    others = {image for image in range(IMAGES) if image % 3}
    assert shown_of(memory.choose(0, 3)) == (set(range(IMAGES)) if positive == 2 else others)


def test_an_image_that_is_seen_several_times_has_no_loss_only_if_it_never_had_one() -> None:
    memory = selection(SkipConfig("zero_loss", epochs=1))
    index = torch.arange(IMAGES)
    seen = torch.zeros(3, IMAGES)
    seen[0, 0] = seen[1, 1] = seen[2, 2] = 0.5
    for losses in seen:
        memory.saw(torch.cat((index, index)), torch.cat((losses, torch.zeros(IMAGES))))
    assert shown_of(memory.choose(0, 2)) == {0, 1, 2}
    # The loss of an epoch is forgotten with the next one that shows the image.
    visit(memory, {0, 1, 2}, torch.zeros(IMAGES))
    assert shown_of(memory.choose(0, 3)) == set(range(3, IMAGES))


# -- augmenting more ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [None, SkipConfig("lowest_loss", 2, 0.3), SkipConfig("zero_loss", 1)])
@pytest.mark.parametrize(
    ("rule", "share"),
    [("zero_loss", 0.0), ("lowest_loss", 0.3), ("random", 0.3), ("random", 0.0)],
)
def test_who_is_augmented_more_is_what_the_last_losses_say(rule: Any, share: float, skip: Any) -> None:
    last: dict[int, float] = {}
    drawn = []
    for losses, (shown, choice) in zip(
        loss_table().tolist(), run(selection(skip, SaturatedConfig(rule, share))), strict=True
    ):
        known = shown & last.keys()
        zero = {image for image in known if last[image] == 0}
        got = marked(choice.stressed)
        assert (choice.shown is None) == (skip is None)
        if rule == "zero_loss":
            assert got == zero
        elif rule == "lowest_loss":
            assert got == lowest([last.get(i, 9.0) for i in range(IMAGES)], known, share)
        else:
            assert len(got) == (round(share * len(known)) if share else len(zero))
            assert got <= known
            drawn.append(got)
        assert choice.metrics() == {
            "train/skipped": pytest.approx(1 - len(shown) / IMAGES, abs=1e-12),
            "train/stressed": pytest.approx(len(got) / IMAGES, abs=1e-12),
        }
        last.update({image: losses[image] for image in shown})
    assert last.keys() == set(range(IMAGES))
    if drawn:
        assert drawn[0] == set()
        assert len({frozenset(each) for each in drawn[1:] if each}) == len([each for each in drawn if each])


def test_a_control_at_random_does_not_follow_the_losses() -> None:
    memory = selection(saturated=SaturatedConfig("random"))
    losses = torch.ones(IMAGES)
    losses[:20] = 0
    both = 0
    for epoch in range(1, 202):
        stressed = marked(memory.choose(0, epoch).stressed)
        both += len({image for image in stressed if image < 20})
        visit(memory, set(range(IMAGES)), losses)
    # 20 of 40, of which half are saturated by chance: 2000, standard deviation 200 * 1.6 / sqrt(200) = 23.
    assert abs(both - 2000) < 5 * 23


def test_the_choices_of_one_epoch_are_drawn_apart() -> None:
    """Those that sit out at random, are rechecked and augmented at random do not depend on each other."""
    memory = selection(SkipConfig("random", 1, 0.5, recheck=0.5), SaturatedConfig("random", 0.5))
    visit(memory, set(range(IMAGES)), torch.ones(IMAGES))
    shown, stressed = memory.choose(0, 2).shown, memory.choose(0, 2).stressed
    assert shown is not None
    assert stressed is not None
    # 20 sit out, of which about 10 are rechecked (sd 2.2): equal draws would recheck all or none of them.
    assert 24 <= int(shown.sum()) <= 36
    low = selection(SkipConfig("random", 1, 0.5), SaturatedConfig("random", 0.5))
    visit(low, set(range(IMAGES)), torch.ones(IMAGES))
    kept = marked(low.choose(0, 2).shown)
    again = selection(None, SaturatedConfig("random", 0.5))
    visit(again, set(range(IMAGES)), torch.ones(IMAGES))
    # Of 20 kept about 10 would be augmented (sd 1.6): with equal draws, none or all.
    assert 4 <= len(kept & marked(again.choose(0, 2).stressed)) <= 16


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that would make the host wait for a device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "item")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in self.WAITING or boolean:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", RULES, ids=str)
def test_a_choice_waits_for_the_device_once(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = []
    move = Tensor.cpu

    def counted(tensor: Tensor) -> Tensor:
        moves.append(tensor.shape)
        return move(tensor)

    monkeypatch.setattr(Tensor, "cpu", counted)
    memory = selection(settings.get("skip"), settings.get("saturated"))
    with Waits() as waits:
        for epoch in (1, 2, 3):
            memory.choose(0, epoch)
            memory.saw(torch.arange(IMAGES), loss_table()[epoch])
    assert waits.names == []
    assert moves == [(2, IMAGES)] * 3
