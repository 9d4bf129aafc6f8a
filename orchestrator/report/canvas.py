"""What all figures share: the look, a grid of panels, a legend, and a drawing as SVG and PNG.

Drawn with matplotlib's Agg and SVG back ends, never with pyplot: no display, no global state.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.report.comparison import ordered_arms
from orchestrator.report.panels import INK
from orchestrator.study.spec import StudySpec

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
"""Colours that colour-blind readers tell apart (Okabe and Ito 2008; black and yellow, unreadable on one
of the two page colours, give way to a brown)."""
PAPER = "#ffffff"
STYLE: dict[str, object] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#8a8f98",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
    "savefig.facecolor": PAPER,
    # Two builds from one record give the same bytes.
    "svg.hashsalt": "orchestrate",
    "svg.fonttype": "none",
    # A dollar sign in a user's text is a dollar sign.
    "text.parse_math": False,
}
PANEL_WIDTH, PANEL_HEIGHT = 3.7, 2.9
"""Inches."""
COLUMNS = 3
PNG_DPI = 144


@dataclass(frozen=True)
class Drawing:
    """One figure, drawn."""

    name: str
    """Of its files, without the ending."""
    title: str
    caption: str
    width_pixels: int
    """At which its text has the size of the page's small print."""
    svg: str
    png: bytes
    section: str = ""
    """Of the page, under which it stands with others of its kind."""

    @property
    def inline_svg(self) -> str:
        """For an HTML page: no prolog, own ids, colours that follow the page's scheme."""
        body = self.svg[self.svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
        body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
        body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
        body = re.sub(r'\bid="', f'id="{self.name}-', body)
        body = re.sub(r'href="#', f'href="#{self.name}-', body)
        body = body.replace("url(#", f"url(#{self.name}-")
        return body.replace(INK, "currentColor").replace(PAPER, "none")


def arm_colour(spec: StudySpec, arm: str) -> str:
    """The same in every figure."""
    return OKABE_ITO[ordered_arms(spec).index(arm) % len(OKABE_ITO)]


def arm_line(spec: StudySpec, arm: str) -> str:
    """A line style, so that arms of the same colour can be told apart."""
    return ("-", "--", "-.", ":")[ordered_arms(spec).index(arm) // len(OKABE_ITO) % 4]


def grid_of_panels(
    count: int, height: float = PANEL_HEIGHT, columns: int = COLUMNS
) -> tuple[Figure, list[Axes]]:
    """Panels row by row, at most so many side by side.

    Args:
        height: of a row, inches.
    """
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    # A narrow figure still has to hold its legend in one line.
    figure = Figure((max(columns * PANEL_WIDTH, 5.2), rows * height + 0.4), layout="constrained")
    panels = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    return figure, panels


def legend_below(figure: Figure, panels: list[Axes]) -> None:
    entries: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=min(len(entries), 4)
        )


def drawn(figure: Figure, name: str, title: str, caption: str) -> Drawing:
    """The figure as SVG and PNG: laid out once and drawn twice (``savefig`` would do each twice as often)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from PIL import Image

    width = round(96 * figure.get_figwidth())
    figure.set_dpi(PNG_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.StringIO()
    Image.fromarray(pixels).convert("RGB").save(png, "PNG", compress_level=4)
    plain = {"Date": None, "Creator": None}
    FigureCanvasSVG(figure).print_svg(svg, metadata=plain)  # type: ignore[no-untyped-call]
    return Drawing(name, title, caption, width, svg.getvalue(), png.getvalue())


@contextmanager
def style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        yield


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "arm"
