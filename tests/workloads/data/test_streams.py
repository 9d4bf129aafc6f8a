"""Task streams: which images a task shows, under which labels, and how they look."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from workloads.data.images import Pixels
from workloads.data.streams import Kind, Permutation, Rotation, Stream, Task, make_stream
from workloads.protocol_config import Scenario

SHAPE = (1, 8, 8)
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
# Every number of tasks that divides the classes and leaves two or more classes a task.
PAIRS = [(c, t) for c in range(4, 41) for t in range(2, c // 2 + 1) if c % t == 0]


def _images(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _split(scenario: Scenario, tasks: int, classes: int, seed: int | None = None) -> Stream:
    return make_stream("split", scenario, tasks, classes, SHAPE, seed)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", [None, 0, 7])
def test_every_class_and_every_image_is_in_exactly_one_task(scenario: Scenario, seed: int | None) -> None:
    for classes, tasks in PAIRS:
        stream = _split(scenario, tasks, classes, seed)
        assert [task.number for task in stream.tasks] == list(range(1, tasks + 1))
        assert {len(task.classes) for task in stream.tasks} == {classes // tasks}
        assert sorted(c for task in stream.tasks for c in task.classes) == list(range(classes))
        labels = np.random.default_rng(classes).integers(0, classes, 200)
        shown = [task.index(labels) for task in stream.tasks]
        assert all((np.diff(index) > 0).all() and index.dtype == np.int64 for index in shown)
        assert sorted(np.concatenate(shown).tolist()) == list(range(200))


def test_the_natural_order_takes_classes_as_they_are_numbered() -> None:
    stream = _split("class_il", 3, 6)
    assert [task.classes for task in stream.tasks] == [(0, 1), (2, 3), (4, 5)]


@pytest.mark.parametrize("scenario", ["class_il", "task_il"])
def test_a_class_keeps_its_own_column_where_the_head_has_all(scenario: Scenario) -> None:
    stream = _split(scenario, 4, 12, seed=1)
    assert stream.num_columns == 12
    for task in stream.tasks:
        assert task.targets == task.classes
        assert task.columns == tuple(sorted(task.classes))
    assert any(task.columns != task.classes for task in stream.tasks)


def test_tasks_share_the_columns_0_to_k_in_domain_il() -> None:
    stream = _split("domain_il", 4, 12, seed=1)
    assert stream.num_columns == 3
    assert all(task.targets == task.columns == (0, 1, 2) for task in stream.tasks)


def test_the_scenario_changes_labels_and_no_class() -> None:
    streams = [_split(scenario, 5, 10, seed=3) for scenario in SCENARIOS]
    assert len({tuple(task.classes for task in stream.tasks) for stream in streams}) == 1


def test_labels_become_positions_within_the_task_in_domain_il() -> None:
    task = Task(2, classes=(7, 2, 5), targets=(0, 1, 2), columns=(0, 1, 2))
    labels = np.array([5, 1, 7, 2, 9, 7])
    assert task.index(labels).tolist() == [0, 2, 3, 5]
    new = task.relabel(labels[task.index(labels)])
    assert new.tolist() == [2, 0, 1, 0]
    assert new.dtype == np.int64


def test_relabelling_agrees_with_a_dictionary_for_every_stream() -> None:
    for scenario in SCENARIOS:
        for task in _split(scenario, 3, 15, seed=2).tasks:
            labels = np.random.default_rng(0).choice(np.array(task.classes), 100)
            table = dict(zip(task.classes, task.targets, strict=True))
            assert task.relabel(labels).tolist() == [table[label] for label in labels.tolist()]


@pytest.mark.parametrize("stranger", [-1, 3, 99])
def test_a_label_that_the_task_does_not_show_is_refused(stranger: int) -> None:
    task = Task(2, classes=(7, 2), targets=(0, 1), columns=(0, 1))
    with pytest.raises(ValueError, match=rf"task 2 shows classes \(7, 2\); got class {stranger}"):
        task.relabel(np.array([7, stranger]))


def test_images_of_a_split_stream_are_the_same_array() -> None:
    images = _images(3, *SHAPE)
    assert all(task.present(images) is images for task in _split("class_il", 2, 4).tasks)


def test_another_seed_gives_another_order_and_the_same_seed_the_same_stream() -> None:
    assert _split("class_il", 5, 10, 1) == _split("class_il", 5, 10, 1) != _split("class_il", 5, 10, 2)


def test_every_class_may_come_first() -> None:
    firsts = np.bincount([_split("class_il", 2, 4, seed).tasks[0].classes[0] for seed in range(400)])
    # Five standard errors of 400 draws with a chance of 1/4.
    assert (np.abs(firsts - 100) < 5 * math.sqrt(400 * 0.25 * 0.75)).all()


def test_the_streams_of_a_seed_are_those_of_earlier_versions() -> None:
    # Golden: studies of different dates compare the same tasks.
    assert [task.classes for task in _split("class_il", 2, 6, 0).tasks] == [(3, 2, 1), (0, 5, 4)]
    permuted = make_stream("permuted", "domain_il", 2, 3, (1, 2, 3), 0).tasks[1].view
    assert permuted == Permutation((2, 4, 5, 1, 0, 3))
    rotated = make_stream("rotated", "domain_il", 4, 3, SHAPE, 0).tasks
    assert [task.view for task in rotated] == [Rotation(angle) for angle in (45.0, 0.0, 90.0, 135.0)]


@pytest.mark.parametrize("kind", ["permuted", "rotated"])
def test_permuted_and_rotated_tasks_show_all_classes_under_their_own_labels(kind: Kind) -> None:
    stream = make_stream(kind, "domain_il", 4, 5, SHAPE, 0)
    assert stream.num_columns == 5
    assert [task.number for task in stream.tasks] == [1, 2, 3, 4]
    labels = np.array([3, 0, 4, 1, 2])
    for task in stream.tasks:
        assert task.classes == task.targets == task.columns == (0, 1, 2, 3, 4)
        assert task.index(labels).tolist() == [0, 1, 2, 3, 4]
        assert task.relabel(labels).tolist() == labels.tolist()


def test_a_permutation_moves_every_pixel_once_and_channels_alike() -> None:
    height, width = 3, 5
    places = np.arange(height * width, dtype=np.uint8).reshape(1, 1, height, width)
    images = np.concatenate([places, places + 100], axis=1)
    for task in make_stream("permuted", "domain_il", 6, 3, (2, height, width), 0).tasks:
        seen = task.present(images)
        assert seen.shape == images.shape
        assert sorted(seen[0, 0].ravel().tolist()) == list(range(height * width))
        np.testing.assert_array_equal(seen[0, 1], seen[0, 0] + 100)


def test_place_p_shows_what_was_at_order_p() -> None:
    # By hand: 10 11 12 / 13 14 15 read in the order 5 0 3 1 4 2.
    image = np.array([[10, 11, 12], [13, 14, 15]], dtype=np.uint8)[None, None]
    seen = Permutation((5, 0, 3, 1, 4, 2)).present(image)
    np.testing.assert_array_equal(seen[0, 0], [[15, 10, 13], [11, 14, 12]])


def test_training_and_test_images_get_the_same_permutation() -> None:
    images = _images(7, 3, 8, 8)
    for task in make_stream("permuted", "domain_il", 3, 3, (3, 8, 8), 4).tasks:
        np.testing.assert_array_equal(task.present(images)[2:5], task.present(images[2:5]))
    again = make_stream("permuted", "domain_il", 3, 3, (3, 8, 8), 4)
    assert again == make_stream("permuted", "domain_il", 3, 3, (3, 8, 8), 4)


def test_the_first_permuted_task_is_untouched_and_no_two_are_alike() -> None:
    stream = make_stream("permuted", "domain_il", 10, 3, SHAPE, 0)
    images = _images(1, *SHAPE)
    assert stream.tasks[0].present(images) is images
    assert len({task.present(images).tobytes() for task in stream.tasks}) == 10


def test_a_longer_permuted_stream_begins_like_a_shorter_one() -> None:
    short, long = (make_stream("permuted", "domain_il", tasks, 3, SHAPE, 5) for tasks in (3, 8))
    assert long.tasks[:3] == short.tasks


def test_permutations_have_no_natural_order_and_none_is_seed_0() -> None:
    unseeded, first, second = (make_stream("permuted", "domain_il", 3, 3, SHAPE, s) for s in (None, 0, 1))
    assert unseeded == first != second


def test_a_permutation_refuses_images_of_another_size() -> None:
    with pytest.raises(ValueError, match="4 pixels cannot change images of 2x3"):
        Permutation((3, 1, 0, 2)).present(_images(1, 1, 2, 3))


def test_images_too_small_for_different_permutations_are_refused() -> None:
    with pytest.raises(ValueError, match="1x2 pixels are too small for 3 different"):
        make_stream("permuted", "domain_il", 3, 3, (3, 1, 2), 0)


def test_angles_rise_evenly_from_0_and_stop_short_of_180() -> None:
    stream = make_stream("rotated", "domain_il", 4, 3, SHAPE, None)
    assert [task.view for task in stream.tasks] == [Rotation(angle) for angle in (0.0, 45.0, 90.0, 135.0)]


def test_a_seed_shuffles_the_angles_and_changes_none() -> None:
    rising, shuffled, other = (make_stream("rotated", "domain_il", 20, 3, SHAPE, s) for s in (None, 0, 1))
    views = [[task.view for task in stream.tasks] for stream in (rising, shuffled, other)]
    assert set(views[0]) == set(views[1]) == set(views[2])
    assert views[0] != views[1] != views[2]


@pytest.mark.parametrize("angle", [0.0, 360.0, -360.0])
def test_no_rotation_gives_the_same_array(angle: float) -> None:
    images = _images(2, *SHAPE)
    assert Rotation(angle).present(images) is images


@pytest.mark.parametrize("side", [7, 8, 28])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_exact_and_counter_clockwise(side: int, turns: int) -> None:
    images = _images(5, 3, side, side)
    expected = np.rot90(images, turns, axes=(2, 3))
    # Exact: pixel centres fall on pixel centres, and the float32 weights are off by less than half a level.
    np.testing.assert_array_equal(Rotation(90.0 * turns).present(images), expected)


def _turned(image: Pixels, angle: float) -> list[list[float]]:
    """One channel turned counter-clockwise, pixel by pixel: where does each one come from?"""
    height, width = image.shape
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    rows = []
    for y in range(height):
        row = []
        for x in range(width):
            right, up = x - (width - 1) / 2, (height - 1) / 2 - y
            # Turned back, clockwise.
            from_x = (width - 1) / 2 + cosine * right + sine * up
            from_y = (height - 1) / 2 - (cosine * up - sine * right)
            level = 0.0
            for j in range(height):
                for i in range(width):
                    level += max(0, 1 - abs(from_x - i)) * max(0, 1 - abs(from_y - j)) * int(image[j, i])
            row.append(level)
        rows.append(row)
    return rows


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (6, 9)])
@pytest.mark.parametrize("angle", [9.0, 30.0, 45.0, 135.0, -20.0])
def test_a_rotation_agrees_with_bilinear_weights_written_out(shape: tuple[int, int], angle: float) -> None:
    images = _images(2, 1, *shape)
    expected = [[_turned(channel, angle) for channel in image] for image in images]
    # Rounding to whole levels costs 0.5; float32 positions a few 1e-6 of 255.
    np.testing.assert_allclose(Rotation(angle).present(images), expected, atol=0.51)


def test_what_comes_into_view_is_black() -> None:
    turned = Rotation(45.0).present(np.full((1, 3, 9, 9), 255, dtype=np.uint8))
    assert turned[0, :, [0, 0, 8, 8], [0, 8, 0, 8]].max() == 0
    assert turned[0, :, 4, 4].min() == 255


def test_an_image_turns_alike_alone_and_among_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(11, 3, 8, 8)
    whole = Rotation(33.0).present(images)
    for values in (1, 3 * 64 * 4, 3 * 64 * 11):
        monkeypatch.setattr("workloads.data.streams._BLOCK_VALUES", values)
        np.testing.assert_array_equal(Rotation(33.0).present(images), whole)


@pytest.mark.parametrize("view", [Permutation(tuple(reversed(range(64)))), Rotation(30.0)])
def test_a_view_leaves_read_only_images_as_they_were(view: Permutation | Rotation) -> None:
    images = _images(3, 1, 8, 8)
    before = images.copy()
    images.setflags(write=False)
    seen = view.present(images)
    np.testing.assert_array_equal(images, before)
    assert seen.dtype == np.uint8
    assert seen.shape == images.shape
    assert (seen != images).any()
    assert len(view.present(images[:0])) == 0


@pytest.mark.parametrize(
    ("kind", "scenario", "tasks", "classes", "message"),
    [
        (
            "split",
            "class_il",
            12,
            10,
            "into 12 tasks, one class each. Numbers of tasks that work: 2, 5 for",
        ),
        (
            "split",
            "class_il",
            4,
            10,
            "10 classes cannot be cut into 4 tasks of equal .* work: 2, 5 for 10",
        ),
        (
            "split",
            "task_il",
            4,
            10,
            "of equal size. Numbers of tasks that work: 2, 5 for 10 classes in task_il",
        ),
        ("split", "domain_il", 3, 7, "No number of tasks works for 7 classes in domain_il"),
        (
            "split",
            "task_il",
            6,
            6,
            "6 tasks of 6 classes show one class each.* nothing to tell apart.*: 2, 3 for",
        ),
        ("split", "domain_il", 6, 6, "one class each, and with one class there is nothing to tell apart"),
        ("split", "class_il", 3, 3, "3 tasks of 3 classes show one class each"),
        ("split", "class_il", 1, 10, "2 tasks or more; got 1"),
        ("rotated", "domain_il", 0, 10, "2 tasks or more; got 0"),
        ("permuted", "domain_il", 5, 1, "2 classes or more; got 1"),
        ("permuted", "class_il", 5, 10, "permuted stream has the same classes .* Write scenario domain_il"),
        ("rotated", "class_il", 5, 10, "rotated stream has the same classes .* or stream split"),
        ("permuted", "task_il", 5, 10, "permuted stream has the same labels .* Write scenario domain_il"),
        ("rotated", "task_il", 5, 10, "rotated stream has the same labels .* Write scenario domain_il"),
        ("shuffled", "domain_il", 5, 10, "one of split, permuted, rotated; got 'shuffled'"),
        ("split", "offline", 5, 10, "one of class_il, task_il, domain_il; got 'offline'"),
    ],
)
def test_a_stream_that_cannot_be_is_refused_with_what_to_write(
    kind: Kind, scenario: Scenario, tasks: int, classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_stream(kind, scenario, tasks, classes, SHAPE, 0)
