"""Ray Tune keeps the workers of trials that end together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.tune.utils.object_cache import _ObjectCache

from orchestrator.execution.workers import keep_workers


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_as_many_workers_as_run_side_by_side_are_kept_with_nothing_queued(slots: int) -> None:
    cache = _ObjectCache(may_keep_one=True)
    controller = SimpleNamespace(_tune_controller=SimpleNamespace(_actor_cache=cache))
    keep_workers(controller, "one cpu", slots)
    assert [cache.cache_object("one cpu", worker) for worker in range(slots + 1)] == [True] * slots + [False]
    assert list(cache.flush_cached_objects()) == []
    assert list(cache.flush_cached_objects(force_all=True)) == list(range(slots))


def test_a_tune_without_this_cache_is_left_as_it_is() -> None:
    inner = SimpleNamespace(other=1)
    controller = SimpleNamespace(_tune_controller=inner)
    keep_workers(controller, "one cpu", 2)
    assert vars(inner) == {"other": 1}
    assert vars(controller) == {"_tune_controller": inner}
