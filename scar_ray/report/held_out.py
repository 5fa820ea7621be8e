"""Curves of the evaluations on held-out prompts, and where the training reward and a second reward model part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from scar_ray.report.groups import Group
from scar_ray.report.plot import Line, Mark, Plot
from scar_ray.report.runs import FloatArray, Run
from scar_ray.report.scale import Axis, axis_from, fitted_axis, number

ERRORS = 2.0
"""Standard errors by which the second reward model's mean must fall before it counts as fallen."""
_SMALL = (
    ("kl_k1", "KL on held-out prompts", "nats per response", True),
    ("distinct_2", "Distinct-2", "share of word pairs", False),
    ("length", "Held-out length", "tokens", False),
)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluations:
    """The evaluations that all runs of a group have."""

    group: Group
    runs: tuple[Run, ...]
    steps: FloatArray

    def values(self, run: Run, key: str) -> FloatArray:
        """A measure of one run at each of `steps`; NaN where it was not measured."""
        if key not in run.held_out:
            return np.full(len(self.steps), np.nan)
        return run.held_out[key][np.searchsorted(run.held_out["step"], self.steps)]

    def mean(self, key: str) -> FloatArray:
        return np.mean([self.values(run, key) for run in self.runs], axis=0)

    def gain(self, run: Run, key: str) -> FloatArray:
        """How much `key` has grown since the first evaluation, in standard deviations of that one's scores."""
        values, spread = self.values(run, key), self.values(run, f"{key}_std")[:1]
        return (values - values[:1]) / np.where(spread > 0, spread, np.nan)

    def mean_gain(self, key: str) -> FloatArray:
        return np.mean([self.gain(run, key) for run in self.runs], axis=0)

    def gain_error(self, key: str) -> FloatArray:
        """Standard error of the mean gain, from the prompts."""
        errors = [self.values(run, f"{key}_stderr") / self.values(run, f"{key}_std")[:1] for run in self.runs]
        return np.sqrt(np.sum(np.square(errors), axis=0)) / len(errors)

    def parting(self) -> int | None:
        """Index of the evaluation after which reward and gold part; None where they do not.

        It is the one with the highest gold score, if a later one has a gold score that is lower by more than ERRORS
        standard errors of the difference while its reward is higher.
        """
        reward, gold, error = self.mean_gain("reward"), self.mean_gain("gold"), self.gain_error("gold")
        if not np.isfinite(gold).any():
            return None
        top = int(np.nanargmax(gold))
        fallen = gold[top] - gold > ERRORS * np.hypot(error, error[top])
        later = np.arange(len(gold)) > top
        return top if bool((later & fallen & (reward > reward[top])).any()) else None


def evaluations(groups: Sequence[Group]) -> list[Evaluations]:
    """The evaluations of the groups that have any, at steps that all their seeds share."""
    found = []
    for group in groups:
        runs = tuple(run for run in group.runs if len(run.held_out["step"]))
        if runs:
            steps = reduce(np.intersect1d, [run.held_out["step"] for run in runs])
            if len(steps):
                found.append(Evaluations(group, runs, steps))
    return found


def held_out_curves(found: Sequence[Evaluations]) -> list[Plot]:
    """Reward against step; with a second reward model also both of them against step and KL."""
    if not found:
        return []
    plots = [_reward(found)]
    golden = [each for each in found if np.isfinite(each.mean_gain("gold")).any()]
    if golden:
        plots += [_both(golden, "step"), _both(golden, "kl_k1")]
    return plots


def small_curves(found: Sequence[Evaluations]) -> list[Plot]:
    """KL, variety and length against step."""
    plots = []
    for key, title, unit, from_zero in _SMALL if found else ():
        lines = tuple(_lines(found, "step", key))
        values = _all(lines, "y")
        plots.append(
            Plot(
                key=f"held-out-{key}",
                title=title,
                note="",
                x=_steps_axis(lines),
                y=axis_from(unit, 0.0, 1.05 * values) if from_zero else fitted_axis(unit, values),
                lines=lines,
                summary=f"{title} against training step. " + _story(found, key),
                small=True,
            )
        )
    return plots


