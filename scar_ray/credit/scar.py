"""Shapley credit assignment rewards (SCAR; arXiv 2505.20417)."""

from __future__ import annotations

from dataclasses import dataclass

from scar_ray.credit.base import Base, CreditMethod, assign_credits
from scar_ray.games import Estimator, choose
from scar_ray.records import CreditPlan, Evaluation, Response, SequenceScore, TokenRewards
from scar_ray.text.parse import Parser, parse
from scar_ray.text.units import Unit, affordable, merge, segment, units_paid_by


@dataclass(frozen=True, slots=True)
class ScarCredit(CreditMethod):
    """alpha * scale * phi_i at the last token of unit i, (1 - alpha) * scale * raw + penalty at the end.

    phi are Shapley or Owen values of the game v(S) = the reward model's score of the prompt with only the
    units in S (and the EOS) as the response, v(all) = raw. They add up to raw - v(empty); `base` says where
    v(empty) goes: alpha * scale * v(empty) is paid at the last token ("last"), in equal parts at the units'
    ends ("spread"), or there is none because v(empty) := 0, as the paper writes ("zero").
    """

    unit: Unit = "span"
    estimator: Estimator = "auto"
    alpha: float = 0.8
    budget: int = 256
    """Largest number of coalitions of a response."""
    max_units: int = 64
    base: Base = "last"
    parser: Parser = parse

    plays_game = True

    def plan(self, response: Response) -> CreditPlan:
        """The units and coalitions of `response`.

        Neighbouring units are merged until the budget gives every unit a value of its own: for "auto" 2n + 2
        coalitions for n units, for "paired_tree" that tree. Other estimators work with the budget that there is.
        ValueError when estimator is "shapley" or "owen" and needs more coalitions than the budget.
        """
        units = segment(response, self.unit, self.max_units, parser=self.parser, budget=self.budget)
        if len(units) == 0:
            return CreditPlan(units)
        if self.estimator == "auto":
            units = merge(units, units_paid_by(self.budget))
        elif self.estimator == "paired_tree":
            units = affordable(units, self.budget)
        return CreditPlan(units, choose(units.tree, self.estimator, self.budget))

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        return assign_credits(response, plan, evaluation, score, self.alpha, self.base)
