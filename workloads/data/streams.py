"""Task streams of continual learning: the classes of each task, their labels, and how its images look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from workloads.data.images import Index, Labels, Pixels
from workloads.data.randomness import generator
from workloads.protocol_config import Scenario

Kind = Literal["split", "permuted", "rotated"]
"""Groups of classes; or all classes in every task, with pixels permuted or images rotated."""

_BLOCK_VALUES = 1 << 22
"""Pixel values rotated at once: 16 MiB as float32, whatever the size of an image."""


@dataclass(frozen=True)
class Permutation:
    """Every pixel moves to another place: the same for all channels and for every image."""

    order: tuple[int, ...]
    """Position p, counted row by row, shows what was at ``order[p]``; [height * width]."""

    def present(self, images: Pixels) -> Pixels:
        """The images so changed, uint8 [N, C, H, W]. Raises: ValueError for another number of pixels."""
        count, channels, height, width = images.shape
        if height * width != len(self.order):
            raise ValueError(
                f"a permutation of {len(self.order)} pixels cannot change images of {height}x{width} pixels"
            )
        flat = np.asarray(images).reshape(count, channels, height * width)
        return np.take(flat, np.asarray(self.order), axis=2).reshape(images.shape)


@dataclass(frozen=True)
class Rotation:
    """Images turn about their centre and keep their size; what comes into view from outside is black."""

    angle: float
    """Degrees, counter-clockwise."""

    def present(self, images: Pixels) -> Pixels:
        """The images so turned, bilinear, uint8 [N, C, H, W]; at 0 degrees the same array.

        The weights are float32, so another processor may round a pixel to the neighbouring level.
        """
        if self.angle % 360.0 == 0.0:
            return images
        # Loading torch takes seconds, which the other streams spare.
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2.functional import rotate

        turned = np.empty(images.shape, dtype=np.uint8)
        block = max(1, _BLOCK_VALUES // int(np.prod(images.shape[1:])))
        for start in range(0, len(images), block):
            # A copy: torch takes neither read-only arrays nor turned ones.
            pixels = torch.from_numpy(np.array(images[start : start + block], order="C"))
            rotated = rotate(pixels, self.angle, interpolation=InterpolationMode.BILINEAR)
            turned[start : start + block] = rotated.numpy()
        return turned


@dataclass(frozen=True)
class Task:
    """One task of a stream: what it shows, and under which labels."""

    number: int
    """From 1, in the order of learning."""
    classes: tuple[int, ...]
    """Classes of the data whose images it shows."""
    targets: tuple[int, ...]
    """The label, which is a column of the head, of each of ``classes``."""
    columns: tuple[int, ...]
    """Columns of the head that belong to the task, rising."""
    view: Permutation | Rotation | None = None
    """What is done to its images; None: nothing."""

    def index(self, labels: Labels) -> Index:
        """Positions of the task's images, increasing.

        Args:
            labels: classes of the data, int64 [N].
        """
        return np.flatnonzero(np.isin(labels, np.asarray(self.classes)))

    def relabel(self, labels: Labels) -> Labels:
        """The task's own labels, int64 [M].

        Args:
            labels: of images that :meth:`index` chose, classes of the data, int64 [M].
        Raises: ValueError for a class that the task does not show.
        """
        strangers = np.setdiff1d(labels, np.asarray(self.classes))
        if len(strangers):
            raise ValueError(f"task {self.number} shows classes {self.classes}; got class {strangers[0]}")
        rising = np.argsort(self.classes)
        places = np.searchsorted(np.asarray(self.classes)[rising], labels)
        return np.asarray(self.targets, dtype=np.int64)[rising[places]]

    def present(self, images: Pixels) -> Pixels:
        """The images as the task shows them, uint8 [N, C, H, W]; the same array where nothing is done."""
        return images if self.view is None else self.view.present(images)


@dataclass(frozen=True)
class Stream:
    """Tasks in the order of learning."""

    tasks: tuple[Task, ...]
    num_columns: int
    """Width of the head."""


def make_stream(
    kind: Kind,
    scenario: Scenario,
    tasks: int,
    num_classes: int,
    image_shape: tuple[int, int, int],
    order_seed: int | None,
) -> Stream:
    """The tasks of a stream, one after the other.

    ``split``: the classes in an order drawn at random, cut into equal groups. In ``domain_il`` every group is
    labelled 0..k-1 in that order; else a class keeps its own label. ``permuted``: all classes; task 1 shows
    images as they are, every later one has a permutation of its own, whatever their number. ``rotated``: all
    classes; the angles are i * 180 / tasks degrees for i = 0..tasks-1, shuffled.

    Args:
        tasks: how many, at least 2.
        num_classes: of the data, labelled 0..num_classes-1.
        image_shape: channels, height, width; read by ``permuted`` only.
        order_seed: of the order of classes, the permutations, or the order of angles. None: classes as they
            are numbered, rising angles; permutations have no natural order, and None is seed 0.
    Raises: ValueError for a stream that cannot be, with what to write instead.
    Source: van de Ven et al. 2022, "Three types of incremental learning"; Goodfellow et al. 2013 (permuted).
    Differs from source: Rotated-MNIST elsewhere draws its angles at random; here they are evenly spaced.
    """
    _require_possible(kind, scenario, tasks, num_classes)
    if kind == "split":
        return _split(scenario, tasks, num_classes, order_seed)
    views = (
        _permutations(tasks, image_shape, order_seed) if kind == "permuted" else _rotations(tasks, order_seed)
    )
    every = tuple(range(num_classes))
    return Stream(tuple(Task(i, every, every, every, view) for i, view in enumerate(views, 1)), num_classes)


def _split(scenario: Scenario, tasks: int, num_classes: int, order_seed: int | None) -> Stream:
    order = list(range(num_classes))
    if order_seed is not None:
        order = generator("stream", "classes", int(order_seed)).permutation(num_classes).tolist()
    size = num_classes // tasks
    groups = [tuple(order[start : start + size]) for start in range(0, num_classes, size)]
    made = []
    for number, classes in enumerate(groups, 1):
        targets = tuple(range(size)) if scenario == "domain_il" else classes
        made.append(Task(number, classes, targets, tuple(sorted(targets))))
    return Stream(tuple(made), size if scenario == "domain_il" else num_classes)


def _permutations(
    tasks: int, image_shape: tuple[int, int, int], order_seed: int | None
) -> list[Permutation | None]:
    _, height, width = image_shape
    seed = 0 if order_seed is None else int(order_seed)
    orders = [tuple(range(height * width))]
    for number in range(2, tasks + 1):
        rng = generator("stream", "permutation", seed, number)
        orders.append(tuple(rng.permutation(height * width).tolist()))
    if len(set(orders)) < tasks:
        raise ValueError(
            f"images of {height}x{width} pixels are too small for {tasks} different permutations; "
            "write fewer tasks or choose larger images"
        )
    return [None, *(Permutation(order) for order in orders[1:])]


def _rotations(tasks: int, order_seed: int | None) -> list[Rotation]:
    steps = list(range(tasks))
    if order_seed is not None:
        steps = generator("stream", "angles", int(order_seed)).permutation(tasks).tolist()
    return [Rotation(step * 180.0 / tasks) for step in steps]


def _require_possible(kind: Kind, scenario: Scenario, tasks: int, num_classes: int) -> None:
    """Raises: ValueError for settings that make no stream."""
    if kind not in get_args(Kind):
        raise ValueError(f"a stream must be one of {', '.join(get_args(Kind))}; got {kind!r}")
    if scenario not in get_args(Scenario):
        raise ValueError(f"a scenario must be one of {', '.join(get_args(Scenario))}; got {scenario!r}")
    if tasks < 2:
        raise ValueError(f"a stream needs 2 tasks or more; got {tasks!r}")
    if num_classes < 2:
        raise ValueError(f"a stream needs 2 classes or more; got {num_classes!r}")
    if kind == "split":
        _require_groups(scenario, tasks, num_classes)
    elif scenario == "class_il":
        raise ValueError(
            f"a {kind} stream has the same classes in every task, so class_il, which adds classes, has "
            "nothing to add. Write scenario domain_il, or stream split"
        )
    elif scenario == "task_il":
        raise ValueError(
            f"a {kind} stream has the same labels in every task, so task_il, which tells the task to shut "
            "out the labels of others, shuts out none. Write scenario domain_il, or stream split"
        )


def _require_groups(scenario: Scenario, tasks: int, num_classes: int) -> None:
    """Raises: ValueError for classes that cannot be cut into these groups."""
    works = [n for n in range(2, num_classes // 2 + 1) if num_classes % n == 0]
    numbers = (
        f"Numbers of tasks that work: {', '.join(map(str, works))}" if works else "No number of tasks works"
    )
    advice = f"{numbers} for {num_classes} classes in {scenario}"
    if tasks > num_classes:
        raise ValueError(f"{num_classes} classes cannot be cut into {tasks} tasks, one class each. {advice}")
    if num_classes % tasks:
        raise ValueError(f"{num_classes} classes cannot be cut into {tasks} tasks of equal size. {advice}")
    if tasks == num_classes:
        raise ValueError(
            f"{tasks} tasks of {num_classes} classes show one class each, and with one class there is "
            f"nothing to tell apart (class_il: in the first task). {advice}"
        )
