"""The line charts of a report: reward against step, KL and compute, and how training went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scar_ray.report.groups import Group, first_mean, last_mean, moving_average
from scar_ray.report.plot import Line, Plot
from scar_ray.report.runs import FloatArray, Run
from scar_ray.report.scale import Axis, axis_from, fitted_axis, number, time_unit

_DIAGNOSTICS = (
    ("kl/k1", "KL to the reference", "nats per response", True),
    ("ppo/entropy", "Entropy", "nats per token", False),
    ("length/mean", "Response length", "tokens", False),
    ("ppo/clip_fraction", "Clipped tokens", "share", True),
    ("ppo/explained_variance", "Explained variance of the critic", "1 is perfect", False),
    ("engine/logprob_gap_max", "Engine against learner", "largest log-prob difference, nats", True),
)


def reward_curves(groups: Sequence[Group]) -> list[Plot]:
    """Reward against training step, against KL, and against device-seconds."""
    if len({run.task for group in groups for run in group.runs}) > 1:
        warning = " Rewards of different tasks are not comparable."
    else:
        warning = ""
    return [_against_step(groups, warning), _against_kl(groups), _against_compute(groups)]


def _against_step(groups: Sequence[Group], warning: str) -> Plot:
    thin, thick = _window(groups, 400), _window(groups, 30)
    lines = _seed_lines(groups, "step", "reward/mean", thin)
    lines += _mean_lines(groups, "step", "reward/mean", thick)
    return Plot(
        key="reward-step",
        title="Reward against training step",
        note=_note(groups, thin, thick) + warning,
        x=_step_axis("training step", _all(lines, "x")),
        y=fitted_axis("reward, mean of the batch", _all(lines, "y")),
        lines=lines,
        summary="Reward against training step. " + _story(groups, "reward/mean", ""),
    )


def _against_kl(groups: Sequence[Group]) -> Plot:
    window = _window(groups, 20)
    lines = _seed_lines(groups, "kl/k1", "reward/mean", window)
    lines += _mean_lines(groups, "kl/k1", "reward/mean", window)
    return Plot(
        key="reward-kl",
        title="Reward against KL",
        note="The price of the reward. " + _note(groups, window, window),
        x=axis_from("KL to the reference, nats per response (square-root scale)", 0.0, _all(lines, "x"), root=True),
        y=fitted_axis("reward, mean of the batch", _all(lines, "y")),
        lines=lines,
        summary="Reward against KL to the reference. " + _story(groups, "kl/k1", " nats"),
        free=True,
    )


def _against_compute(groups: Sequence[Group]) -> Plot:
    thin, thick = _window(groups, 400), _window(groups, 30)
    lines = _seed_lines(groups, "cost/total", "reward/mean", thin)
    lines += _mean_lines(groups, "cost/total", "reward/mean", thick)
    costs = _all(lines, "x")
    size, unit = time_unit(float(np.nanmax(costs)) if np.isfinite(costs).any() else 0.0)
    lines = tuple(Line(li.group, li.name, li.x / size, li.y, li.steps, li.bold) for li in lines)
    devices = {run.device for group in groups for run in group.runs}
    device = devices.pop() if len(devices) == 1 else "device"
    return Plot(
        key="reward-compute",
        title="Reward against compute",
        note="All roles, idle time included. " + _note(groups, thin, thick),
        x=axis_from(f"compute so far, {device}-{unit}", 0.0, _all(lines, "x")),
        y=fitted_axis("reward, mean of the batch", _all(lines, "y")),
        lines=lines,
        summary="Reward against compute. " + _story(groups, "reward/mean", ""),
    )


def diagnostics(groups: Sequence[Group]) -> list[Plot]:
    """Small charts of how training went, of the metrics that any run has."""
    window = _window(groups, 30)
    plots = []
    for key, title, unit, from_zero in _DIAGNOSTICS:
        lines = _mean_lines(groups, "step", key, window)
        values = _all(lines, "y")
        if not np.isfinite(values).any():
            continue
        plots.append(
            Plot(
                key=key.replace("/", "-"),
                title=title,
                note="",
                x=_step_axis("step", _all(lines, "x")),
                y=axis_from(unit, 0.0, 1.05 * values) if from_zero else fitted_axis(unit, values),
                lines=lines,
                summary=f"{title} against training step. " + _story(groups, key, ""),
                small=True,
            )
        )
    return plots


def _step_axis(label: str, steps: FloatArray) -> Axis:
    """From 0, or from the first step where that is far from 0."""
    first = float(steps.min()) if len(steps) else 0.0
    return axis_from(label, first if first > 0.1 * steps.max(initial=0.0) else 0.0, steps)


def _window(groups: Sequence[Group], parts: int) -> int:
    """Steps of the moving average: a `parts`-th of the longest run."""
    return max(1, round(max(len(run.steps) for group in groups for run in group.runs) / parts))


def _note(groups: Sequence[Group], thin: int, thick: int) -> str:
    """What the thin and the thick lines are, averaged over so many steps."""
    several = any(len(group.runs) > 1 for group in groups)
    if thin == thick:
        lines = "Thin: every seed. Thick: their mean. " if several else ""
        return lines + (f"Averaged over {thick:,} steps." if thick > 1 else "")
    seed = "every seed" if several else "the run"
    thin_averaged = f", averaged over {thin:,} steps" if thin > 1 else ""
    mean = "mean of the seeds, " if several else ""
    return f"Thin: {seed}{thin_averaged}. Thick: {mean}averaged over {thick:,} steps."


def _seed_lines(groups: Sequence[Group], x: str, y: str, window: int) -> tuple[Line, ...]:
    return tuple(
        Line(
            group.index,
            f"{group.label}, seed {run.seed}",
            _x_values(run.series(x), x, window),
            moving_average(run.series(y), window),
            run.steps,
            bold=False,
        )
        for group in groups
        for run in group.runs
        if _known(run, x, y)
    )


def _mean_lines(groups: Sequence[Group], x: str, y: str, window: int) -> tuple[Line, ...]:
    return tuple(
        Line(
            group.index,
            group.label,
            _x_values(group.mean(x), x, window),
            moving_average(group.mean(y), window),
            group.steps,
            bold=True,
        )
        for group in groups
        if all(_known(run, x, y) for run in group.runs) and len(group.steps)
    )


def _known(run: Run, x: str, y: str) -> bool:
    return bool((np.isfinite(run.series(x)) & np.isfinite(run.series(y))).any())


def _x_values(values: FloatArray, key: str, window: int) -> FloatArray:
    """KL is measured, noise and all, so it is averaged like the reward; steps and cost are exact."""
    return moving_average(values, window) if key == "kl/k1" else values


def _all(lines: Sequence[Line], which: str) -> FloatArray:
    return np.concatenate([getattr(line, which) for line in lines]) if lines else np.array([])


def _story(groups: Sequence[Group], key: str, unit: str) -> str:
    """From where to where a metric went, group by group, in words."""
    told = []
    for group in groups[:12]:
        values = group.mean(key)
        told.append(
            f"{group.label}: from {number(first_mean(values))} to {number(last_mean(values))}{unit} "
            f"over {len(values)} steps."
        )
    rest = len(groups) - 12
    return " ".join(told) + (f" And {rest} more." if rest > 0 else "")
