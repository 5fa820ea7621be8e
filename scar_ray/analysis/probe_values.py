"""What a reward model answers to the probe's coalitions, masking by masking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from scar_ray.analysis.probe_design import FRACTIONS, SINGLES, TOGETHER, Design, all_but, asking
from scar_ray.config.schema import Masking
from scar_ray.games.plan import Coalitions
from scar_ray.records import CreditPlan, Evaluation, FloatArray, Response
from scar_ray.scoring import Workload

GROUP = 64
"""Responses whose coalitions are scored together."""

Scorer_ = TypeVar("Scorer_", bound="Scorer")


class Scorer(Protocol):
    """What the probe needs of a reward model; `scar_ray.scoring.RewardModel` is one."""

    def masked(self: Scorer_, masking: Masking) -> Scorer_:
        """The same model with that masking. ValueError, saying why, when it cannot mask that way."""
        ...

    def evaluate(
        self, jobs: Sequence[tuple[Response, CreditPlan]], *, check_finite: bool = True
    ) -> tuple[list[Evaluation], Workload]:
        """Evaluations of the jobs, in their order, values that are not finite among them unless they are checked."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Values of B responses with one masking. s = SINGLES; NaN where a response has fewer units or no such words."""

    full_B: FloatArray
    """The plain scores."""
    empty_B: FloatArray
    removed_BF: FloatArray
    """With each of FRACTIONS removed at random."""
    alone_Bs: FloatArray
    """v({i}) - v(empty), the effect of a unit alone."""
    without_Bs: FloatArray
    """v(N) - v(N without i), its effect in the full response."""
    control_B: FloatArray
    """With TOGETHER random ones of these units removed."""
    top_B: FloatArray
    """With the at most TOGETHER units removed whose effects alone are largest and positive; NaN without any."""
    bottom_B: FloatArray
    """The same for the smallest, negative effects."""
    content_B: FloatArray
    """With some content words removed."""
    function_B: FloatArray
    """With as many function words removed."""
    asked: int
    """Values asked for, all coalitions of all responses."""
    nonfinite: int
    """Those among them that are infinite or NaN."""


def values(model: Scorer, designs: Sequence[Design], done: Callable[[int], None]) -> Values:
    """The values of all designs; `done` is told after each group how many responses it had."""
    columns: dict[str, list[FloatArray]] = {}
    asked = nonfinite = 0
    for start in range(0, len(designs), GROUP):
        group = designs[start : start + GROUP]
        found, answers = _group(model, group)
        for name, column in found.items():
            columns.setdefault(name, []).append(column)
        asked += sum(map(len, answers))
        nonfinite += sum(int(np.isnan(values_C).sum()) for values_C in answers)
        done(len(group))
    return Values(**{name: np.concatenate(parts) for name, parts in columns.items()}, asked=asked, nonfinite=nonfinite)


def _group(model: Scorer, designs: Sequence[Design]) -> tuple[dict[str, FloatArray], list[FloatArray]]:
    """The columns of `Values` for some responses, and all the answers."""
    first = _ask(model, [(each.response, each.plan) for each in designs])
    worded = [each for each in designs if each.words is not None]
    words = _ask(model, [(each.response, each.words) for each in worded if each.words is not None])
    alone = [v[each.alone] - v[0] for each, v in zip(designs, first, strict=True)]
    ordered = [_extreme(each, effects) for each, effects in zip(designs, alone, strict=True)]
    second = _ask(model, [(each.response, plan) for each, (plan, _, _) in zip(designs, ordered, strict=True)])
    by_words = dict(zip([each.response.row for each in worded], words, strict=True))
    nothing = np.full(4, np.nan)
    spoken = [by_words.get(each.response.row, nothing) for each in designs]
    pairs = list(zip(designs, first, strict=True))
    columns = {
        "full_B": np.array([v[1] for v in first]),
        "empty_B": np.array([v[0] for v in first]),
        "removed_BF": np.array([v[each.removed] for each, v in pairs]).reshape(-1, len(FRACTIONS)),
        "alone_Bs": np.array([_padded(effects) for effects in alone]),
        "without_Bs": np.array([_padded(v[1] - v[each.without]) for each, v in pairs]),
        "control_B": np.array([v[each.control] for each, v in pairs]),
        "top_B": _picked(second, [top for _, top, _ in ordered]),
        "bottom_B": _picked(second, [bottom for _, _, bottom in ordered]),
        "content_B": np.array([v[2] for v in spoken]),
        "function_B": np.array([v[3] for v in spoken]),
    }
    return columns, [*first, *words, *second]


def _ask(model: Scorer, jobs: Sequence[tuple[Response, CreditPlan]]) -> list[FloatArray]:
    """The values of the coalitions of each job, NaN for those that are not finite."""
    answers = []
    for evaluation in model.evaluate(jobs, check_finite=False)[0]:
        values_C = evaluation.values_C
        assert values_C is not None
        answers.append(np.where(np.isfinite(values_C), values_C, np.nan))
    return answers


def _extreme(design: Design, effects: FloatArray) -> tuple[CreditPlan, int | None, int | None]:
    """A plan with all but the units of largest positive effect, and all but those of smallest negative; their rows."""
    assert design.plan.units is not None
    n = len(design.plan.units)
    coalitions = Coalitions(n)
    order = np.argsort(effects, kind="stable")  # NaN comes last, and is neither positive nor negative
    rows = []
    for candidates in (
        [i for i in order[::-1] if effects[i] > 0][:TOGETHER],
        [i for i in order if effects[i] < 0][:TOGETHER],
    ):
        rows.append(coalitions.row(all_but(n, design.singles[candidates])) if candidates else None)
    return asking(design.plan.units, coalitions), rows[0], rows[1]


def _padded(effects: FloatArray) -> FloatArray:
    return np.concatenate([effects, np.full(SINGLES - len(effects), np.nan)])


def _picked(answers: Sequence[FloatArray], rows: Sequence[int | None]) -> FloatArray:
    return np.array([np.nan if row is None else v[row] for v, row in zip(answers, rows, strict=True)])
