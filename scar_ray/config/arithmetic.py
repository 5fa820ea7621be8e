"""Batch arithmetic of a training step, and how many sequences the reward models read for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, cycle, islice
from statistics import fmean

import numpy as np

from scar_ray.config.schema import Config, CreditConfig
from scar_ray.credit import build
from scar_ray.games import Lengths
from scar_ray.records import FILLS, CreditPlan, Masking, Prompt, Response

SAMPLE = (
    " The film starts slowly, but the acting is superb and the story never feels forced. "
    "I was not bored for a minute! Although the ending (which I will not give away) comes as a surprise, "
    "it makes sense when you think about it. The music is lovely; the camera work, however, could have been "
    "better in the darker scenes. Some of the jokes fall flat. "
    "In short: a warm, honest and very funny picture that my whole family enjoyed."
)
"""English prose whose units stand for those of responses; a word or a mark counts as a token."""
WINDOWS = 8
"""Stretches of the sample over which the estimate is averaged."""


@dataclass(frozen=True, slots=True)
class BatchArithmetic:
    """What one training step does, and the run as a whole."""

    responses: int
    minibatches: int
    """Mini-batches of an epoch; each is one optimizer step."""
    optimizer_steps: int
    """Optimizer steps of a training step, unless target_kl stops its epochs early."""
    micro_batches: int
    """Forward and backward passes of a rank for one optimizer step."""
    new_tokens: int
    """Generated tokens of a step at most."""
    total_responses: int
    total_optimizer_steps: int


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Sequences that the reward models read for one response, its plain score included."""

    typical: int
    """Mean over responses of full length of English prose."""
    most: int
    """No response needs more."""
    tokens: int
    """Reward-model tokens of the typical response's sequences, each with a prompt of middle length."""
    computed: int
    """Those of them that a causal reward model computes: the prompt and every common beginning once."""
    units: int
    """Mean number of units of those; 0 for methods without any."""
    generated: int = 0
    """Most tokens that the policy writes for the values of the typical response, where it completes coalitions."""


def batch_arithmetic(config: Config) -> BatchArithmetic:
    """Mini-batches, optimizer steps and micro-batches of a step; all divisions are exact."""
    batch, learner = config.algorithm.batch, config.cluster.learner
    minibatches = batch.responses // batch.minibatch
    steps = config.algorithm.epochs * minibatches
    return BatchArithmetic(
        responses=batch.responses,
        minibatches=minibatches,
        optimizer_steps=steps,
        micro_batches=batch.minibatch // (learner.ranks * learner.micro_batch),
        new_tokens=batch.responses * config.task.sampling.max_new_tokens,
        total_responses=batch.responses * config.trainer.steps,
        total_optimizer_steps=steps * config.trainer.steps,
    )


def evaluations(config: Config) -> Evaluations:
    """Evaluations of a response of full length and their reward-model tokens, and the most that there can be."""
    credit, sampling = config.credit, config.task.sampling
    method = build(**credit.method_options())
    if credit.method == "shape_grpo":
        return _of_candidates(config)
    prompt = round((config.task.prompt_tokens_min + config.task.prompt_tokens_max) / 2)
    plans = [method.plan(response) for response in sample_responses(prompt, sampling.max_new_tokens)]
    if credit.value == "complete":
        return _of_completions(credit, plans, prompt, sampling.max_new_tokens)
    tokens, computed = zip(
        *(_tokens(credit.masking, plan, prompt, sampling.max_new_tokens) for plan in plans), strict=True
    )
    return Evaluations(
        typical=round(fmean(plan.game.n_coalitions if plan.game else 1 for plan in plans)),
        most=_most(credit, min(sampling.max_new_tokens, credit.max_units)),
        tokens=round(fmean(tokens)),
        computed=round(fmean(computed)),
        units=round(fmean(plan.game.n_players if plan.game else 0 for plan in plans)),
    )


def _of_candidates(config: Config) -> Evaluations:
    """Of a response that is nothing but all its candidates."""
    count, sampling = config.credit.candidates.count, config.task.sampling
    prompt = round((config.task.prompt_tokens_min + config.task.prompt_tokens_max) / 2)
    asked, response = count + 2, 2 * sampling.max_new_tokens  # nobody, all, each alone
    return Evaluations(asked, asked, asked * prompt + response, prompt + response, count)


def _of_completions(credit: CreditConfig, plans: Sequence[CreditPlan], prompt: int, new: int) -> Evaluations:
    """Completions of full length, of all coalitions but the full one; those that responses share count for each."""
    games = [(plan.game, np.diff((0, *plan.units.ends))) for plan in plans if plan.game and plan.units]
    asked = 1 + credit.completions * fmean(game.n_coalitions - 1 for game, _ in games)
    tokens = round(asked * (prompt + new))
    return Evaluations(
        typical=round(asked),
        most=1 + credit.completions * (_most(credit, min(new, credit.max_units)) - 1),
        tokens=tokens,
        computed=tokens,
        units=round(fmean(game.n_players for game, _ in games)),
        generated=round(credit.completions * fmean((~game.coalitions_Cn @ units_n).sum() for game, units_n in games)),
    )


def typical_job(config: Config) -> tuple[Response, CreditPlan]:
    """A response of full length to a prompt of middle length, and what the credit method asks about it.

    English prose, a word or a mark for a token; its token ids mean nothing.
    """
    prompt = round((config.task.prompt_tokens_min + config.task.prompt_tokens_max) / 2)
    response = next(sample_responses(prompt, config.task.sampling.max_new_tokens))
    words = next(sample_responses(0, prompt)).text
    response = replace(response, prompt=replace(response.prompt, text=words))
    return response, build(**config.credit.method_options()).plan(response)


def _most(credit: CreditConfig, n: int) -> int:
    """Most evaluations of a response of up to n units."""
    if credit.method in ("sparse", "uniform", "abc"):
        return 1
    return n + 1 if credit.method == "prefix" else min(2**n, credit.budget)


def _tokens(masking: Masking, plan: CreditPlan, prompt: int, response: int) -> tuple[int, int]:
    """Tokens of all sequences that `plan` asks for, and with common beginnings once."""
    if plan.game is None or plan.units is None:
        return prompt + response, prompt + response
    unit_tokens = tuple(np.subtract(plan.units.ends, plan.units.starts).tolist())
    asked_Cn = plan.game.coalitions_Cn
    in_place = Lengths(prompt, unit_tokens, end=0, filled=masking != "delete")
    nodes = Lengths(prompt, unit_tokens, end=0, filled=masking in FILLS)
    return in_place.tokens(asked_Cn), nodes.trie_tokens(asked_Cn)


def sample_responses(prompt_tokens: int, n_tokens: int) -> Iterator[Response]:
    """Stretches of the sample of `n_tokens`, as responses that were cut off at full length."""
    words = re.findall(r"\s*(?:\w+|[^\w\s])", SAMPLE)
    for window in range(WINDOWS):
        start = window * len(words) // WINDOWS
        tokens = list(islice(cycle([*words[start:], *words[:start]]), n_tokens))
        ends = list(accumulate(map(len, tokens)))
        yield Response(
            row=window,
            prompt=Prompt(0, (0,) * prompt_tokens, ""),
            sample=0,
            token_ids=(0,) * n_tokens,
            text="".join(tokens),
            token_spans=tuple(zip([0, *ends[:-1]], ends, strict=True)),
            finished=False,
            logprobs_T=np.zeros(n_tokens, dtype=np.float32),
            policy_version=0,
            engine="",
        )
