"""What `reward_per_gpu_hour.py` makes of its runs: outcomes of each method over its seeds, tests against a baseline.

The unit of all statistics is the seed. Intervals are 95 % t intervals of the mean. Differences to the baseline are
taken seed by seed (same prompts, same order of prompts) and tested by a paired t test; `p_signs` beside it is the exact
sign-flip test, which assumes nothing about the distribution and cannot give less than 2^(1-n) with n seeds. Where a
setting is varied, the baseline is the one with the same setting, if that was run.
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from reward_plots import draw_ablation, draw_curves, html_section, window_of
from scipy import stats

from scar_ray.report import write_report
from scar_ray.report.groups import Group, group_runs, last_mean, method_settings, moving_average
from scar_ray.report.runs import FloatArray, Run, read_run

ROLES = ("rollout", "reward", "learner", "idle")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds with its 95 % interval (NaN of one seed) and every seed's value."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One method."""

    method: str
    seeds: tuple[int, ...]
    steps: int
    reward: Mean
    """Mean reward of the held-out responses after the last step; of the last tenth of the steps where a run has no
    evaluations."""
    difference: Mean
    """Of `reward` to the baseline's with the same seed."""
    p: float
    p_signs: float
    gold: Mean | None
    """The second reward model's, where there is one."""
    kl: Mean
    """k1 to the reference on held-out prompts (nats per response)."""
    length: Mean
    device_seconds: Mean
    by_role: dict[str, float]
    """Mean device-seconds of the whole run; idle is what was held and not used."""
    steps_to_baseline: Mean
    """Steps until the training reward reaches the baseline's final one; infinite where it never does."""
    device_seconds_to_baseline: Mean
    area: Mean
    """Mean training reward over device-seconds, up to what the cheapest run cost in all."""
    area_steps: Mean
    """The same over steps, up to the shortest run's."""
    reward_at_kl: Mean
    """Training reward where the KL first reaches the largest one that every run reaches, both smoothed."""
    audit_error: float
    """Mean relative distance of credits to the exact ones; NaN where it is not audited."""
    unexplained: Mean
    """What the critic leaves of the returns: root of its mean squared error over the standard deviation of the scores,
    both means over all steps; NaN without a critic."""


@dataclass(frozen=True, slots=True)
class Common:
    """What every run reaches."""

    cost: float
    steps: float
    kl: float


def outcomes(groups: Sequence[Group], baseline: str) -> list[Outcome]:
    """One outcome for each group; ValueError when no group is called `baseline`."""
    bases = [group for group in groups if baseline in (group.label, group.label.split()[0])]
    if not bases:
        raise ValueError(f"baseline={baseline}: not among {', '.join(group.label for group in groups)}")
    cost = min(run.series("cost/total")[-1] for group in groups for run in group.runs)
    steps = min(run.steps[-1] for group in groups for run in group.runs)
    kl = min(np.nanmax(smoothed(run, "kl/k1")) for group in groups for run in group.runs)
    return [_outcome(group, _base_of(group, bases), Common(cost, steps, float(kl))) for group in groups]


def _base_of(group: Group, bases: Sequence[Group]) -> Group:
    """The baseline with the settings of `group`, so that like is compared with like; the first one where none has."""

    def settings(of: Group) -> dict[str, str]:
        known = method_settings(of.runs[0]).items()
        return {key: value for key, value in known if not key.startswith("credit.")}

    return next((base for base in bases if settings(base) == settings(group)), bases[0])


def _outcome(group: Group, base: Group, common: Common) -> Outcome:
    target = float(np.mean([last_mean(run.series("reward/mean")) for run in base.runs]))
    of_base = {run.seed: _final(run, "reward") for run in base.runs}
    differences = [_final(run, "reward") - of_base[run.seed] for run in group.runs if run.seed in of_base]
    gold = [_final(run, "gold") for run in group.runs]
    totals = {role: float(np.mean([np.nansum(r.series(f"cost/{role}")) for r in group.runs])) for role in ROLES}
    return Outcome(
        method=group.label,
        seeds=tuple(run.seed for run in group.runs),
        steps=int(group.steps[-1]),
        reward=mean_over_seeds([_final(run, "reward") for run in group.runs]),
        difference=mean_over_seeds(differences),
        p=_paired_t(differences),
        p_signs=sign_flip(differences),
        gold=mean_over_seeds(gold) if np.isfinite(gold).all() else None,
        kl=mean_over_seeds([_final(run, "kl_k1") for run in group.runs]),
        length=mean_over_seeds([_final(run, "length") for run in group.runs]),
        device_seconds=mean_over_seeds([float(run.series("cost/total")[-1]) for run in group.runs]),
        by_role=totals,
        steps_to_baseline=mean_over_seeds([reached(run, target, "step") for run in group.runs]),
        device_seconds_to_baseline=mean_over_seeds([reached(run, target, "cost/total") for run in group.runs]),
        area=mean_over_seeds([area(run, "cost/total", common.cost) for run in group.runs]),
        area_steps=mean_over_seeds([area(run, "step", common.steps) for run in group.runs]),
        reward_at_kl=mean_over_seeds([at_kl(run, common.kl) for run in group.runs]),
        audit_error=_known_mean([value for run in group.runs for value in run.series("credit/audit_error")]),
        unexplained=mean_over_seeds([unexplained(run) for run in group.runs]),
    )


