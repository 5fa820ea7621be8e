"""Audits: the error of credits against exact values, and the hindsight in them."""

from __future__ import annotations

import numpy as np
import pytest
from make_response import make_response

from scar_ray.credit import PrefixCredit, ScarCredit
from scar_ray.credit.audit import audit, audit_plan, exact_plan, pick
from scar_ray.games import choose
from scar_ray.records import CreditPlan, Evaluation, Units


def values(plan: CreditPlan, worth) -> Evaluation:
    """The evaluation of a game whose value is `worth(set of players)`."""
    values_C = np.array([worth(frozenset(np.flatnonzero(row).tolist())) for row in plan.game.coalitions_Cn], float)
    return Evaluation(float(values_C[1]), values_C)


def audited(plan: CreditPlan, worth) -> dict[str, float]:
    asked = audit_plan(plan)
    return audit(plan, values(plan, worth), asked, values(asked, worth))


def flat(n: int, estimator: str, budget: int) -> CreditPlan:
    units = Units(tuple(range(1, n + 1)), tuple(range(n)))
    return CreditPlan(units, choose(units.tree, estimator, budget))


def not_terrible(players: frozenset[int]) -> float:
    """Unit 0 is "not", unit 1 "terrible": bad alone, good together."""
    return {frozenset(): 0.0, frozenset({0}): 0.0, frozenset({1}): -2.0, frozenset({0, 1}): 1.0}[players]


def test_shapley_pays_not_before_it_is_worth_anything():
    found = audited(flat(2, "shapley", 4), not_terrible)
    # The credits are 3/2 and -1/2; the text "not" is worth 0, but 3/2 has been paid by then.
    assert found == {"audit_hindsight": pytest.approx(1.5), "audit_error": 0.0, "audit_reused": 4}


def test_prefix_credit_has_no_hindsight():
    plan = PrefixCredit(unit="token").plan(make_response(["not", " terrible"]))
    found = audited(plan, not_terrible)
    assert found["audit_hindsight"] == 0.0
    # (0, 1) instead of (3/2, -1/2).
    assert found["audit_error"] == pytest.approx(np.hypot(1.5, 1.5) / np.hypot(1.5, 0.5))


def test_an_estimate_is_compared_with_the_exact_value():
    def worth(players: frozenset[int]) -> float:
        return float({0, 1, 2} <= players) * 6.0 + float(3 in players)

    plan = flat(4, "paired_tree", 64)
    exact = np.array([2.0, 2.0, 2.0, 1.0])
    credits_n = plan.game.credits(values(plan, worth).values_C)
    expected = np.linalg.norm(credits_n - exact) / np.linalg.norm(exact)
    assert expected > 0.01
    assert audited(plan, worth)["audit_error"] == pytest.approx(expected)


def test_estimates_that_look_at_no_tree_are_compared_with_the_shapley_value():
    units = Units((1, 2, 3, 4), ((0, 1), (2, 3)))
    for estimator, exact in (("paired_flat", "shapley"), ("kernel", "shapley"), ("paired_tree", "owen")):
        plan = exact_plan(CreditPlan(units, choose(units.tree, estimator, 14)))
        assert (plan.estimator, plan.n_coalitions) == (exact, 16 if exact == "shapley" else 12)


def test_a_game_too_large_to_be_solved_still_shows_its_hindsight():
    plan = flat(30, "permutations", 200)
    assert exact_plan(plan) is None
    known = {row.tobytes() for row in plan.game.coalitions_Cn}
    beginnings = {row.tobytes() for row in np.tri(31, 30, -1, dtype=bool)}
    assert len(known & beginnings) == 2
    assert audit_plan(plan).game.n_coalitions == 2 + len(beginnings - known)
    found = audited(plan, lambda players: float(len(players) > 3))
    assert set(found) == {"audit_hindsight", "audit_reused"}
    assert found["audit_reused"] == len(known & beginnings)


def test_a_game_in_which_nobody_earns_anything_has_no_relative_error():
    assert audited(flat(3, "shapley", 8), lambda players: 0.0) == {"audit_hindsight": 0.0, "audit_reused": 8}


def test_one_unit_contains_no_hindsight():
    assert audited(flat(1, "shapley", 2), lambda players: float(bool(players))) == {
        "audit_hindsight": 0.0,
        "audit_error": 0.0,
        "audit_reused": 2,
    }


def test_coalitions_whose_values_are_there_are_not_asked_again():
    """The exact Owen value of two pairs takes 12 coalitions, beginnings among them; the plan has 8 of them."""
    units = Units((1, 2, 3, 4), ((0, 1), (2, 3)))
    plan = CreditPlan(units, choose(units.tree, "paired_tree", 10))
    asked, exact = audit_plan(plan), exact_plan(plan)
    assert (plan.game.n_coalitions, asked.game.n_coalitions) == (8, 2 + 4)
    both = [row.tobytes() for row in (*plan.game.coalitions_Cn, *asked.game.coalitions_Cn[2:])]
    assert set(both) == {row.tobytes() for row in exact.coalitions_Cn}
    assert len(both) == 12
    assert audit_plan(CreditPlan(units, exact)) == CreditPlan(units, exact)


def test_the_largest_game_that_can_be_solved_is_audited():
    plans = [(0, flat(3, "kernel", 8)), (1, flat(9, "kernel", 64)), (2, flat(40, "kernel", 90)), (3, CreditPlan())]
    assert pick(plans) == 1
    assert pick(plans[2:]) == 2
    assert pick(plans[3:]) is None


def test_scar_and_prefix_play_games_that_can_be_audited():
    assert ScarCredit.plays_game
    assert PrefixCredit.plays_game
