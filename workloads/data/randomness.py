"""Random numbers that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*purpose: str | int | float) -> np.random.Generator:
    """A generator of its own for one purpose.

    Two different purposes give unrelated streams; the same purpose always gives the same stream, whatever
    was drawn before, in this process or in another. No global state is read or changed.

    Args:
        purpose: what the numbers are for, e.g. ``("noise", seed, sigma)``.
    """
    text = "\x1f".join(repr(part) for part in purpose)
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
