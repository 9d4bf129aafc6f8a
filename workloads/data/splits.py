"""Which image goes where: classes chosen and relabelled, parts split class by class; no pixel is touched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.data.images import Index, Labels
from workloads.data.sizes import share


def stratified(labels: Labels, fraction: float, rng: np.random.Generator) -> tuple[Index, Index]:
    """Split off the same fraction of every class, at random.

    With equal generators a smaller fraction takes a subset of what a larger one takes.

    Args:
        labels: of all images, in any order.
        fraction: share to split off, in (0, 1); see :func:`workloads.data.sizes.share` for the rounding.
        rng: decides which images of a class are split off.
    Returns: (the rest, the part split off), each increasing.
    Raises: ValueError for a fraction outside (0, 1), or a class of one image.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"the share to split off must be in (0, 1); got {fraction!r}")
    taken = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise ValueError(f"a class needs 2 images or more to be split; class {label} has {len(members)}")
        taken[rng.permutation(members)[: share(len(members), fraction)]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def select_classes(labels: Labels, classes: Sequence[int]) -> tuple[Index, Labels]:
    """(The images of ``classes`` only, in their order; their labels, 0..C-1 in the order of ``classes``)."""
    chosen = np.asarray(classes, dtype=np.int64)
    index = np.flatnonzero(np.isin(labels, chosen))
    matches = labels[index][:, None] == chosen[None, :]
    return index, matches.argmax(axis=1).astype(np.int64)


def without_classes(labels: Labels, classes: Sequence[int]) -> Index:
    """The images of every class but ``classes``."""
    return np.flatnonzero(~np.isin(labels, np.asarray(classes)))
