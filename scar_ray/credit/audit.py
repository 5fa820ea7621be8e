"""What credits are worth: their error against exact values, and how much hindsight they contain.

An audit asks the reward model for one response's exact credits and the scores of its beginnings, as far as the credits
have not asked for them already. Two numbers:

- error: |phi - phi*| / |phi*| (Euclidean norms), phi* the exact Shapley value for the estimators of it
  (KernelSHAP, permutations, paired_flat), else the exact Owen value of the units' tree. Not measured where phi* takes
  more than `MAX_COALITIONS` coalitions.
- hindsight: the root mean square, over the ends of all units but the last, of
  (phi_1 + ... + phi_i) - (v({1..i}) - v(empty)): what has been paid by then, minus what the reward model makes of the
  text by then. It is 0 for prefix credit, whose payments depend on nothing that comes later, and in the unit of the
  reward. Where it is large beside the spread of the rewards, the return after a token depends on what earlier tokens
  will be paid for it, and the policy gradient is biased accordingly: lower alpha, or use credit=prefix.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scar_ray.games import Estimator, Plan, coalitions_needed, owen, prefixes, shapley
from scar_ray.records import BoolArray, CreditPlan, Evaluation, FloatArray

MAX_COALITIONS = 1024
SHAPLEY_ESTIMATORS = ("shapley", "paired_flat", "kernel", "permutations")
"""Estimators of the Shapley value; the others are about the tree."""


def exact_plan(plan: CreditPlan) -> Plan | None:
    """The plan of the value that the credits of `plan` estimate; None where it takes too many coalitions."""
    if not solvable(plan):
        return None
    assert plan.game is not None
    assert plan.units is not None
    of_players = plan.game.estimator in SHAPLEY_ESTIMATORS
    return shapley(plan.game.n_players) if of_players else owen(plan.units.tree)


def solvable(plan: CreditPlan) -> bool:
    """Whether `exact_plan` is affordable; nothing is built."""
    assert plan.game is not None
    assert plan.units is not None
    value: Estimator = "shapley" if plan.game.estimator in SHAPLEY_ESTIMATORS else "owen"
    return coalitions_needed(plan.units.tree, value) <= MAX_COALITIONS


def pick(plans: Iterable[tuple[int, CreditPlan]]) -> int | None:
    """The row to audit: the most units among those that can be solved exactly, else the fewest units of all."""
    sizes = [(row, plan.game.n_players, solvable(plan)) for row, plan in plans if plan.game is not None]
    if not sizes:
        return None
    exact = [(-n, row) for row, n, solved in sizes if solved]
    return min(exact or [(n, row) for row, n, _ in sizes])[1]


def audit_plan(plan: CreditPlan) -> CreditPlan:
    """What an audit of `plan` asks: all prefixes and the coalitions of the exact plan, if there is one.

    Those of `plan` are left out, whose values are there; it is `plan` itself where that leaves nothing.
    """
    assert plan.game is not None
    wanted, known = _wanted(plan), {row.tobytes() for row in plan.game.coalitions_Cn}
    missing = [row for name, row in wanted.items() if name not in known]
    if not missing:
        return plan
    asked_Cn = np.array([*plan.game.coalitions_Cn[:2], *missing])  # the empty and the full coalition are in every plan
    return CreditPlan(plan.units, Plan(asked_Cn, np.zeros(asked_Cn.shape[::-1]), "audit"))


def _wanted(plan: CreditPlan) -> dict[bytes, BoolArray]:
    """The coalitions that an audit of `plan` looks at, by their bytes."""
    assert plan.game is not None
    exact, wanted_Cn = exact_plan(plan), prefixes(plan.game.n_players).coalitions_Cn
    if exact is not None:
        wanted_Cn = np.concatenate([wanted_Cn, exact.coalitions_Cn])
    return {row.tobytes(): row for row in wanted_Cn}


def audit(plan: CreditPlan, evaluation: Evaluation, asked: CreditPlan, audited: Evaluation) -> dict[str, float]:
    """`audit_error` and `audit_hindsight` of the credits that `plan` and its `evaluation` give.

    `audit_reused` is how many of the coalitions that were looked at the credits had asked for already.
    """
    assert plan.game is not None
    assert asked.game is not None
    assert evaluation.values_C is not None
    assert audited.values_C is not None
    credits_n = plan.game.credits(evaluation.values_C)
    value = {row.tobytes(): v for row, v in zip(asked.game.coalitions_Cn, audited.values_C, strict=True)}
    known = {row.tobytes(): v for row, v in zip(plan.game.coalitions_Cn, evaluation.values_C, strict=True)}
    value |= known

    def values_of(coalitions_Cn: BoolArray) -> FloatArray:
        return np.array([value[row.tobytes()] for row in coalitions_Cn])

    steps_n = prefixes(len(credits_n)).credits(values_of(prefixes(len(credits_n)).coalitions_Cn))
    ahead = np.cumsum(credits_n - steps_n)[:-1]
    found = {"audit_hindsight": float(np.sqrt(np.mean(ahead**2))) if len(ahead) else 0.0}
    found["audit_reused"] = float(len(known.keys() & _wanted(plan).keys()))
    exact = exact_plan(plan)
    if exact is not None:
        exact_n = exact.credits(values_of(exact.coalitions_Cn))
        size = float(np.linalg.norm(exact_n))
        if size > 0:
            found["audit_error"] = float(np.linalg.norm(credits_n - exact_n)) / size
    return found
