"""The pictures and the table of `reward_per_gpu_hour.py`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scar_ray.report.groups import Group, moving_average
from scar_ray.report.scale import duration, number

if TYPE_CHECKING:
    from reward_comparison import Mean, Outcome

SMOOTHED = 0.05
"""Share of a run over which training reward and KL are averaged, for curves and where it is asked when they reach a
value."""
HEADS = (
    "method",
    "seeds",
    "held-out reward",
    "difference",
    "p (t, signs)",
    "second model",
    "KL",
    "reward at equal KL",
    "length",
    "steps to baseline",
    "device time to baseline",
    "area, device time",
    "area, steps",
    "unexplained",
    "device time",
)


def window_of(steps: int) -> int:
    """Steps of the moving average over a run of so many."""
    return max(1, round(SMOOTHED * steps))


def table_rows(found: Sequence[Outcome]) -> list[list[str]]:
    """The cells of the comparison, one row a method."""
    return [
        [
            each.method,
            str(len(each.seeds)),
            interval(each.reward),
            interval(each.difference, sign=True),
            f"{number(each.p)}, {number(each.p_signs)}",
            interval(each.gold) if each.gold else "-",
            number(each.kl.mean),
            interval(each.reward_at_kl),
            number(each.length.mean),
            _reached(each.steps_to_baseline, number),
            _reached(each.device_seconds_to_baseline, duration),
            interval(each.area),
            interval(each.area_steps),
            number(each.unexplained.mean),
            duration(each.device_seconds.mean),
        ]
        for each in found
    ]


def interval(value: Mean, *, sign: bool = False) -> str:
    mean = number(value.mean, sign=sign)
    return f"{mean} ({number(value.low)} to {number(value.high)})" if np.isfinite(value.low) else mean


def _reached(value: Mean, told: Any) -> str:
    """The mean where all seeds got there, else how many did and when."""
    there = [each for each in value.seeds if np.isfinite(each)]
    if not there:
        return "never"
    few = "" if len(there) == len(value.seeds) else f" ({len(there)} of {len(value.seeds)} seeds)"
    return told(float(np.mean(there))) + few


def html_section(found: Sequence[Outcome], baseline: str, device: str) -> tuple[str, str]:
    """Title and HTML of the comparison for the report."""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADS)
    rows = "".join(
        f'<tr><th scope="row"><i class="swatch" data-group="{index}"></i>{html.escape(cells[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells[1:])
        + "</tr>"
        for index, cells in enumerate(table_rows(found))
    )
    base = html.escape(baseline)
    note = (
        "Means over seeds with 95 % t intervals. Held-out reward, second model, KL (nats per response) and length: the "
        f"evaluation after the last step. Difference: to {base} with the same setting, where that was run, seed by "
        "seed; p of a paired t test and of the exact sign-flip test. Steps and device time to baseline: until the "
        "training reward reaches its final one. Reward at equal KL: the training reward where the KL first reaches the "
        "largest one that every run reaches. Area: mean training reward over what the cheapest run cost, and over the "
        "shortest run's steps. "
        "Unexplained: what the critic leaves of the returns, over the standard deviation of the scores. "
        f"Device time: {device}-seconds of all actors, idle ones included."
    )
    return "Comparison", (
        '<div class="scroll" role="region" aria-label="Comparison of the methods" tabindex="0">'
        f'<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div><p class="note">{note}</p>'
    )


def draw_curves(groups: Sequence[Group], found: Sequence[Outcome], device: str, file: Path) -> None:
    """Reward against steps, device-seconds and sqrt(KL), held-out reward, device-seconds by role; all seeds drawn."""
    plt = pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(16, 9), layout="constrained")
    panels = (
        ("step", "training step"),
        ("cost/total", f"{device}-seconds, all roles"),
        ("kl", "sqrt of KL (k1, nats)"),
    )
    for axis, (key, label) in zip(axes[0], panels, strict=True):
        for group in groups:
            _draw_group(axis, group, key)
        axis.set(xlabel=label, ylabel="training reward")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    _draw_held_out(axes[1][0], groups, "reward")
    if any("gold" in run.held_out for group in groups for run in group.runs):
        _draw_held_out(axes[1][1], groups, "gold")
    else:
        _draw_bars(axes[1][1], found)
    _draw_roles(axes[1][2], found, device)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _draw_group(axis: Any, group: Group, key: str) -> None:
    """Every seed thin, their mean thick, in a band of one standard deviation."""
    window = window_of(len(group.steps))
    colour = f"C{group.index % 10}"

    def x_of(values: Any) -> Any:
        return np.sqrt(np.maximum(moving_average(values, window), 0.0)) if key == "kl" else values

    name = "kl/k1" if key == "kl" else key
    for run in group.runs:
        axis.plot(
            x_of(run.series(name)), moving_average(run.series("reward/mean"), window), c=colour, lw=0.6, alpha=0.5
        )
    mean = moving_average(group.mean("reward/mean"), window)
    x = x_of(group.mean(name))
    axis.plot(x, mean, c=colour, lw=2.2, label=group.label)
    if len(group.runs) > 1 and key != "kl":
        at = [np.searchsorted(run.steps, group.steps) for run in group.runs]
        each = [moving_average(run.series("reward/mean")[i], window) for run, i in zip(group.runs, at, strict=True)]
        spread = np.std(each, axis=0, ddof=1)
        axis.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.12, lw=0)


def _draw_held_out(axis: Any, groups: Sequence[Group], key: str) -> None:
    for group in groups:
        for run in group.runs:
            if key in run.held_out:
                axis.plot(
                    run.held_out["step"], run.held_out[key], "o-", c=f"C{group.index % 10}", lw=0.8, ms=3, alpha=0.7
                )
    axis.set(xlabel="training step", ylabel="held-out reward" if key == "reward" else "held-out, second reward model")
    axis.grid(alpha=0.3)


def _draw_bars(axis: Any, found: Sequence[Outcome]) -> None:
    """The final held-out reward: every seed, the mean, and its interval."""
    for place, each in enumerate(found):
        axis.plot(each.reward.seeds, [place] * len(each.seeds), "o", c="C7", ms=5)
        low, high = each.reward.low, each.reward.high
        if np.isfinite(low):
            axis.plot([low, high], [place, place], "-", c="C3")
        axis.plot(each.reward.mean, place, "|", c="C3", ms=16, mew=3)
    axis.set(yticks=range(len(found)), yticklabels=[each.method for each in found], xlabel="final held-out reward")
    axis.invert_yaxis()
    axis.grid(alpha=0.3)


def _draw_roles(axis: Any, found: Sequence[Outcome], device: str) -> None:
    left = np.zeros(len(found))
    for role in found[0].by_role:
        seconds = np.array([each.by_role[role] for each in found])
        axis.barh([each.method for each in found], seconds, left=left, label=role)
        left += seconds
    axis.invert_yaxis()
    axis.set(xlabel=f"{device}-seconds of a run")
    axis.legend(fontsize=8)


def draw_ablation(groups: Sequence[Group], found: Sequence[Outcome], file: Path) -> None:
    """Final held-out reward of every variant and seed, beside the error of its credits; nothing without variants."""
    if len({group.runs[0].credit for group in groups}) == len(groups):
        return
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(16, 1.5 + 0.35 * len(found)), layout="constrained")
    _draw_bars(axes[0], found)
    for place, each in enumerate(found):
        marker = "os^Dv"[place // 10 % 5]  # ten colours
        axes[1].plot([each.audit_error] * len(each.seeds), each.reward.seeds, marker, ms=5, label=each.method)
    axes[1].set(xlabel="relative error of the credits (audits)", ylabel="final held-out reward")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[1].grid(alpha=0.3)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
