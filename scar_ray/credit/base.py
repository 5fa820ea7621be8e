"""What a credit method is, and the placement of credits on tokens that the methods share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np

from scar_ray.records import (
    CreditPlan,
    Evaluation,
    FloatArray,
    Response,
    SequenceScore,
    TokenRewards,
    Units,
)

Base = Literal["last", "spread", "zero"]
"""Where v(empty) goes: the last token; equal parts on the units' ends; or nowhere, with v(empty) := 0."""


class CreditMethod(ABC):
    """Distributes the sequence score of a response over its tokens, in two pure steps.

    Methods are frozen dataclasses whose fields are their options. They see one response at a time and never
    the reward model.
    """

    plays_game: ClassVar[bool] = False
    """True when plans have units and coalitions, whose credits an audit can compare with exact ones."""

    asks_beginnings: ClassVar[bool] = False
    """True when all coalitions of its plans are beginnings of the response, which the policy can go on from."""

    scores_itself: ClassVar[bool] = False
    """True when `score` is something else than the reward model's plain score, and needs the answers to the plan."""

    @abstractmethod
    def plan(self, response: Response) -> CreditPlan:
        """What the reward model has to answer about `response`, beside its plain score."""

    def score(self, response: Response, plan: CreditPlan, evaluation: Evaluation) -> float:
        """The sequence score, before clipping and penalties: the plain score, where a method says nothing else."""
        return evaluation.score

    @abstractmethod
    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        """Token rewards that add up to `score.final`, from the answers to `plan`.

        `evaluation` holds the raw answers, `score` what clipping and penalties made of `score()`.
        ValueError when the score or an answer is not finite.
        """


def check_finite(score: SequenceScore) -> None:
    """ValueError unless the score is finite before and after shaping."""
    if not (math.isfinite(score.raw) and math.isfinite(score.final)):
        raise ValueError(f"score: must be finite, got raw={score.raw} scale={score.scale} penalty={score.penalty}")


def every_token(response: Response) -> Units:
    """Every token a unit of its own, the EOS included; for the display of methods that have no players."""
    n = response.n_tokens
    return Units(tuple(range(1, n + 1)), 0 if n == 1 else tuple(range(n)))


def place(
    response: Response, units: Units, credits_n: FloatArray, score: SequenceScore, alpha: float, left: float
) -> FloatArray:
    """rewards_T: alpha times each credit at the last token of its unit, the rest of the score at the end.

    The last token gets (1 - alpha) * scale * raw + penalty + alpha * left, where `left` is the part of
    scale * raw that is nobody's credit. With sum(credits) + left = scale * raw the rewards add up to
    `score.final`, and alpha = 0 is the sparse reward bit for bit.
    """
    rewards_T = np.zeros(response.n_tokens)
    rewards_T[np.asarray(units.ends, dtype=np.intp) - 1] += alpha * credits_n
    rewards_T[-1] += rest(score, alpha, left)
    return rewards_T


def rest(score: SequenceScore, alpha: float, left: float) -> float:
    """What `place` pays at the last token beside credits: (1 - alpha) * scale * raw + penalty + alpha * left."""
    return (1 - alpha) * (score.scale * score.raw) + score.penalty + alpha * left


def assign_credits(
    response: Response,
    plan: CreditPlan,
    evaluation: Evaluation,
    score: SequenceScore,
    alpha: float,
    base: Base,
    credits_of: Callable[[FloatArray], FloatArray] | None = None,
) -> TokenRewards:
    """Token rewards from the values of the plan's coalitions, for methods whose players are units.

    phi = operator @ values, or `credits_of(values)` of methods that are not linear, with v(all) := raw, the score
    that is being distributed; in half precision a batched v(all) may differ from it by rounding, which
    `efficiency_residual` then shows. Each unit's credit
    is placed at its last token. Without units the reward is sparse. ValueError when the score or a value is
    not finite.
    """
    check_finite(score)
    units, game = plan.units, plan.game
    assert units is not None, "the plan has units"
    if game is None:
        no_credits = np.zeros(0)
        rewards_T = place(response, units, no_credits, score, 0.0, 0.0)
        return TokenRewards(rewards_T, units, no_credits, rest=rest(score, 0.0, 0.0))

    assert evaluation.values_C is not None, "the plan asks for coalition values"
    values_C = np.array(evaluation.values_C, dtype=np.float64)
    game.check(values_C)
    empty, full = float(values_C[0]), float(values_C[1])
    values_C[1] = score.raw
    if base == "zero":
        values_C[0] = 0.0
    credits_n = score.scale * (credits_of or game.credits)(values_C)

    n, left = len(units), score.scale * float(values_C[0])
    paid_n, at_the_end = (credits_n + left / n, 0.0) if base == "spread" else (credits_n, left)
    residual = float(credits_n.sum()) - score.scale * (full - float(values_C[0]))
    return TokenRewards(
        place(response, units, paid_n, score, alpha, at_the_end),
        units,
        credits_n,
        base=empty,
        efficiency_residual=residual,
        estimator=game.estimator,
        rest=rest(score, alpha, at_the_end),
    )
