"""The numbers of a report: key figures of a single method, and a table of all runs."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from scar_ray.report.groups import Group, first_mean, last_mean
from scar_ray.report.held_out import Evaluations
from scar_ray.report.runs import Run
from scar_ray.report.scale import duration, number, spread

_COLUMNS = ("Method", "Seed", "Final reward", "KL", "First reward", "Steps", "Time", "Compute", "State")


def _last(run: Run, key: str) -> float:
    """Last value of a cumulative metric."""
    values = run.series(key)
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else float("nan")


def _measures(run: Run) -> dict[str, float]:
    rewards = run.series("reward/mean")
    return {
        "first": first_mean(rewards),
        "final": last_mean(rewards),
        "kl": last_mean(run.series("kl/k1")),
        "time": _last(run, "time_s"),
        "cost": _last(run, "cost/total"),
    }


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation of the finite values; NaN where there are too few."""
    known = np.array([value for value in values if np.isfinite(value)])
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def draw_figures(groups: Sequence[Group]) -> str:
    """Key figures where the report is about one method; empty otherwise."""
    if len(groups) != 1 or not any(len(run.steps) for run in groups[0].runs):
        return ""
    runs = groups[0].runs
    measures = [_measures(run) for run in runs]
    mean = {key: _spread([found[key] for found in measures])[0] for key in measures[0]}
    idle = sum(float(np.nansum(run.series("cost/idle"))) for run in runs)
    total = sum(found["cost"] for found in measures)
    steps = max(len(run.steps) for run in runs)
    figures = [
        ("Reward", f"{number(mean['first'])} → {number(mean['final'])}", "first to last 10 % of the steps"),
        ("KL", number(mean["kl"]), "nats per response, last 10 %"),
        ("Steps", f"{steps:,}", f"in {duration(mean['time'])}"),
        ("Compute", duration(mean["cost"]), f"{runs[0].device} time, {100 * idle / total:.0f} % idle"),
    ]
    if not np.isfinite(total) or total <= 0:
        figures.pop()
    written = sum(float(np.nansum(run.series("credit/generated_tokens"))) for run in runs)
    if written > 0:
        figures.append(("Completions", f"{written:,.0f}", "tokens generated for the values of coalitions"))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in figures)
    return f'<dl class="figures">{items}</dl>'


def draw_table(groups: Sequence[Group]) -> str:
    """One row a run; above the runs of several seeds, their mean ± standard deviation."""
    several = any(len(group.runs) > 1 for group in groups)
    seeds = " ± is the standard deviation over the seeds; time and compute beside it are means."
    seeds = seeds if several else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join(f'<tbody data-group="{group.index}">{_rows(group)}</tbody>' for group in groups)
    return (
        '<div class="scroll" role="region" aria-label="Table of the runs" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead>{body}</table></div>"
        '<p class="note">Final reward and KL (nats per response) are means over the last 10 % of the steps '
        f"that a run has done, first reward over its first 10 %.{seeds}</p>"
    )


_HELD_OUT = (
    "Method",
    "Seed",
    "First reward",
    "Last reward",
    "Best reward",
    "Last second model",
    "KL",
    "Distinct-2",
    "Ended",
)


def draw_held_out(found: Sequence[Evaluations]) -> str:
    """The evaluations on held-out prompts, one row a run, each with its standard error over the prompts."""
    gold = any("gold" in run.held_out for each in found for run in each.runs)
    names = [name for name in _HELD_OUT if gold or "model" not in name]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        f'<tbody data-group="{each.group.index}">{"".join(_held_out_row(each, run, gold) for run in each.runs)}</tbody>'
        for each in found
    )
    return (
        '<div class="scroll" role="region" aria-label="Table of the evaluations" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead>{body}</table></div>"
        '<p class="note">First: before training. Last: of the last evaluation, as are KL (k1, nats per response), the '
        "share of distinct word pairs, and the share of responses that ended by themselves. ± is the standard error "
        "over the prompts.</p>"
    )


def _held_out_row(each: Evaluations, run: Run, gold: bool) -> str:
    rewards = run.held_out["reward"]
    best = int(np.nanargmax(rewards))

    def measured(key: str, at: int) -> str:
        if key not in run.held_out:
            return number(float("nan"))
        return spread(float(run.held_out[key][at]), float(run.held_out[f"{key}_stderr"][at]))

    cells = [measured("reward", 0), measured("reward", -1)]
    cells.append(f"{measured('reward', best)} after step {run.held_out['step'][best]:,.0f}")
    cells += [measured("gold", -1)] if gold else []
    cells += [number(float(run.held_out[key][-1])) for key in ("kl_k1", "distinct_2")]
    cells.append(f"{100 * float(run.held_out['eos_share'][-1]):.0f} %")
    return _row(each.group, f'<span title="{html.escape(run.name)}">{run.seed}</span>', cells, "one")


def _rows(group: Group) -> str:
    rows = [_run_row(group, run) for run in group.runs]
    if len(group.runs) > 1:
        rows.insert(0, _mean_row(group))
    return "".join(rows)


def _mean_row(group: Group) -> str:
    measures = [_measures(run) for run in group.runs]

    def average(key: str) -> str:
        return duration(_spread([found[key] for found in measures])[0])

    rewards = [spread(*_spread([found[key] for found in measures])) for key in ("final", "kl", "first")]
    steps = [len(run.steps) for run in group.runs]
    count = f"{steps[0]:,}" if len(set(steps)) == 1 else f"{min(steps):,}–{max(steps):,}"
    return _row(group, f"{len(group.runs)} seeds", [*rewards, count, average("time"), average("cost"), ""], "all")


def _run_row(group: Group, run: Run) -> str:
    found = _measures(run)
    planned = f" of {run.planned:,}" if run.planned is not None and run.planned != len(run.steps) else ""
    cells = [
        number(found["final"]),
        number(found["kl"]),
        number(found["first"]),
        f"{len(run.steps):,}{planned}",
        duration(found["time"]),
        duration(found["cost"]),
        html.escape(run.status),
    ]
    return _row(group, f'<span title="{html.escape(run.name)}">{run.seed}</span>', cells, "one")


def _row(group: Group, seed: str, cells: Sequence[str], kind: str) -> str:
    swatch = f'<i class="swatch" data-group="{group.index}"></i>'
    columns = "".join(f"<td>{cell}</td>" for cell in (seed, *cells))
    return f'<tr class="{kind}"><th scope="row">{swatch}{html.escape(group.label)}</th>{columns}</tr>'
