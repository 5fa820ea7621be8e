"""Uniform reward: equal parts of the score on all tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scar_ray.credit.base import CreditMethod, check_finite, every_token, place, rest
from scar_ray.records import CreditPlan, Evaluation, Response, SequenceScore, TokenRewards


@dataclass(frozen=True, slots=True)
class UniformCredit(CreditMethod):
    """s_t = scale * raw / T on each of the T tokens, the EOS included; the penalty at the last one."""

    def plan(self, response: Response) -> CreditPlan:
        return CreditPlan()

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        check_finite(score)
        units = every_token(response)
        credits_T = np.full(response.n_tokens, score.scale * score.raw / response.n_tokens)
        rewards_T = place(response, units, credits_T, score, 1.0, 0.0)
        return TokenRewards(rewards_T, units, credits_T, rest=rest(score, 1.0, 0.0))
