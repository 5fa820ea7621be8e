"""From responses and their evaluations to what the policy learns from: token rewards, advantages, returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scar_ray.config.schema import AlgorithmConfig, Sampling
from scar_ray.credit import CreditMethod
from scar_ray.objectives.gae import explained_variance, gae, kl_rewards, whiten
from scar_ray.objectives.importance import importance_weights
from scar_ray.objectives.kl import k1, k3
from scar_ray.objectives.shaping import shape_score
from scar_ray.records import (
    CreditPlan,
    Evaluation,
    FloatArray,
    Prompt,
    Request,
    Response,
    SequenceScore,
    TokenRewards,
)
from scar_ray.trainer.groups import group_advantages
from scar_ray.trainer.protocols import Float32Array, Forward, PPOBatch, Sequences

EXACT = ("shapley", "owen")
"""Estimators whose credits are exact."""
MAX_RESIDUAL = 1e-6
"""Token rewards must add up to the sequence score to this share of its size: rounding, no more."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A response with its score and its token rewards."""

    response: Response
    score: SequenceScore
    rewards: TokenRewards

    @property
    def residual(self) -> float:
        """What the token rewards add up to beyond the sequence score."""
        return float(self.rewards.rewards_T.sum() - self.score.final)


def prompts_of_step(prompts: Sequence[Prompt], step: int, count: int, seed: int) -> list[Prompt]:
    """The `count` prompts of training step `step` (from 0): each pass over the data in an order of its own.

    A function of its arguments only, so that a resumed run reads on where it stopped.
    """
    picked: list[Prompt] = []
    position = step * count
    while len(picked) < count:
        epoch, start = divmod(position, len(prompts))
        order = np.random.default_rng([seed, epoch]).permutation(len(prompts))
        take = order[start : start + count - len(picked)]
        picked += [prompts[i] for i in take]
        position += len(take)
    return picked


def requests_of_step(prompts: Sequence[Prompt], samples: int, step: int, seed: int) -> list[Request]:
    """One request for each sample of each prompt, with a seed that no engine, batch or order influences.

    A prompt that comes more than once, at the turn of an epoch or in a small data set, goes on counting its samples:
    its responses must not be the same ones again.
    """
    requests: list[Request] = []
    asked: Counter[int] = Counter()
    for prompt in prompts:
        for sample in range(asked[prompt.index], asked[prompt.index] + samples):
            state = np.random.SeedSequence([seed, step, prompt.index, sample]).generate_state(1)
            requests.append(Request(len(requests), prompt, sample, int(state[0]) & 0x7FFFFFFF))
        asked[prompt.index] += samples
    return requests


def score_response(
    response: Response,
    plan: CreditPlan,
    evaluation: Evaluation,
    credit: CreditMethod,
    algorithm: AlgorithmConfig,
    sampling: Sampling,
) -> Scored:
    """Shapes the sequence score and shares it out.

    ValueError, naming the credit method, when there is not one share for each token or they do not add up to the score.
    """
    shaping = algorithm.shaping
    raw = credit.score(response, plan, evaluation)
    scale, penalty = shape_score(
        raw,
        n_tokens=response.n_tokens,
        finished=response.finished,
        max_new_tokens=sampling.max_new_tokens,
        clip=shaping.clip,
        missing_eos_penalty=shaping.missing_eos_penalty,
        over_length_penalty=shaping.over_length_penalty,
        over_length_start=shaping.over_length_start,
    )
    score = SequenceScore(raw, scale, penalty)
    scored = Scored(response, score, credit.assign(response, plan, evaluation, score))
    who = f"credit method {type(credit).__name__}: prompt {response.prompt.index}, sample {response.sample}"
    if scored.rewards.rewards_T.shape != (response.n_tokens,):
        raise ValueError(
            f"{who} has {response.n_tokens} tokens and token rewards of shape {scored.rewards.rewards_T.shape}; "
            "a credit method must reward every token, be it with 0"
        )
    if not abs(scored.residual) <= MAX_RESIDUAL * (1.0 + abs(score.final)):
        raise ValueError(
            f"{who} has the score {score.final:.9g} and token rewards that add up to "
            f"{score.final + scored.residual:.9g}; a credit method must share out the score, no more and no less"
        )
    return scored


def sequences_of(responses: Sequence[Response]) -> Sequences:
    """Token ids of the responses, in their order."""
    return Sequences(
        tuple(response.prompt.token_ids for response in responses),
        tuple(response.token_ids for response in responses),
    )


def padded(rows: Sequence[np.ndarray], width: int) -> FloatArray:
    """(B, T) array of ragged rows, zeros at padding."""
    array = np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
    return array


