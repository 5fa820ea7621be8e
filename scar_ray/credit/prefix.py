"""Prefix potentials: every unit earns what it adds to the score of the response so far."""

from __future__ import annotations

from dataclasses import dataclass

from scar_ray.credit.base import Base, CreditMethod, assign_credits
from scar_ray.games import prefixes
from scar_ray.records import CreditPlan, Evaluation, Response, SequenceScore, TokenRewards
from scar_ray.text.parse import Parser, parse
from scar_ray.text.units import Unit, segment


@dataclass(frozen=True, slots=True)
class PrefixCredit(CreditMethod):
    """As SCAR, with phi_i = Phi(i) - Phi(i - 1), Phi(i) the score of the prompt and the first i units.

    With token units no credit depends on later tokens: the differences are a potential-based shaping (Ng et
    al. 1999), which at gamma = 1 leaves the ranking of actions in every state as it is, at every alpha. The
    ends of larger units are drawn in hindsight, so for them this holds only approximately.
    """

    unit: Unit = "token"
    alpha: float = 0.8
    max_units: int = 64
    base: Base = "last"
    parser: Parser = parse

    plays_game = True
    asks_beginnings = True

    def plan(self, response: Response) -> CreditPlan:
        units = segment(response, self.unit, self.max_units, parser=self.parser)
        return CreditPlan(units, prefixes(len(units)) if len(units) else None)

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        return assign_credits(response, plan, evaluation, score, self.alpha, self.base)
