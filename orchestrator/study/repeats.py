"""The repeats of an arm's search: which there are, and what each draws and trains with.

Repeat 0 is the search as it would be alone. Every other draws with a sampler seed of its own and trains on
seeds of its own, so that no result of one repeat bears on another.
"""

from __future__ import annotations

import dataclasses
import hashlib

from orchestrator.study.spec import StudySpec
from orchestrator.study.terms import space_size

SEED_STEP = 10_000
"""Between the training seeds of a repeat and those of the next."""


def count(spec: StudySpec, arm: str) -> int:
    """How often an arm is searched; once where there is nothing to search, as every repeat would choose the
    same."""
    return 1 if space_size(spec.arms[arm].space) == 1 else spec.search.repeats


def search_seeds(spec: StudySpec, repeat: int) -> tuple[int, ...]:
    """The training seeds of a repeat's configurations."""
    return tuple(seed + SEED_STEP * repeat for seed in spec.search.seeds)


def as_repeat(spec: StudySpec, repeat: int) -> StudySpec:
    """The study as one of its repeats searches it; the study itself for repeat 0."""
    if repeat == 0:
        return spec
    digest = hashlib.sha256(repr(("repeat", spec.search.sampler_seed, repeat)).encode()).digest()
    search = dataclasses.replace(
        spec.search,
        seeds=search_seeds(spec, repeat),
        sampler_seed=int.from_bytes(digest[:4], "big"),
    )
    return dataclasses.replace(spec, name=f"{spec.name} repeat {repeat}", search=search)
