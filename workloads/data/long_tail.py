"""Long tails: training images whose classes differ in size by a chosen factor; no pixel is touched.

Source: Cao et al. 2019 (LDAM-DRW), github.com/kaidic/LDAM-DRW, imbalance_cifar.py, class IMBALANCECIFAR10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from workloads.data.images import Index, Labels
from workloads.data.randomness import generator

Profile = Literal["exp", "step"]
"""Sizes fall exponentially from the first class to the last; or the second half of the classes is small."""


def ldam_counts(per_class: float, num_classes: int, profile: Profile, factor: float) -> tuple[int, ...]:
    """Images that each class keeps where all have the same number.

    Args:
        per_class: images of each class, > 0; LDAM's n_max.
        num_classes: C, at least 2.
        factor: size of the first class over that of the last, at least 1; LDAM's imb_factor is 1 / factor.
    Returns: int(n_max * share) for every class, cut off and not rounded as the source does. The products are
        floats, as there: where the exact one is whole it may lose its last image (49 images and factor 49
        give 0). A class may be left with none.
    Raises: ValueError for ``per_class`` or ``factor`` out of range, fewer than 2 classes, another profile.
    Source: ``get_img_num_per_cls``.
    Differs from source: ``step`` with an odd number of classes. The source runs twice over C // 2 classes, so
        that the last has no count and no image; here it is one of the small classes.
    """
    if not (math.isfinite(per_class) and per_class > 0):
        raise ValueError(f"the images of a class must be a finite number > 0; got {per_class!r}")
    return tuple(int(per_class * share) for share in _shares(num_classes, profile, factor))


def long_tail_counts(available: Sequence[int], profile: Profile, factor: float) -> tuple[int, ...]:
    """Images that each class keeps where classes may differ in size.

    n_max is the largest number for which no class is asked for more than it has: min of available / share
    over the classes. So one class at least is kept whole, and the others are cut off as the source does;
    where all have the same number the counts are those of :func:`ldam_counts`.

    Args:
        available: images that each class has.
    Raises: ValueError where a class would be left without an image, for a factor that is not finite or is
        below 1, fewer than 2 classes, another profile.
    """
    shares = _shares(len(available), profile, factor)
    if min(available) < 1:
        empty = min(range(len(available)), key=available.__getitem__)
        raise ValueError(f"a long tail needs an image of every class; class {empty} has {available[empty]}")
    counts = _fitted(available, shares)
    if min(counts) < 1:
        raise ValueError(
            f"a long tail of profile {profile} and factor {factor!r} leaves class {counts.index(0)} without "
            f"an image. The largest whole factor that these classes allow is "
            f"{_largest_factor(available, profile, factor)}"
        )
    return counts


def long_tail_index(labels: Labels, counts: Sequence[int], seed: int) -> Index:
    """Which images are kept: of every class as many as ``counts`` says, at random.

    With the same seed a smaller count keeps a subset of what a larger one keeps, and the choice within a
    class depends on no other class's count.

    Args:
        labels: of all images, 0..C-1 in any order, int64 [N].
        counts: images that each class keeps, 0 or more, [C].
        seed: of the choice.
    Returns: positions, increasing, int64 [sum of counts].
    Raises: ValueError where a class has fewer images than it is to keep, a count is negative, or a label has
        no count.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(counts):
        raise ValueError(
            f"labels must be 0..{len(counts) - 1}, one for each count; "
            f"got labels from {labels.min()} to {labels.max()}"
        )
    kept = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        if not 0 <= count <= len(members):
            raise ValueError(f"class {label} has {len(members)} images; it cannot keep {count}")
        kept[generator("long tail", int(seed), label).permutation(members)[:count]] = True
    return np.flatnonzero(kept)


def _shares(num_classes: int, profile: Profile, factor: float) -> tuple[float, ...]:
    """Size of each class over that of the first: 1 down to 1 / factor."""
    if num_classes < 2:
        raise ValueError(f"a long tail needs 2 classes or more; got {num_classes!r}")
    if not (math.isfinite(factor) and factor >= 1.0):
        raise ValueError(f"the factor of a long tail must be a finite number >= 1; got {factor!r}")
    if profile not in get_args(Profile):
        raise ValueError(f"the profile of a long tail must be exp or step; got {profile!r}")
    rho = 1.0 / factor
    if profile == "exp":
        return tuple(rho ** (i / (num_classes - 1)) for i in range(num_classes))
    full = num_classes // 2
    return (1.0,) * full + (rho,) * (num_classes - full)


def _fitted(available: Sequence[int], shares: Sequence[float]) -> tuple[int, ...]:
    """The counts for the largest n_max that every class can serve."""
    limits = [have / share for have, share in zip(available, shares, strict=True)]
    scarcest = min(range(len(limits)), key=limits.__getitem__)
    n_max = limits[scarcest]
    # (have / share) * share may fall just short of a whole number, which would cost the scarcest class an
    # image that it has. A share of 1 never does, so counts of equal classes stay as in the source.
    while int(n_max * shares[scarcest]) < available[scarcest]:
        n_max = math.nextafter(n_max, math.inf)
    return tuple(int(n_max * share) for share in shares)


def _largest_factor(available: Sequence[int], profile: Profile, too_large: float) -> int:
    """The largest whole factor that leaves every class an image, by bisection: counts of the last class only
    fall as the factor grows, and factor 1 works where every class has an image."""
    works, fails = 1, math.ceil(too_large)
    while fails - works > 1:
        middle = (works + fails) // 2
        if min(_fitted(available, _shares(len(available), profile, middle))) < 1:
            fails = middle
        else:
            works = middle
    return works
