"""Values of contiguous coalitions, normalised to share out the score (OSPO; arXiv 2601.08403)."""

from __future__ import annotations

from dataclasses import dataclass

from scar_ray.credit.advantages import shares
from scar_ray.credit.base import Base, CreditMethod, assign_credits
from scar_ray.games import contiguous, made_efficient
from scar_ray.games.contiguous import W_MAX
from scar_ray.records import CreditPlan, Evaluation, FloatArray, Response, SequenceScore, TokenRewards
from scar_ray.text.parse import Parser, parse
from scar_ray.text.units import Unit, segment


@dataclass(frozen=True, slots=True)
class OspoCredit(CreditMethod):
    """As SCAR, with phi_j the mean marginal of unit j over contiguous coalitions of at most w_max units.

    The coalitions are the empty one, all units, and intervals; where they are more than `budget`, pairs (S, S + j) are
    drawn (`games.contiguous`). phi do not add up to v(all) - v(empty); they are multiplied to do so, phi~, as in the
    paper. Where that would turn their signs or explode (`advantages.shares`: their sum is not clearly of the sign of
    v(all) - v(empty), or that is 0), every unit gets an equal part of what is lacking instead.

    The paper's advantages T * phi~_t * A come from `algorithm.group.tokens=shared`, the variant that keeps the order of
    the tokens when A < 0 from `ordered` (`trainer.groups`).
    """

    unit: Unit = "chunk"
    alpha: float = 1.0
    budget: int = 64
    """Largest number of coalitions of a response, M in the paper."""
    w_max: int = W_MAX
    """Units of the widest interval."""
    max_units: int = 64
    base: Base = "last"
    parser: Parser = parse

    plays_game = True

    def plan(self, response: Response) -> CreditPlan:
        """The units and coalitions; audits see the values made efficient by equal parts, which is linear."""
        units = segment(response, self.unit, self.max_units, parser=self.parser, budget=self.budget)
        if len(units) == 0:
            return CreditPlan(units)
        return CreditPlan(units, made_efficient(contiguous(len(units), self.budget, self.w_max)))

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        def credits(values_C: FloatArray) -> FloatArray:
            phi_n = contiguous(len(plan.units or ()), self.budget, self.w_max).credits(values_C)
            return normalised(phi_n, float(values_C[1] - values_C[0]))

        return assign_credits(response, plan, evaluation, score, self.alpha, self.base, credits)


def normalised(phi_n: FloatArray, total: float) -> FloatArray:
    """phi made to add up to `total`: multiplied where they are shares of it, else by an equal addition to each.

    Example: (1, 3) and 2 give (0.5, 1.5); (1, -3) and 2 give (3, -1).
    """
    shares_n = shares(phi_n if total > 0 else -phi_n) if total != 0 else None
    if shares_n is not None:
        return shares_n * total
    lack = total - float(phi_n.sum())
    return phi_n + lack / len(phi_n)
