"""Sparse reward: the whole sequence score at the last token, as in plain RLHF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scar_ray.credit.base import CreditMethod, check_finite, every_token, place, rest
from scar_ray.records import CreditPlan, Evaluation, Response, SequenceScore, TokenRewards


@dataclass(frozen=True, slots=True)
class SparseCredit(CreditMethod):
    """s_t = [t = T] * (scale * raw + penalty)."""

    def plan(self, response: Response) -> CreditPlan:
        return CreditPlan()

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        check_finite(score)
        units = every_token(response)
        credits_T = np.zeros(response.n_tokens)
        credits_T[-1] = score.scale * score.raw
        rewards_T = place(response, units, credits_T, score, 0.0, 0.0)
        return TokenRewards(rewards_T, units, credits_T, rest=rest(score, 0.0, 0.0))
