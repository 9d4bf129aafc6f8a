"""One panel of an overview each: a Pareto front, and a critical-difference diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.report.panels import INK, NEUTRAL
from orchestrator.report.statistics import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[Summary, Summary]


def front(points: Mapping[str, tuple[float, float]], lower: tuple[bool, bool]) -> list[str]:
    """The arms that no other one beats or equals in both respects while it beats them in one.

    Args:
        lower: for each respect, whether lower is better.
    Returns: from the best to the worst in the first respect.
    """
    cost = {
        arm: tuple(value if low else -value for value, low in zip(at, lower, strict=True))
        for arm, at in points.items()
    }
    kept = [
        arm
        for arm, (x, y) in cost.items()
        if not any(u <= x and v <= y and (u < x or v < y) for u, v in cost.values())
    ]
    return sorted(kept, key=lambda arm: cost[arm])


def draw_front(
    panel: Axes, points: Mapping[str, Point], colours: Mapping[str, str], lower: tuple[bool, bool]
) -> None:
    """Arms as dots with ± standard deviations, hollow where another is as good in both respects.

    Args:
        points: by arm, what is known of it in both respects, in the units that are shown.
    """
    means = {arm: (x.mean or 0.0, y.mean or 0.0) for arm, (x, y) in points.items()}
    kept = front(means, lower)
    if len(kept) > 1:
        xs, ys = zip(*(means[arm] for arm in kept), strict=True)
        # What lies on the front's corners can be reached by choosing an arm; nothing between two of them can.
        panel.plot(xs, ys, drawstyle="steps-post", color=NEUTRAL, linewidth=1.0, linestyle="--", zorder=1)
    for arm, (x, y) in points.items():
        panel.errorbar(
            *means[arm], xerr=x.std, yerr=y.std, color=colours[arm], linewidth=1.1, alpha=0.5, zorder=2
        )
        fill = colours[arm] if arm in kept else "none"
        panel.scatter(*means[arm], s=42, facecolors=fill, edgecolors=colours[arm], linewidths=1.5, zorder=3)
        # The legend shows every arm filled, wherever it lies.
        panel.scatter([], [], s=42, color=colours[arm], label=arm)
    panel.margins(0.12)
    for axis, low in (("x", lower[0]), ("y", lower[1])):
        if low:
            # Better is always up and to the right.
            getattr(panel, f"invert_{axis}axis")()


def draw_ranks(
    panel: Axes,
    ranked: Sequence[tuple[str, float]],
    colours: Mapping[str, str],
    difference: float,
    groups: Sequence[tuple[int, int]],
) -> None:
    """A critical-difference diagram: mean ranks on a line, 1 at the left, and bars under arms that are alike.

    Args:
        ranked: arms and mean ranks, the best first.
        groups: first and last place of arms that are not distinguishable.
    """
    arms = len(ranked)
    half = -(-arms // 2)
    low = -1.0 - 0.42 * len(groups)
    for place, (arm, rank) in enumerate(ranked):
        left = place < half
        depth = low - 0.2 - 0.8 * (place if left else arms - 1 - place)
        end = 0.75 if left else arms + 0.25
        panel.plot([rank, rank, end], [0, depth, depth], color=colours[arm], linewidth=1.3, zorder=2)
        panel.text(
            end - 0.06 if left else end + 0.06,
            depth,
            f"{arm} ({rank:.2f})",
            ha="right" if left else "left",
            va="center",
            fontsize=9,
        )
        panel.scatter([rank], [0], s=26, color=colours[arm], linewidths=0, zorder=3)
    for level, (first, last) in enumerate(groups):
        ends = [ranked[first][1] - 0.05, ranked[last][1] + 0.05]
        panel.plot(ends, [-0.6 - 0.42 * level] * 2, color=INK, linewidth=3.2, solid_capstyle="butt", zorder=4)
    panel.plot([1, arms], [0, 0], color=INK, linewidth=1.0, zorder=1)
    for rank in range(1, arms + 1):
        panel.plot([rank, rank], [0, 0.25], color=INK, linewidth=1.0)
        panel.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=9)
    shown = min(difference, arms - 1.0)
    panel.plot([1, 1 + shown], [1.6, 1.6], color=INK, linewidth=1.6, marker="|", markersize=8)
    more = "" if difference <= arms - 1 else " (wider than the whole scale)"
    panel.text(1, 1.85, f"critical difference {difference:.2f}{more}", ha="left", va="bottom", fontsize=9)
    longest = max(len(arm) for arm, _ in ranked) + 7
    room = 0.115 * longest * arms / 6 + 0.3
    panel.set_xlim(0.6 - room, arms + 0.4 + room)
    panel.set_ylim(low - 0.2 - 0.8 * half, 2.7)
    panel.set_axis_off()
