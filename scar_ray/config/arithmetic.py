"""Batch arithmetic of a training step, and how many sequences the reward models read for it."""

from __future__ import annotations

from dataclasses import dataclass

from scar_ray.config.schema import Config, CreditConfig
from scar_ray.games import balanced, coalitions_needed

TOKENS_PER_UNIT = {"token": 1, "span": 3, "sentence": 20}
"""Typical length of a unit in tokens of English text, for the estimate of the number of units."""


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
    """A response of full length with units of typical length."""
    most: int
    """No response needs more."""
    units: int
    """Units of the typical response; 0 for methods without any."""


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
    """Bounds and an estimate of the evaluations of a response under the configured credit method."""
    credit, sampling = config.credit, config.task.sampling
    if credit.method in ("sparse", "uniform", "abc"):
        return Evaluations(1, 1, 1, 0)
    longest = min(sampling.max_new_tokens, credit.max_units)
    typical = max(1, min(longest, round(sampling.max_new_tokens / TOKENS_PER_UNIT[credit.unit])))
    # Without a token before the EOS there is nothing to share out; any text has at least one unit.
    shortest = min(sampling.min_new_tokens, longest if credit.unit == "token" else 1)
    if credit.method == "prefix":
        # The empty prefix and one for each unit; the longest is the plain score.
        return Evaluations(shortest + 1, typical + 1, longest + 1, typical)
    return Evaluations(
        least=min(_fewest(credit, n) for n in range(shortest, longest + 1)) if shortest else 1,
        typical=_balanced(credit, typical),
        most=max(_most(credit, n) for n in range(1, longest + 1)),
        units=typical,
    )


def _balanced(credit: CreditConfig, n: int) -> int:
    """Coalitions of n units on a balanced binary tree."""
    if credit.estimator != "auto":
        return coalitions_needed(balanced(n), credit.estimator)
    owen = coalitions_needed(balanced(n), "owen")
    return owen if owen <= credit.budget else coalitions_needed(balanced(n), "paired_tree")


def _fewest(credit: CreditConfig, n: int) -> int:
    """Coalitions of n units on the cheapest tree: flat for paired-tree credits, balanced for Owen values."""
    if credit.estimator in ("shapley", "owen"):
        return _balanced(credit, n)
    flat = coalitions_needed(tuple(range(n)), "paired_tree")
    return min(flat, _balanced(credit, n))


def _most(credit: CreditConfig, n: int) -> int:
    """Coalitions of n units on the dearest tree: all 2^n within the budget, binary for paired-tree credits."""
    if credit.estimator == "paired_tree":
        return coalitions_needed(balanced(n), "paired_tree")
    return int(min(2**n, credit.budget))
