"""Attention-based credit (ABC; Chan et al. 2024, arXiv 2402.00782)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scar_ray.credit.base import CreditMethod, check_finite, every_token, place, rest
from scar_ray.records import CreditPlan, Evaluation, Response, SequenceScore, TokenRewards


@dataclass(frozen=True, slots=True)
class AttentionCredit(CreditMethod):
    """s_t = alpha * scale * raw * w_t + [t = T] * ((1 - alpha) * scale * raw + penalty).

    w is the attention that the position read by the reward head pays to the response tokens in the last
    layer, mean over the heads, normalised over the response. Weights are non-negative, so no token gets a
    reward of the opposite sign.
    """

    alpha: float = 0.8
    """Share of the dense reward, beta in the paper."""

    def plan(self, response: Response) -> CreditPlan:
        return CreditPlan(attention=True)

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        """ValueError also unless the attention is one non-negative weight for each token, not all zero."""
        check_finite(score)
        T = response.n_tokens
        assert evaluation.attention_T is not None, "the plan asks for attention"
        attention_T = np.asarray(evaluation.attention_T, dtype=np.float64)
        if attention_T.shape != (T,):
            raise ValueError(f"attention: expected {T} weights, one for each token, got shape {attention_T.shape}")
        total = float(attention_T.sum())
        if not (np.isfinite(total) and attention_T.min() >= 0 and total > 0):
            raise ValueError(
                "attention: weights must be finite and non-negative with a positive sum, "
                f"got sum {total} and smallest {attention_T.min()}"
            )
        units = every_token(response)
        credits_T = score.scale * score.raw * (attention_T / total)
        rewards_T = place(response, units, credits_T, score, self.alpha, 0.0)
        return TokenRewards(rewards_T, units, credits_T, rest=rest(score, self.alpha, 0.0))
