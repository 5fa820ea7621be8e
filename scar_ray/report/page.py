"""Puts the report together: one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scar_ray.report.bars import cost_bars, draw_bars, phase_bars
from scar_ray.report.curves import diagnostics, reward_curves
from scar_ray.report.frame import POLICY, document
from scar_ray.report.groups import Group, group_runs
from scar_ray.report.held_out import evaluations, held_out_curves, small_curves
from scar_ray.report.plot import Plot, draw
from scar_ray.report.responses import draw_responses
from scar_ray.report.runs import Run
from scar_ray.report.table import draw_figures, draw_held_out, draw_table
from scar_ray.report.timeline import draw_timelines

_HERE = Path(__file__).parent
_COLOURS, _DASHES = 8, 4
_POINTS = 24_000
"""Points to draw in one chart, over all its lines."""


def render(runs: Sequence[Run], first: tuple[str, str] | None = None) -> str:
    """The report on `runs` as one HTML page; it loads nothing, and its policy forbids that it does.

    `first` is the title and the HTML of a section that comes before all others.
    """
    groups = group_runs(runs)
    data: dict[str, Any] = {}
    curves = _charts(reward_curves(groups), data)
    small = _charts(diagnostics(groups), data)
    found = evaluations(groups)
    held_out = _charts(held_out_curves(found), data)
    measures = _charts(small_curves(found), data)
    device = " and ".join(sorted({run.device for run in runs}))
    seeds = ", mean of the seeds" if len(groups) < len(runs) else ""
    bars = draw_bars(
        "phases",
        "Time per phase",
        "Mean seconds of a training step. Phases may overlap in time.",
        phase_bars(groups),
    ) + draw_bars("cost", "Cost by role", f"{device} time of a run so far{seeds}.", cost_bars(groups))
    responses = "".join(draw_responses(group, is_open=group is groups[0]) for group in groups)
    sections = [
        _section("first", *first) if first else "",
        _section("summary", "Summary", draw_figures(groups) + draw_table(groups)),
        _section("learning", "Learning", f"{_legend(groups)}<div class='grid'>{curves}</div>"),
        _section(
            "held-out",
            "Held-out prompts",
            f"<div class='grid'>{held_out}</div><div class='grid three'>{measures}</div>{draw_held_out(found)}"
            if found
            else "",
        ),
        _section("time", "Time and cost", f"<div class='grid'>{bars}</div>" if bars else ""),
        _section("timeline", "Who did what when", draw_timelines(groups)),
        _section("responses", "Responses", _HEAT_MAP_NOTE + responses if responses else ""),
        _section("health", "Health of the training", f"<div class='grid three'>{small}</div>" if small else ""),
    ]
    return _document(runs, groups, "".join(sections), data)


_HEAT_MAP_NOTE = (
    '<p class="note">Credit of each unit of a response, at the first and at the last sampled step. Blue with a '
    "solid line: it earned reward. Orange with a dotted line: it cost reward. The stronger, the more. Prompts "
    "are grey. Point at a unit, tap it, or reach it with Tab and the arrow keys to read its number.</p>"
    '<label class="switch"><input type="checkbox" id="numbers"> Show all numbers</label>'
)


def _charts(plots: Sequence[Plot], data: dict[str, Any]) -> str:
    drawn = []
    for plot in plots:
        limit = min(1500, max(150, _POINTS // max(1, len(plot.lines))))
        figure, data[plot.key] = draw(plot, 300 if plot.small else limit)
        drawn.append(figure)
    return "".join(drawn)


def _section(key: str, title: str, body: str) -> str:
    return (
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{title}</h2>{body}</section>' if body else ""
    )


def _legend(groups: Sequence[Group]) -> str:
    """One button a group: its line and name; pressing it brings its curves forward."""
    items = "".join(
        f'<li><button type="button" aria-pressed="false" data-group="{group.index}">'
        '<svg viewBox="0 0 34 8" aria-hidden="true"><path class="mean" '
        f'data-group="{group.index}" d="M1 4H33"/></svg>{html.escape(group.label)}'
        f"<small>{_seeds(group)}</small></button></li>"
        for group in groups
    )
    return f'<ul class="legend" aria-label="Methods">{items}</ul>'


def _seeds(group: Group) -> str:
    return f"{len(group.runs)} seeds" if len(group.runs) > 1 else f"seed {group.runs[0].seed}"


def _group_styles(groups: Sequence[Group]) -> str:
    """Colour and dash pattern of each group: the colours come again with another dash."""
    dashes = ("none", "9 3", "3 2.5", "9 3 2 3")
    return "".join(
        f'[data-group="{group.index}"]{{--c:var(--c{group.index % _COLOURS});'
        f"--dash:{dashes[(group.index + group.index // _COLOURS) % _DASHES]}}}"
        for group in groups
    )


def _document(runs: Sequence[Run], groups: Sequence[Group], body: str, data: dict[str, Any]) -> str:
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    style = (_HERE / "report.css").read_text(encoding="utf-8") + _group_styles(groups)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"{POLICY}; script-src 'sha256-{digest}'"
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    tasks = " and ".join(sorted({run.task for run in runs}))
    heading = _heading(runs, groups)
    json_data = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = (
        f'<header><p class="brand">scar_ray</p><h1>{html.escape(heading)}</h1>'
        f'<p class="sub">{count} on task {html.escape(tasks)}. {_state(runs)}</p></header>'
        f'<main>{body}</main><div id="tip" hidden></div><div id="live" class="hidden" role="status"></div>'
        f'<script type="application/json" id="data">{json_data}</script>'
        f"<script>{script}</script>"
    )
    return document(heading, style, page, policy=policy)


def _heading(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """The run's name, or the methods where they fit a line."""
    methods = ", ".join(group.label for group in groups)
    if len(runs) == 1:
        return runs[0].name
    return methods if len(methods) <= 60 else f"{len(groups)} methods"


def _state(runs: Sequence[Run]) -> str:
    """Whether these are final numbers."""
    states = [run.status for run in runs]
    if set(states) == {"done"}:
        return "The run is done." if len(runs) == 1 else "All runs are done."
    if len(runs) == 1:
        return {"running": "The run is still going; this is how far it is."}.get(
            states[0], f"The run {html.escape(states[0])}."
        )
    counted = ", ".join(f"{states.count(state)} {html.escape(state)}" for state in sorted(set(states)))
    return f"State of the runs: {counted}."
