"""Combinations of valid keys that exclude each other, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar_ray.config.schema import Config

MAX_EXACT_UNITS = 16
"""Largest game whose exact values `scar_ray.games` computes whatever its tree."""


def conflicts(config: Config) -> list[str]:
    """One line for each combination that cannot work; empty when all is well."""
    return [*_models(config), *_lengths(config), *_credit(config), *_algorithm(config), *_cluster(config)]


def _models(config: Config) -> Iterator[str]:
    if config.task.name == "demo":
        return  # trains what it is not given
    paths = {"model.policy.path": config.model.policy.path, "model.reward.path": config.model.reward.path}
    empty = " and ".join(key for key, path in paths.items() if not path)
    if empty:
        yield f"task={config.task.name} needs {empty}, only task=demo makes its own; use model=tiny or set it"


def _lengths(config: Config) -> Iterator[str]:
    task, limit = config.task, config.cluster.rollout.max_model_len
    length = task.prompt_tokens_max + task.sampling.max_new_tokens
    if length > limit:
        yield (
            f"task.prompt_tokens_max + task.sampling.max_new_tokens = {task.prompt_tokens_max} + "
            f"{task.sampling.max_new_tokens} exceeds cluster.rollout.max_model_len={limit}; raise it"
        )
    start = config.algorithm.shaping.over_length_start
    if start is not None and start >= task.sampling.max_new_tokens:
        yield (
            f"algorithm.shaping.over_length_start={start} must be below task.sampling.max_new_tokens="
            f"{task.sampling.max_new_tokens}"
        )


def _credit(config: Config) -> Iterator[str]:
    """Exact values must fit the budget whatever a response's units; other estimators see to it themselves."""
    credit = config.credit
    if credit.method != "scar" or credit.estimator not in ("shapley", "owen"):
        return
    n = min(credit.max_units, config.task.sampling.max_new_tokens)
    affordable = min(credit.budget.bit_length() - 1, MAX_EXACT_UNITS)
    if n > affordable:
        yield (
            f"credit.estimator={credit.estimator} can need 2^n coalitions for up to n={n} units (the smaller "
            f"of credit.max_units and task.sampling.max_new_tokens), over credit.budget={credit.budget}; "
            f"use credit.max_units={affordable} or credit.estimator=auto"
        )


def _algorithm(config: Config) -> Iterator[str]:
    batch, learner, critic = config.algorithm.batch, config.cluster.learner, config.algorithm.critic
    per_pass = learner.ranks * learner.micro_batch
    if batch.minibatch % per_pass:
        yield (
            f"algorithm.batch.minibatch={batch.minibatch} must be a multiple of cluster.learner.ranks * "
            f"cluster.learner.micro_batch = {learner.ranks} * {learner.micro_batch} = {per_pass}"
        )
    if critic.init == "reward" and critic.kind == "shared":
        yield "algorithm.critic.init=reward needs algorithm.critic.kind=separate"


def _cluster(config: Config) -> Iterator[str]:
    cluster = config.cluster
    if config.model.policy.dtype == "bfloat16" and cluster.learner.zero_stage == 0:
        yield "cluster.learner.zero_stage=0 makes DeepSpeed's first bfloat16 update wrong; use 1, 2 or 3"
    if cluster.placement == "shared" and cluster.device == "cpu":
        yield "cluster.placement=shared is about GPUs; with cluster.device=cpu use placement=separate"
    elif cluster.placement == "shared":
        gpus = cluster.rollout.engines * cluster.rollout.tensor_parallel
        if gpus != cluster.learner.ranks:
            yield (
                f"cluster.placement=shared gives each engine's GPU one learner rank: cluster.learner.ranks="
                f"{cluster.learner.ranks} must equal cluster.rollout.engines * tensor_parallel = {gpus}"
            )
        fullest = -(-cluster.reward.actors // cluster.learner.ranks)
        if fullest * cluster.reward.gpus_per_actor >= 1:
            yield (
                f"cluster.reward.gpus_per_actor={cluster.reward.gpus_per_actor:g} leaves nothing of a GPU "
                f"shared with {fullest} reward actors; lower it to {0.4 / fullest:.2g}"
            )
