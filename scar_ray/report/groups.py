"""Runs that differ in nothing but their seed form a group: one method, one colour, one mean curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from scar_ray.report.runs import FloatArray, Run

_NOT_THE_METHOD = ("seed", "name", "runs", "cluster.", "sft.", "rm.", "trainer.", "eval.")
"""Settings, and sections of settings, that do not make two runs two methods."""
_FINAL_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Runs of one method, ordered by seed."""

    index: int
    label: str
    runs: tuple[Run, ...]
    steps: FloatArray
    """Steps that every seed has reached."""

    def mean(self, key: str) -> FloatArray:
        """Mean of a metric over the seeds at each of `steps`."""
        return np.mean([_at(run, key, self.steps) for run in self.runs], axis=0)


def _at(run: Run, key: str, steps: FloatArray) -> FloatArray:
    return run.series(key)[np.searchsorted(run.steps, steps)]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups in the order in which the runs were given, with labels that tell them apart."""
    members: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        key = (run.task, run.credit, tuple(sorted(method_settings(run).items())))
        members.setdefault(key, []).append(run)
    ordered = [sorted(found, key=lambda run: run.seed) for found in members.values()]
    labels = _labels([found[0] for found in ordered])
    return [
        Group(index, label, tuple(found), reduce(np.intersect1d, [run.steps for run in found]))
        for index, (label, found) in enumerate(zip(labels, ordered, strict=True))
    ]


def method_settings(run: Run) -> dict[str, str]:
    """The settings that make a run one of its method: all but the seed and those of folders, devices and evaluation."""
    return {
        key: value
        for key, value in run.settings.items()
        if not any(key == name or (name.endswith(".") and key.startswith(name)) for name in _NOT_THE_METHOD)
    }


def _labels(firsts: Sequence[Run]) -> list[str]:
    """Credit method, with the task and the differing settings where the method alone is ambiguous.

    The value that more variants of the method have than any other is left out: told is what sets a variant apart.
    """
    several_tasks = len({run.task for run in firsts}) > 1
    names = [f"{run.task} {run.credit}" if several_tasks else run.credit for run in firsts]
    labels = []
    for name, run in zip(names, firsts, strict=True):
        alike = [method_settings(other) for other, its in zip(firsts, names, strict=True) if its == name]
        settings = method_settings(run)
        differing = [key for key in settings if settings[key] != _usual([other.get(key) for other in alike])]
        told = [f"{'.'.join(key.split('.')[-2:])}={settings[key]}" for key in differing]
        if len(told) > 3:
            told = [*told[:3], f"and {len(told) - 3} more"]
        labels.append(" ".join([name, *told]))
    return labels


def _usual(values: Sequence[str | None]) -> str | None:
    """The most frequent value; None where several are equally frequent."""
    (first, count), *others = Counter(values).most_common(2)
    return None if others and others[0][1] == count else first


def moving_average(values: FloatArray, window: int) -> FloatArray:
    """Centred mean over `window` values; NaN values are left out of the means.

    The first means take as few values after as there are before, so that a steep start is not averaged away;
    the last ones take what is there, so that a curve does not end on one noisy value.
    """
    if window <= 1 or not len(values):
        return values
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low = np.maximum(at - (window - 1) // 2, 0)
    high = np.minimum(np.minimum(at + window // 2, 2 * at) + 1, len(values))
    count = counts[high] - counts[low]
    return np.where(count > 0, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan)


def last_mean(values: FloatArray) -> float:
    """Mean over the last 10 % of the steps (at least one); NaN when there is no value."""
    return _mean(values[-_tenth(len(values)) :])


def first_mean(values: FloatArray) -> float:
    """Mean over the first 10 % of the steps (at least one); NaN when there is no value."""
    return _mean(values[: _tenth(len(values))])


def _tenth(count: int) -> int:
    return max(1, round(count * _FINAL_SHARE))


def _mean(values: FloatArray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
