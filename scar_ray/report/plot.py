"""One line chart: lines as SVG that stretches with the page, text as HTML that keeps its size."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from scar_ray.report.runs import FloatArray
from scar_ray.report.scale import Axis, tick_texts

_SIZE = 1000
"""Width and height of the SVG's own coordinates; strokes do not scale with them."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve. `x`, `y` and `steps` have the same length; NaN is a gap."""

    group: int
    name: str
    x: FloatArray
    y: FloatArray
    steps: FloatArray
    bold: bool
    """The curve of a group: thick, with a read-out; else the curve of one seed: thin."""
    gold: bool = False
    """What the second reward model says: dotted."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A ring around a point of a chart."""

    group: int
    x: float
    y: float
    text: str
    """What is told on hover and on focus."""


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """One chart. The read-out snaps to a value of x, or (`free`) to the nearest point of a path."""

    key: str
    title: str
    note: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    summary: str
    """The chart in words, for those who do not see it."""
    free: bool = False
    small: bool = False
    marks: tuple[Mark, ...] = ()


def thinned(values: FloatArray, limit: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Indices of at most about `limit` values to draw: the ends, and the extremes of each stretch between."""
    count = len(values)
    if count <= limit:
        return np.arange(count)
    edges = np.linspace(0, count, limit // 2 + 1).astype(int)
    filled = np.where(np.isfinite(values), values, np.nanmean(values) if np.isfinite(values).any() else 0.0)
    kept = {0, count - 1}
    for low, high in pairwise(edges):
        stretch = filled[low:high]
        kept |= {low + int(stretch.argmin()), low + int(stretch.argmax())}
    return np.array(sorted(kept))


def path_data(x: FloatArray, y: FloatArray) -> str:
    """The `d` of an SVG path through positions in 0..1 (y upwards); starts anew after a gap."""
    parts, pen = [], "M"
    for px, py in zip(np.round(x * _SIZE, 1), np.round((1 - y) * _SIZE, 1), strict=True):
        if not (np.isfinite(px) and np.isfinite(py)):
            pen = "M"
            continue
        parts.append(f"{pen}{px:g} {py:g}")
        pen = "L"
    return "".join(parts)


def draw(plot: Plot, limit: int) -> tuple[str, dict[str, Any]]:
    """The chart as HTML with at most about `limit` points a line, and the data of its read-out."""
    paths, series = [], []
    for line in sorted(plot.lines, key=lambda line: line.bold):
        kept = thinned(line.y, limit)
        x, y = line.x[kept], line.y[kept]
        kind = ("mean" if line.bold else "seed") + (" gold" if line.gold else "")
        d = path_data(plot.x.position(x), plot.y.position(y))
        paths.append(f'<path class="{kind}" data-group="{line.group}" d="{d}"/>')
        if line.bold:
            series.append(_readout(line, kept))
    data = {
        "x": [plot.x.label, plot.x.low, plot.x.high, plot.x.root],
        "y": [plot.y.label, plot.y.low, plot.y.high],
        "free": plot.free,
        "series": series,
    }
    return _figure(plot, "".join(paths)), data


def _readout(line: Line, kept: np.ndarray[Any, np.dtype[np.intp]]) -> dict[str, Any]:
    kept = kept[np.isfinite(line.x[kept]) & np.isfinite(line.y[kept])]
    return {
        "group": line.group,
        "name": line.name,
        "x": [float(f"{value:.5g}") for value in line.x[kept]],
        "y": [float(f"{value:.5g}") for value in line.y[kept]],
        "step": [int(step) for step in line.steps[kept]],
    }


def _figure(plot: Plot, paths: str) -> str:
    few = 4 if plot.small else 6
    x_ticks, y_ticks = plot.x.ticks(few), plot.y.ticks(few)
    x_at, y_at = plot.x.position(np.array(x_ticks)), plot.y.position(np.array(y_ticks))
    grid = "".join(f"M0 {_SIZE * (1 - at):.1f}H{_SIZE}" for at in y_at)
    grid += "".join(f"M{_SIZE * at:.1f} {_SIZE}v12" for at in x_at)
    labels = _labels("yt", "bottom", y_ticks, y_at) + _labels("xt", "left", x_ticks, x_at)
    zero = plot.y.low < 0 < plot.y.high
    base = (
        f'<path class="zero" d="M0 {_SIZE * (1 - float(plot.y.position(np.array(0.0)))):.1f}H{_SIZE}"/>' if zero else ""
    )
    empty = "" if plot.lines else '<p class="empty">No steps yet.</p>'
    text = html.escape
    return (
        f'<figure class="chart{" small" if plot.small else ""}" id="{plot.key}">'
        f"<figcaption><h3>{text(plot.title)}</h3><p>{text(plot.note)}</p></figcaption>"
        f'<div class="ylabel">{text(plot.y.label)}</div>'
        f'<div class="plot" data-chart="{plot.key}" tabindex="0" role="img" '
        f'aria-label="{text(plot.summary)}">'
        f'<svg viewBox="0 0 {_SIZE} {_SIZE}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="grid" d="{grid}"/>{base}{paths}</svg>{labels}{_marks(plot)}{empty}</div>'
        f'<div class="xlabel">{text(plot.x.label)}</div></figure>'
    )


def _marks(plot: Plot) -> str:
    return "".join(
        f'<i class="mark" data-group="{mark.group}" tabindex="0" title="{html.escape(mark.text)}" '
        f'style="left:{100 * float(plot.x.position(np.array(mark.x))):.2f}%;'
        f'bottom:{100 * float(plot.y.position(np.array(mark.y))):.2f}%"></i>'
        for mark in plot.marks
    )


def _labels(kind: str, side: str, ticks: Sequence[float], positions: FloatArray) -> str:
    return "".join(
        f'<span class="{kind}" style="{side}:{100 * at:.2f}%">{tick}</span>'
        for tick, at in zip(tick_texts(ticks), positions, strict=True)
    )