def _reward(found: Sequence[Evaluations]) -> Plot:
    lines = tuple(_lines(found, "step", "reward"))
    several = any(len(each.runs) > 1 for each in found)
    return Plot(
        key="held-out-reward",
        title="Reward on held-out prompts",
        note="The same prompts at each evaluation." + (" Thin: every seed. Thick: their mean." if several else ""),
        x=_steps_axis(lines),
        y=fitted_axis("reward, mean of the responses", _all(lines, "y")),
        lines=lines,
        summary="Reward on held-out prompts against training step. " + _story(found, "reward"),
    )


def _both(found: Sequence[Evaluations], x: str) -> Plot:
    """The gains of reward and gold against steps or KL, with a ring where they part."""
    lines: list[Line] = []
    marks = []
    for each in found:
        for key, name in (("reward", "reward"), ("gold", "second model")):
            if len(each.runs) > 1:
                for run in each.runs:
                    label = f"{each.group.label}, {name}, seed {run.seed}"
                    lines.append(_line(each, label, each.values(run, x), each.gain(run, key), gold=key == "gold"))
            line = _line(each, f"{each.group.label}, {name}", each.mean(x), each.mean_gain(key), gold=key == "gold")
            lines.append(Line(line.group, line.name, line.x, line.y, line.steps, bold=True, gold=line.gold))
        if (at := each.parting()) is not None:
            y = float(each.mean_gain("gold")[at])
            marks.append(Mark(each.group.index, float(each.mean(x)[at]), y, _told(each, at)))
    x_values = _all(lines, "x")
    against = "training step" if x == "step" else "KL"
    return Plot(
        key="gold-step" if x == "step" else "gold-kl",
        title=f"Reward and second reward model against {against}",
        note="Solid: the reward that trains. Dotted: the second model. Gain since the first evaluation, in standard "
        "deviations of its scores. "
        + ("A ring: from here on the second model falls while the reward rises." if marks else "They do not part."),
        x=_steps_axis(lines)
        if x == "step"
        else axis_from("KL on held-out prompts, nats per response (square-root scale)", 0.0, x_values, root=True),
        y=fitted_axis("gain, standard deviations", _all(lines, "y")),
        lines=tuple(lines),
        summary=f"Gains of reward and second reward model against {against}. "
        + " ".join(_gains(each) for each in found[:12]),
        free=x != "step",
        marks=tuple(marks),
    )


def _gains(each: Evaluations) -> str:
    reward, gold, at = each.mean_gain("reward"), each.mean_gain("gold"), each.parting()
    parted = "; they do not part." if at is None else f"; {_told(each, at)}."
    return (
        f"{each.group.label}: reward {number(float(reward[-1]), sign=True)}, second model "
        f"{number(float(gold[-1]), sign=True)}{parted}"
    )


def _told(each: Evaluations, at: int) -> str:
    """Where the two part, in words."""
    return f"they part after step {each.steps[at]:,.0f}, at a KL of {number(float(each.mean('kl_k1')[at]))} nats"


def _lines(found: Sequence[Evaluations], x: str, y: str) -> Iterator[Line]:
    """Thin lines of the seeds where there are several, and a thick one for each group."""
    for each in found:
        if len(each.runs) > 1:
            for run in each.runs:
                yield _line(each, f"{each.group.label}, seed {run.seed}", each.values(run, x), each.values(run, y))
    for each in found:
        yield Line(each.group.index, each.group.label, each.mean(x), each.mean(y), each.steps, bold=True)


def _line(each: Evaluations, name: str, x: FloatArray, y: FloatArray, *, gold: bool = False) -> Line:
    return Line(each.group.index, name, x, y, each.steps, bold=False, gold=gold)


def _steps_axis(lines: Sequence[Line]) -> Axis:
    return axis_from("training step", 0.0, _all(lines, "x"))


def _all(lines: Sequence[Line], which: str) -> FloatArray:
    return np.concatenate([getattr(line, which) for line in lines]) if lines else np.array([])


def _story(found: Sequence[Evaluations], key: str) -> str:
    told = []
    for each in found[:12]:
        values = each.mean(key)
        told.append(
            f"{each.group.label}: from {number(float(values[0]))} to {number(float(values[-1]))} "
            f"in {len(values)} evaluations."
        )
    return " ".join(told)
