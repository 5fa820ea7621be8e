"""Batch arithmetic of a training step, and how many sequences the reward models read for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, cycle, islice
from statistics import fmean

import numpy as np

from scar_ray.config.schema import Config, CreditConfig
from scar_ray.credit import build
from scar_ray.games import balanced, coalitions_needed
from scar_ray.records import Prompt, Response

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

    least: int
    """The shortest response."""
    typical: int
    """Mean over responses of full length of English prose."""
    most: int
    """No response needs more."""
    units: int
    """Mean number of units of those; 0 for methods without any."""


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
    """Bounds of the evaluations of a response, and their mean over responses of full length."""
    credit, sampling = config.credit, config.task.sampling
    method = build(**credit.method_options())
    plans = [method.plan(response) for response in _responses(sampling.max_new_tokens)]
    counts = [plan.game.n_coalitions if plan.game else 1 for plan in plans]
    sizes = [plan.game.n_players if plan.game else 0 for plan in plans]
    longest = min(sampling.max_new_tokens, credit.max_units)
    # Without a token before the EOS there is nothing to share out. Otherwise one unit is possible, also of many
    # tokens: bytes of one character belong together.
    lengths = range(min(sampling.min_new_tokens, 1), longest + 1)
    return Evaluations(
        least=min(_bounds(credit, n)[0] for n in lengths),
        typical=round(fmean(counts)),
        most=max(_bounds(credit, n)[1] for n in lengths),
        units=round(fmean(sizes)),
    )


def _bounds(credit: CreditConfig, n: int) -> tuple[int, int]:
    """Fewest and most evaluations of a response of n units, over all trees that they can have."""
    if credit.method in ("sparse", "uniform", "abc") or n == 0:
        return 1, 1
    if credit.method == "prefix":
        return n + 1, n + 1
    if credit.estimator == "shapley":
        return 2**n, 2**n
    flat, binary = (coalitions_needed(tree, "paired_tree") for tree in (tuple(range(n)), balanced(n)))
    # Units are merged where the paired tree would exceed the budget; two coalitions are left of one unit.
    fewest = flat if flat <= credit.budget else 2
    if credit.estimator == "paired_tree":
        return fewest, min(binary, credit.budget)
    # Exact Owen values are cheapest on balanced trees and need all coalitions on chains.
    owen = coalitions_needed(balanced(n), "owen")
    return min(owen, fewest) if credit.estimator == "auto" else owen, min(2**n, credit.budget)


def _responses(n_tokens: int) -> Iterator[Response]:
    """Stretches of the sample of so many tokens, as responses that were cut off at full length."""
    words = re.findall(r"\s*(?:\w+|[^\w\s])", SAMPLE)
    for window in range(WINDOWS):
        start = window * len(words) // WINDOWS
        tokens = list(islice(cycle([*words[start:], *words[:start]]), n_tokens))
        ends = list(accumulate(map(len, tokens)))
        yield Response(
            row=window,
            prompt=Prompt(0, (), ""),
            sample=0,
            token_ids=(0,) * n_tokens,
            text="".join(tokens),
            token_spans=tuple(zip([0, *ends[:-1]], ends, strict=True)),
            finished=False,
            logprobs_T=np.zeros(n_tokens, dtype=np.float32),
            policy_version=0,
            engine="",
        )