def ppo_batch(
    scored: Sequence[Scored],
    sequences: Sequences,
    forward: Forward,
    algorithm: AlgorithmConfig,
    kl_coef: float,
    lr_scale: float,
) -> tuple[PPOBatch, dict[str, float]]:
    """Advantages, returns where there is a critic, and measurements of what went in.

    The KL penalty is part of the token rewards, or left to the loss, as `algorithm.kl.place` says.
    """
    mask, in_loss = sequences.mask_BT, algorithm.kl.place == "loss"
    width = mask.shape[1]
    credit_BT = padded([one.rewards.rewards_T for one in scored], width)
    paid = 0.0 if in_loss else kl_coef
    rewards_BT = kl_rewards(credit_BT, forward.logprobs_BT, forward.ref_logprobs_BT, mask, paid)
    metrics = _metrics(scored, sequences, forward)
    counted_B = np.ones(len(scored), dtype=np.bool_)
    returns_BT = None
    if algorithm.has_critic:
        assert forward.values_BT is not None, "the learner has a critic"
        advantages_BT, returns_BT = gae(rewards_BT, forward.values_BT, mask, algorithm.gamma, algorithm.lam)
        metrics["ppo/explained_variance"] = explained_variance(forward.values_BT, returns_BT, mask)
        if algorithm.whiten_advantages:
            advantages_BT = whiten(advantages_BT, mask)
    else:
        finals_B = np.array([one.score.final for one in scored])
        found = group_advantages([one.rewards for one in scored], finals_B, rewards_BT, mask, algorithm)
        advantages_BT, counted_B = found.advantages_BT, found.counted_B
        metrics |= found.metrics
    weights_BT = np.ones_like(forward.logprobs_BT)
    if algorithm.importance_cap is not None:
        engine_BT = padded([one.response.logprobs_T for one in scored], width)
        weights_BT = importance_weights(forward.logprobs_BT, engine_BT, mask, algorithm.importance_cap)
    batch = PPOBatch(
        sequences=sequences,
        old_logprobs_BT=forward.logprobs_BT,
        old_values_BT=None if returns_BT is None else forward.values_BT,
        advantages_BT=advantages_BT.astype(np.float32),
        returns_BT=None if returns_BT is None else returns_BT.astype(np.float32),
        weights_BT=weights_BT,
        lr_scale=lr_scale,
        ref_logprobs_BT=forward.ref_logprobs_BT if in_loss else None,
        kl_coef=kl_coef if in_loss else 0.0,
        counted_B=counted_B,
    )
    return batch, metrics


def _metrics(scored: Sequence[Scored], sequences: Sequences, forward: Forward) -> dict[str, float]:
    mask = sequences.mask_BT
    raw = np.array([one.score.raw for one in scored])
    logprobs, reference = forward.logprobs_BT.astype(np.float64), forward.ref_logprobs_BT.astype(np.float64)
    return {
        "reward/mean": float(raw.mean()),
        "reward/std": float(raw.std()),
        "reward/final_mean": float(np.mean([one.score.final for one in scored])),
        "kl/k1": float(np.where(mask, k1(logprobs, reference), 0.0).sum(1).mean()),
        "kl/k3": float(np.where(mask, k3(logprobs, reference), 0.0).sum(1).mean()),
        "length/mean": float(mask.sum(1).mean()),
        "length/eos_share": float(np.mean([one.response.finished for one in scored])),
        "credit/residual_max": max(abs(one.residual) for one in scored),
        "credit/base_mean": float(np.mean([one.rewards.base for one in scored])),
        "credit/efficiency_residual_max": max(abs(one.rewards.efficiency_residual) for one in scored),
        "credit/exact_share": float(np.mean([one.rewards.estimator in EXACT for one in scored])),
        "credit/units_mean": float(np.mean([len(one.rewards.units) for one in scored])),
        "credit/dropped_mean": float(np.mean([len(one.rewards.dropped) for one in scored])),
        "tokens/generated": float(mask.sum()),
    }


def value_metrics(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Mean standard error of the values that were sampled, where there are such; v(all) is none of them."""
    errors = [np.delete(one.stderr_C, 1) for one in evaluations if one.stderr_C is not None]
    return {"credit/value_stderr": float(np.concatenate(errors).mean())} if errors else {}


def logprob_gaps(responses: Sequence[Response], logprobs_BT: Float32Array) -> dict[str, float]:
    """Largest difference between the engine's and the learner's log-probability of a token, by engine (nats)."""
    gaps: dict[str, float] = {}
    for response, row in zip(responses, logprobs_BT, strict=True):
        gap = np.abs(response.logprobs_T - row[: response.n_tokens]).max()
        gaps[response.engine] = float(np.maximum(gaps.get(response.engine, 0.0), gap))  # nan stays nan
    return gaps
