"""Order and conditions of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Worked values and data sets that developers have beside the checkout; users do not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; what needs a thing that is not here is skipped with a word."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    missing = pytest.mark.skip(reason=f"needs the shared folder beside the checkout ({SHARED.name}/)")
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(missing)