_TRAINING = {"reward": "reward/mean", "kl_k1": "kl/k1", "length": "length/mean"}


def _final(run: Run, key: str) -> float:
    """A measure after the last step; of the last tenth of the training where nothing was evaluated."""
    if key in run.held_out and len(run.held_out[key]):
        return float(run.held_out[key][-1])
    return last_mean(run.series(_TRAINING[key])) if key in _TRAINING else float("nan")


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """Mean and t interval; infinite values make the mean infinite."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean()) if len(found) else float("nan")
    if len(found) < 2 or not np.isfinite(found).all():
        return Mean(mean, float("nan"), float("nan"), tuple(map(float, found)))
    half = float(stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return Mean(mean, mean - half, mean + half, tuple(map(float, found)))


def _paired_t(differences: Sequence[float]) -> float:
    found = np.asarray(differences)
    if len(found) < 2 or not found.any():
        return float("nan")
    return float(stats.ttest_1samp(found, 0.0).pvalue)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the exact sign-flip test of a zero mean; NaN without differences."""
    found = np.asarray(differences, dtype=np.float64)
    if not len(found) or not found.any():
        return float("nan")
    sums = np.abs(np.array(list(product((-1.0, 1.0), repeat=len(found)))) @ found)
    return float(np.mean(sums >= abs(found.sum()) * (1 - 1e-12)))


def smoothed(run: Run, key: str) -> FloatArray:
    """A metric as the curves show it, averaged over some steps."""
    return moving_average(run.series(key), window_of(len(run.steps)))


def at_kl(run: Run, kl: float) -> float:
    """The training reward at the first step whose KL is `kl` nats at least; NaN where there is none."""
    there = np.flatnonzero(smoothed(run, "kl/k1") >= kl)
    return float(smoothed(run, "reward/mean")[there[0]]) if len(there) else float("nan")


def reached(run: Run, target: float, axis: str) -> float:
    """Where on `axis` the smoothed training reward first reaches `target`; infinite where it never does."""
    above = np.flatnonzero(smoothed(run, "reward/mean") >= target)
    return float(run.series(axis)[above[0]]) if len(above) else float("inf")


def area(run: Run, axis: str, end: float) -> float:
    """Mean training reward over `axis` from 0 to `end`, by trapezoids; before the first step it is the first reward."""
    x, y = run.series(axis), run.series("reward/mean")
    x, y = np.concatenate([[0.0], x]), np.concatenate([y[:1], y])
    grid = np.concatenate([x[x < end], [end]])
    return float(np.trapezoid(np.interp(grid, x, y), grid) / end)


def unexplained(run: Run) -> float:
    """The part of the returns that the critic leaves, relative to the spread of the scores (`Outcome.unexplained`)."""
    return _known_mean(run.series("ppo/value_error")) ** 0.5 / _known_mean(run.series("reward/std"))


def _known_mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def write_comparison(folders: Sequence[Path], out: Path, baseline: str, command: str) -> Path:
    """All files of the benchmark; returns the page's path. ValueError for folders that hold no runs."""
    runs = [read_run(folder) for folder in folders]
    started = [run for run in runs if len(run.steps)]
    if not started:
        raise ValueError(f"no run in {out} has finished a step yet")
    groups = group_runs(started)
    found = outcomes(groups, baseline)
    record = json.loads((folders[0] / "run.json").read_text())
    result: dict[str, Any] = {
        "command": command,
        "hardware": record.get("hardware", {}) | {"processor": platform.processor() or platform.machine()},
        "versions": record.get("versions", {}),
        "baseline": baseline,
        "unfinished": [run.name for run in runs if run.status != "done"],
        "methods": [asdict(outcome) for outcome in found],
    }
    (out / "comparison.json").write_text(json.dumps(without_nan(result), indent=1) + "\n")
    _write_csv(out / "metrics.csv", started, lambda run: run.columns)
    _write_csv(out / "evaluations.csv", started, lambda run: run.held_out)
    device = started[0].device
    draw_curves(groups, found, device, out / "curves.png")
    draw_ablation(groups, found, out / "ablation.png")
    section = html_section(found, baseline, device)
    return write_report(
        [folder for folder in folders if (folder / "metrics.jsonl").is_file()], out / "report.html", section
    )


def without_nan(value: Any) -> Any:
    """JSON has neither NaN nor infinity: both become null."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _write_csv(file: Path, runs: Sequence[Run], columns_of: Any) -> None:
    """One row a step of each run, with the columns that any run has."""
    keys = sorted({key for run in runs for key in columns_of(run)} - {"step"})
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["run", "credit", "seed", "step", *keys])
        for run in runs:
            columns: dict[str, FloatArray] = columns_of(run)
            for at, step in enumerate(columns["step"]):
                row = [float(columns[key][at]) if key in columns else float("nan") for key in keys]
                told = ["" if np.isnan(value) else f"{value:.6g}" for value in row]
                writer.writerow([run.name, run.credit, run.seed, int(step), *told])
