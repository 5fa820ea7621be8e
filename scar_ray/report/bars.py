"""Stacked bars: seconds of a step by phase, device-seconds of a run by role."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scar_ray.report.groups import Group
from scar_ray.report.runs import Run
from scar_ray.report.scale import duration

PHASES = ("rollout", "reward", "forward", "update", "sync")
ROLES = ("rollout", "reward", "learner", "idle")


@dataclass(frozen=True, slots=True)
class Bar:
    """One stacked bar."""

    label: str
    group: int
    parts: tuple[tuple[str, float], ...]
    """Name and seconds of each part."""

    @property
    def total(self) -> float:
        return sum(seconds for _, seconds in self.parts)

    def told(self) -> list[str]:
        """Each part in words: "update 0.82 s, 49 %"."""
        return [f"{name} {duration(value)}, {self.percent(value):.0f} %" for name, value in self.parts]

    def percent(self, seconds: float) -> float:
        return 100 * seconds / self.total


def phase_bars(groups: Sequence[Group]) -> list[Bar]:
    """Mean seconds of a step in each phase, over all steps and seeds of a group."""
    return _bars(groups, PHASES, lambda run, name: _mean(run, f"time/{name}"))


def cost_bars(groups: Sequence[Group]) -> list[Bar]:
    """Device-seconds of a run by role, mean over the seeds of a group."""
    return _bars(groups, ROLES, lambda run, name: float(np.nansum(run.series(f"cost/{name}"))))


def _mean(run: Run, key: str) -> float:
    values = run.series(key)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else 0.0


def _bars(groups: Sequence[Group], names: Sequence[str], measure: Callable[[Run, str], float]) -> list[Bar]:
    bars = []
    for group in groups:
        parts = tuple((name, float(np.mean([measure(run, name) for run in group.runs]))) for name in names)
        bar = Bar(group.label, group.index, parts)
        if bar.total > 0:
            bars.append(bar)
    return bars


def draw_bars(key: str, title: str, note: str, bars: Sequence[Bar]) -> str:
    """The bars as HTML, all on one scale; every part's numbers on hover, the whole bar's on focus."""
    if not bars:
        return ""
    longest = max(bar.total for bar in bars)
    rows = "".join(_row(bar, longest) for bar in bars)
    swatches = "".join(f'<li><i class="part {name}"></i>{name}</li>' for name, _ in bars[0].parts)
    return (
        f'<figure class="chart bars" id="{key}"><figcaption><h3>{html.escape(title)}</h3>'
        f"<p>{html.escape(note)}</p></figcaption>"
        f'<ul class="parts" aria-label="Parts, in the order of the bars">{swatches}</ul>{rows}</figure>'
    )


def _row(bar: Bar, longest: float) -> str:
    told = bar.told()
    parts = "".join(
        f'<span class="part {name}" style="width:{bar.percent(value):.2f}%" title="{text}">'
        f"{_inside(bar, value, longest)}</span>"
        for (name, value), text in zip(bar.parts, told, strict=True)
        if value > 0
    )
    label = html.escape(bar.label)
    return (
        f'<div class="barrow" data-group="{bar.group}"><div class="barlabel">{label}</div>'
        f'<div class="bartotal">{duration(bar.total)}</div>'
        f'<div class="bar" tabindex="0" role="img" aria-label="{label}: {"; ".join(told)}" '
        f'style="width:{100 * bar.total / longest:.2f}%">{parts}</div></div>'
    )


def _inside(bar: Bar, seconds: float, longest: float) -> str:
    """The part's share, written into it where it is wide enough."""
    return f"<b>{bar.percent(seconds):.0f} %</b>" if seconds >= 0.1 * longest else ""
