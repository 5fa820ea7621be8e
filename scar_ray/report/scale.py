"""Axes and numbers: ticks at round values, numbers and times as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scar_ray.report.runs import FloatArray


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart."""

    label: str
    low: float
    high: float
    root: bool = False
    """Square-root scale, from 0 on; values below 0 are drawn at 0."""

    def position(self, values: FloatArray) -> FloatArray:
        """Where values are along the axis: 0 at its start, 1 at its end."""
        low, high = self._transformed(np.array([self.low, self.high]))
        return (self._transformed(np.asarray(values, dtype=np.float64)) - low) / (high - low)

    def ticks(self, count: int = 6) -> list[float]:
        """Up to about `count` round values on the axis; on a root scale, values with round roots."""
        if self.root:
            return [tick * tick for tick in round_ticks(math.sqrt(self.low), math.sqrt(self.high), count)]
        return round_ticks(self.low, self.high, count)

    def _transformed(self, values: FloatArray) -> FloatArray:
        return np.sqrt(np.maximum(values, 0.0)) if self.root else values


def fitted_axis(label: str, values: FloatArray, *, margin: float = 0.05) -> Axis:
    """An axis that holds all finite values with a margin on both sides; 0 to 1 when there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Axis(label, 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    room = (high - low) * margin or abs(high) * 0.1 or 0.5
    return Axis(label, low - room, high + room)


def axis_from(label: str, start: float, values: FloatArray, *, root: bool = False) -> Axis:
    """An axis from `start` to the largest finite value."""
    values = values[np.isfinite(values)]
    high = float(values.max()) if len(values) else start
    return Axis(label, start, high if high > start else start + 1.0, root)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high], at most `count`, as close as possible."""
    assert high > low, (low, high)
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= count:
            return [round(k * step, 12) for k in range(first, last + 1)]
    raise AssertionError((low, high, count))


def number(value: float, *, sign: bool = False) -> str:
    """A number with three significant digits: 0.123, 12.3, 1,230, 4.5e−6; an en dash where there is none."""
    if not math.isfinite(value):
        return "–"
    mark = "+" if sign else ""
    if value == 0:
        text = f"{0:{mark}}"
    elif abs(value) >= 99.95:
        text = f"{value:{mark},.0f}"
    elif abs(value) < 1e-3:
        text = f"{value:{mark}.1e}".replace("e-0", "e-")
    else:
        decimals = 2 - math.floor(math.log10(abs(value)))
        text = f"{value:{mark}.{decimals}f}"
    return text.replace("-", "−")


def spread(mean: float, deviation: float) -> str:
    """A mean and a standard deviation to the same decimals, the deviation's second digit: 1.690 ± 0.012."""
    if not math.isfinite(deviation) or deviation == 0:
        return number(mean)
    decimals = max(0, 1 - math.floor(math.log10(abs(deviation))))
    return f"{mean:,.{decimals}f} ± {deviation:,.{decimals}f}".replace("-", "−")


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """The numbers of an axis without digits that say nothing: 0, 0.5, 1; 0, 5k, 10k; 0, 1e−4, 2e−4."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    size, unit = (1e6, "M") if largest >= 1e6 else (1e3, "k") if largest >= 1e4 else (1.0, "")
    return [_tick_text(tick / size) + (unit if tick else "") for tick in ticks]


def _tick_text(value: float) -> str:
    text = f"{value:.0e}" if 0 < abs(value) < 1e-3 and float(f"{value:.0e}") == value else f"{value:.6g}"
    return text.replace("e-0", "e-").replace("-", "−")


def duration(seconds: float) -> str:
    """A length of time: 0.42 s, 42 s, 3 min 12 s, 1 h 4 min, 2 d 3 h; an en dash where there is none."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{number(seconds)} s"
    total = round(seconds)
    for size, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= size:
            rest = total % size // part
            return f"{total // size:,} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{total} s"


def time_unit(seconds: float) -> tuple[float, str]:
    """Unit in which to draw times up to `seconds`: its length in seconds, and its name."""
    if seconds < 600:
        return 1.0, "seconds"
    if seconds < 5 * 3600:
        return 60.0, "minutes"
    return 3600.0, "hours"
