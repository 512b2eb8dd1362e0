"""What figures share: colours that the colour-blind tell apart, lines that differ in print, plain axes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito (2008)."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
ORDERED = "viridis"
"""A colour map for what has an order, also in grey."""
SIGNED = "BrBG"
"""A colour map for differences: brown below zero, green above."""
DPI, SCREEN_DPI = 150, 110


def new_figure(
    rows: int = 1, width: float = 6.5, height: float = 3.4, **grid: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches with ``rows`` panels below each other. It is drawn without a
    window and belongs to no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, 1, squeeze=False, **grid)[:, 0]
    return figure, list(panels)


def label(axes: Axes, x: str | None = None, y: str | None = None, title: str | None = None) -> None:
    """Name the axes, with units; take away the frame that says nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    if x is not None:
        axes.set_xlabel(x)
    if y is not None:
        axes.set_ylabel(y)
    if title is not None:
        axes.set_title(title, fontsize=10, loc="left")


def legend(axes: Axes, names: Sequence[Any], above: bool = False) -> None:
    """A legend beside the axes or ``above`` them, where it covers nothing; none where there is one thing."""
    if len(names) < 2:
        return
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "ncols": 1 + len(names) // 16}
    if above:
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "ncols": len(names) + 1}
    axes.legend(frameon=False, fontsize=8, **place)


def look(number: int, of: int) -> dict[str, Any]:
    """Colour and dashes of line ``number``: by kind up to seven, along one colour map for more."""
    if of <= len(COLORS):
        return {"color": COLORS[number], "linestyle": DASHES[number]}
    from matplotlib import colormaps

    return {"color": colormaps[ORDERED](0.92 * number / (of - 1)), "linestyle": "-"}


def short(kind: str) -> str:
    """``attention.self.query_proj`` -> ``attention.query``, ``output.dense`` -> ``output``: what tells kinds
    of projections apart, short enough for an axis."""
    parts = [part.removesuffix("_proj") for part in kind.split(".") if part not in ("self", "self_attn")]
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "dense" else parts)


def padded(low: float, high: float) -> tuple[float, float]:
    """The range, never empty."""
    return (low, high) if np.isfinite([low, high]).all() and high > low else (low - 0.5, low + 0.5)


def save(figure: Figure, path: Path) -> None:
    """Write ``figure``: PNG, or PDF and SVG by the ending of ``path``."""
    figure.savefig(path, dpi=DPI)


def png(figure: Figure) -> bytes:
    """``figure`` as it goes into a page."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=SCREEN_DPI)
    return stream.getvalue()
