"""Which configurations are audited: drawn at random, by a rule that was fixed before anything ran.

Two questions, a draw each. *Pruning*: of the configurations that the pruner stopped, would one have won?
Those that could not win any more whatever came (their mean would stay behind the best even with perfect
values) are no question, and would only make the pruner look better. *Proxy*: does the noise FPR95 order
configurations as real OOD does? Drawn from all that were searched and did not fail.

Both draws follow one order of an arm's configurations, which the study's sampler seed fixes and no result
bears on. So a larger number adds to a smaller one, and what both draw is trained once. The best are not
preferred: they would say how wrong pruning can be, but not how often it is, and a narrow range of noise FPR95
hides any order.

Every audited configuration is trained on all search seeds, as its value in the search is the mean over them.
Repeats of a search are not audited: the tables rest on the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.campaign import stops
from orchestrator.campaign.record import ArmRecord, ConfigurationRecord
from orchestrator.study.spec import StudySpec
from orchestrator.study.terms import space_size


@dataclass(frozen=True)
class Draw:
    """The audited configurations of an arm, by number, in the order in which they were drawn."""

    pruned: tuple[int, ...] = ()
    """For the pruning audit."""
    proxy: tuple[int, ...] = ()
    """For the proxy audit."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of both, each once."""
        return tuple(dict.fromkeys((*self.pruned, *self.proxy)))

    def of(self, number: int) -> tuple[str, ...]:
        """The audits that drew a configuration."""
        both = {"pruned": self.pruned, "proxy": self.proxy}
        return tuple(name for name, drawn in both.items() if number in drawn)


def draw(spec: StudySpec, arm: ArmRecord) -> Draw:
    """What of an arm is audited; nothing before its winner is frozen, or where nothing is searched."""
    asked = spec.audit
    searched = space_size(spec.arms[arm.name].space) != 1
    if (asked.pruned is None and asked.proxy is None) or arm.selected is None or arm.repeat or not searched:
        return Draw()
    order = _order(spec.search.sampler_seed, arm.name, len(arm.configurations))
    stopped = [n for n in order if stop_of(spec, arm.configurations[n]) is not None]
    tried = [n for n in order if arm.configurations[n].state in ("complete", "pruned")]
    return Draw(
        tuple(stopped[: asked.pruned or 0]),
        tuple(tried[: asked.proxy.configurations if asked.proxy else 0]),
    )


def stop_of(spec: StudySpec, configuration: ConfigurationRecord) -> stops.Stop | None:
    """Where the pruner stopped a configuration of a first search, if it did."""
    return stops.read(configuration.reason, spec.search.seeds)


def audit_trials(spec: StudySpec, arm: ArmRecord) -> Iterator[tuple[int, int]]:
    """(number, seed) of every audit trial of an arm, in the order in which they run."""
    for number in draw(spec, arm).numbers:
        for seed in spec.search.seeds:
            yield number, seed


@lru_cache(maxsize=256)
def _order(sampler_seed: int, arm: str, count: int) -> tuple[int, ...]:
    """The numbers below ``count``, shuffled; with a larger count the new ones only go in between."""

    def place(number: int) -> bytes:
        return hashlib.sha256(repr(("audit", sampler_seed, arm, number)).encode()).digest()

    return tuple(sorted(range(count), key=place))
