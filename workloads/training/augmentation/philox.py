"""Random numbers as a pure function of (key, position, block): Philox4x32-10.

A counter-based generator has no state: in whichever order and on whichever device it draws, the word at a
counter is the same. Only integer operations are used, so CPU and CUDA agree to the bit.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
Words = tuple[Tensor, Tensor, Tensor, Tensor]
"""Four words of 32 bits, each int64 in 0..2^32-1."""


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Four random words for each counter; all tensors of one shape.

    int64 holds the 64 bits of a product of two words (it wraps to a negative number, bits unharmed), and the
    mask after the shift undoes the sign.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        a, b = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = (b >> 32).bitwise_and_(WORD).bitwise_xor_(c1).bitwise_xor_(k0)
        c2 = (a >> 32).bitwise_and_(WORD).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = b.bitwise_and_(WORD), a.bitwise_and_(WORD)
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def words(key: int, positions: Tensor, block: int) -> Words:
    """Four words for each position, in a stream of their own for each block.

    Args:
        key: 0..2^64-1.
        positions: int64, 0 or more, any shape.
        block: 0..2^32-1.
    """
    counter = (
        positions & WORD,
        positions >> 32,
        torch.full_like(positions, block),
        torch.zeros_like(positions),
    )
    return philox(counter, (key & WORD, key >> 32))


def uniform(word: Tensor) -> Tensor:
    """float64 in the open interval (0, 1), in steps of 2^-32 (exact)."""
    return (word.double() + 0.5) * 2.0**-32


def below(word: Tensor, bound: int | Tensor) -> Tensor:
    """Integers 0..bound-1 for bounds up to 2^31; the bias is below bound / 2^32."""
    return (word * bound) >> 32


def chance(word: Tensor, probability: float) -> Tensor:
    """True with this probability, to 2^-32; never at 0, always at 1."""
    return word < round(probability * 2**32)
