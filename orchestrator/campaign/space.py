"""The size of an arm's search space."""

from __future__ import annotations

from orchestrator.study.spec import ArmSpec


def space_size(arm: ArmSpec) -> int | None:
    """Number of points in an arm's space; None where it is continuous."""
    size = 1
    for term in arm.space.values():
        if term.kind in ("uniform", "log_uniform"):
            return None
        if term.kind == "int_uniform":
            size *= int(term.values[1]) - int(term.values[0]) + 1
        elif term.kind != "fixed":
            size *= len(term.values)
    return size
