"""Shapley credit assignment rewards (SCAR; arXiv 2505.20417)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scar_ray.credit.base import Base, CreditMethod, assign_credits
from scar_ray.games import Estimator, Lengths, TokenLimit, choose, paired_tree, paired_tree_coalitions
from scar_ray.records import FILLS, CreditPlan, Evaluation, Masking, Response, SequenceScore, TokenRewards, Units
from scar_ray.text.parse import Parser, parse
from scar_ray.text.units import Unit, affordable, segment, units_paid_by


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
    budget: int = 128
    """Largest number of coalitions of a response."""
    budget_tokens: int | None = None
    """Most reward-model tokens of a response, the prompt and every common beginning computed once; None: any number."""
    max_units: int = 64
    base: Base = "last"
    masking: Masking = "delete"
    """How units are left out; tokens are counted accordingly."""
    parser: Parser = parse

    plays_game = True

    def plan(self, response: Response) -> CreditPlan:
        """The units and coalitions of `response`.

        Neighbouring units are merged until the budgets give every unit a value of its own: for "auto" 2n + 2
        coalitions for n units, for "paired_tree" that tree. Other estimators work with the budgets that there are.
        ValueError when estimator is "shapley" or "owen" and needs more than the budgets, and when `budget_tokens`
        does not pay for the prompt and the response.
        """
        most = min(self.max_units, units_paid_by(self.budget)) if self.estimator == "auto" else self.max_units
        units = segment(response, self.unit, most, parser=self.parser, budget=self.budget)
        if len(units) == 0:
            return CreditPlan(units)
        if self.estimator in ("auto", "paired_tree"):
            units = affordable(units, lambda fewer: self._pays_each(response, fewer))
        return CreditPlan(units, choose(units.tree, self.estimator, self.budget, self._limit(response, units)))

    def _pays_each(self, response: Response, units: Units) -> bool:
        """Whether the budgets show every unit, or every node of the tree, alone and everything but it."""
        tree = tuple(range(len(units))) if self.estimator == "auto" else units.tree
        if paired_tree_coalitions(tree) > self.budget:
            return False
        limit = self._limit(response, units)
        return limit is None or limit.allows(paired_tree(tree).coalitions_Cn)

    def _limit(self, response: Response, units: Units) -> TokenLimit | None:
        """`budget_tokens`, with the lengths of the response in policy tokens; each sequence ends with an EOS."""
        if self.budget_tokens is None:
            return None
        lengths = tuple(np.subtract(units.ends, units.starts).tolist())
        filled = self.masking in FILLS
        return TokenLimit(self.budget_tokens, Lengths(len(response.prompt.token_ids), lengths, filled=filled))

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        return assign_credits(response, plan, evaluation, score, self.alpha, self.base)
