"""Which image goes where: classes chosen and relabelled, parts split class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.data.images import Images
from workloads.data.sizes import share


def stratified(images: Images, fraction: float, rng: np.random.Generator) -> tuple[Images, Images]:
    """Split off the same fraction of every class, at random.

    Args:
        images: all of them, in any order.
        fraction: share to split off, in (0, 1); see :func:`workloads.data.sizes.share` for the rounding.
        rng: decides which images of a class are split off.
    Returns: (the rest, the part split off), each in the order of ``images``.
    Raises: ValueError for a fraction outside (0, 1), or a class of one image.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"the share to split off must be in (0, 1); got {fraction!r}")
    taken = np.zeros(len(images), dtype=bool)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        if len(members) < 2:
            raise ValueError(f"a class needs 2 images or more to be split; class {label} has {len(members)}")
        taken[rng.permutation(members)[: share(len(members), fraction)]] = True
    return images.take(np.flatnonzero(~taken)), images.take(np.flatnonzero(taken))


def select_classes(images: Images, classes: Sequence[int]) -> Images:
    """The images of ``classes`` only, relabelled 0..C-1 in the order of ``classes``."""
    chosen = np.asarray(classes, dtype=np.int64)
    index = np.flatnonzero(np.isin(images.labels, chosen))
    matches = images.labels[index][:, None] == chosen[None, :]
    return Images(images.images[index], matches.argmax(axis=1).astype(np.int64))


def without_classes(images: Images, classes: Sequence[int]) -> Images:
    """The images of every class but ``classes``, with the source's own labels."""
    return images.take(np.flatnonzero(~np.isin(images.labels, np.asarray(classes))))
