"""What several tests of this folder share."""

from __future__ import annotations

import pytest

from tests.workloads.small_trials import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Data that are prepared once for all tests."""
    return Bench(tmp_path_factory.mktemp("bench"))
