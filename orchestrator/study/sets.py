"""The OOD sets of a study by the names that metrics, files and reports call them."""

from __future__ import annotations

from workloads.contract import DataConfig
from workloads.data.names import set_name


def near_sets(data: DataConfig) -> tuple[str, ...]:
    """The near-OOD sets; a path by its folder's name."""
    return tuple(set_name(name) for name in data.near_ood)


def far_sets(data: DataConfig) -> tuple[str, ...]:
    """The far-OOD sets; a path by its folder's name."""
    return tuple(set_name(name) for name in data.far_ood)
