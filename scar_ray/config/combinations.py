"""Combinations of valid keys that exclude each other, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scar_ray.credit import METHODS
from scar_ray.games.sets import MAX_ENUMERATED

if TYPE_CHECKING:
    from scar_ray.config.schema import AlgorithmConfig, CandidatesConfig, Config, CreditConfig

MAX_EXACT_UNITS = 16
"""Largest game whose exact values `scar_ray.games` computes whatever its tree."""


def conflicts(config: Config) -> list[str]:
    """One line for each combination that cannot work; empty when all is well."""
    checks = (_models, _function, _search, _vllm, _lengths, _supervised, _credit, _algorithm, _cluster, _evaluation)
    return [line for check in checks for line in check(config)]


def _models(config: Config) -> Iterator[str]:
    if config.task.name == "demo":
        return  # trains what it is not given
    reward = config.model.reward
    paths = {"model.policy.path": config.model.policy.path, "model.reward.path": reward.path or reward.function}
    empty = " and ".join(key for key, path in paths.items() if not path)
    if empty:
        yield f"task={config.task.name} needs {empty}, only task=demo makes its own; use model=tiny or set it"


def _function(config: Config) -> Iterator[str]:
    """What only reward models have."""
    reward, name = config.cluster.reward, config.model.reward.function
    if not name:
        if config.cluster.device == "cuda" and reward.gpus_per_actor == 0:
            yield "cluster.reward.gpus_per_actor=0 is for model.reward.function; a reward model needs a share of a GPU"
        return
    if config.credit.method == "abc":
        yield f"credit=abc needs a model's attention, model.reward.function={name} has none; use another credit"
    if config.credit.masking not in ("delete", "blank"):
        yield (
            f"credit.masking={config.credit.masking} is about a model's tokens, model.reward.function={name} reads "
            "text; use delete or blank"
        )
    if config.algorithm.critic.init == "reward":
        yield f"algorithm.critic.init=reward needs a reward model, model.reward.function={name} is none; use policy"
    for key, value, default in (("engine", reward.engine, "auto"), ("tensor_parallel", reward.tensor_parallel, 1)):
        if value != default:
            yield f"cluster.reward.{key}={value} is about models, not model.reward.function={name}; leave it out"


def _search(config: Config) -> Iterator[str]:
    """What makes prompts of queries."""
    task = config.task
    if not task.is_search:
        return
    if task.products is None:
        yield f"task={task.name} needs task.products, the catalogue; set task.products.source"
    for part in ("train", "test"):
        where, source = task.source(part)
        if "{query}" not in source.prompt:
            yield f"{where}.prompt={source.prompt!r}: must hold {{query}}, the place of the query"


def _vllm(config: Config) -> Iterator[str]:
    """What only one of vLLM and Transformers does."""
    reward = config.cluster.reward
    if reward.tensor_parallel > 1 and not reward.uses_vllm:
        yield (
            f"cluster.reward.engine={reward.engine} runs on one GPU, cluster.reward.tensor_parallel="
            f"{reward.tensor_parallel} is for vllm; use one or the other"
        )
    if reward.uses_vllm or reward.engine == "fastest":
        engine = "vllm" if reward.uses_vllm else reward.engine
        if config.credit.method == "abc":
            yield f"credit=abc needs attention, which cluster.reward.engine={engine} does not give; use another engine"
        if config.credit.masking == "attention":
            yield (
                f"credit.masking=attention hides tokens, which cluster.reward.engine={engine} cannot; use another "
                "masking or engine"
            )


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


def _supervised(config: Config) -> Iterator[str]:
    if config.rm.centre and not config.task.has_prompts:
        yield f"rm.centre=true needs demonstrations, which task={config.task.name} has not; leave it out"


def _credit(config: Config) -> Iterator[str]:
    """Exact values must fit the budget whatever a response's units; other estimators see to it themselves.

    A budget of tokens must pay for the prompt, the response and their ends, whatever the response.
    """
    credit, task = config.credit, config.task
    if credit.method == "shape_grpo":
        yield from _candidates(credit.candidates)
        if credit.masking != "delete":
            yield f"credit.masking={credit.masking}: candidates are scored as responses of their own; use delete"
    if credit.value == "complete":
        yield from _completion(credit, config.model.policy.infill)
    if credit.method != "scar":
        return
    if credit.budget_tokens is not None:
        longest = task.prompt_tokens_max + task.sampling.max_new_tokens + 3
        if credit.budget_tokens < longest:
            yield (
                f"credit.budget_tokens={credit.budget_tokens} does not pay for the longest prompt and response, "
                f"task.prompt_tokens_max + task.sampling.max_new_tokens and 3 special tokens = {longest}; raise it"
            )
        if credit.estimator in ("shapley", "owen"):
            yield (
                f"credit.estimator={credit.estimator} is exact and cannot be cut to credit.budget_tokens="
                f"{credit.budget_tokens}; use credit.estimator=auto, which is exact where that is paid for"
            )
    if credit.estimator not in ("shapley", "owen"):
        return
    n = min(credit.max_units, config.task.sampling.max_new_tokens)
    affordable = min(credit.budget.bit_length() - 1, MAX_EXACT_UNITS)
    if n > affordable:
        yield (
            f"credit.estimator={credit.estimator} can need 2^n coalitions for up to n={n} units (the smaller "
            f"of credit.max_units and task.sampling.max_new_tokens), over credit.budget={credit.budget}; "
            f"use credit.max_units={affordable} or credit.estimator=auto"
        )


def _completion(credit: CreditConfig, infill: str) -> Iterator[str]:
    """Any policy goes on from a beginning; what is missing elsewhere takes one that can be asked for it."""
    method = METHODS[credit.method]
    if not method.plays_game:
        able = ", ".join(f"credit={name}" for name, one in METHODS.items() if one.plays_game)
        yield (
            f"credit.value=complete is for credits with coalitions of a response's units, credit={credit.method} has "
            f"none; use one of {able}, or credit.value=mask"
        )
    elif not method.asks_beginnings and not infill:
        able = " or ".join(f"credit={name}" for name, one in METHODS.items() if one.asks_beginnings)
        yield (
            f"credit.value=complete: the coalitions of credit={credit.method} are no beginnings of the response, which "
            f"the policy could go on from; use {able}, or set model.policy.infill for a policy that can fill gaps"
        )
    if credit.masking != "delete":
        yield f"credit.masking={credit.masking}: credit.value=complete leaves nothing out; leave it out"


def _candidates(rules: CandidatesConfig) -> Iterator[str]:
    """What the worth of a set of candidates is computed from."""
    if rules.form == "separator" and not rules.separator:
        yield "credit.candidates.separator is empty; say what stands between candidates, or use form=numbered"
    if rules.utility == "coverage" and not rules.aspects:
        yield "credit.candidates.utility=coverage needs credit.candidates.aspects, such as [music,acting,story]"
    if (rules.utility == "function") != bool(rules.function):
        yield (
            "credit.candidates.utility=function and credit.candidates.function=MODULE:NAME go together, got "
            f"utility={rules.utility} and function={rules.function!r}"
        )
    if rules.utility == "function" and rules.count > MAX_ENUMERATED:
        yield (
            f"credit.candidates.count={rules.count}: utility=function is computed for all 2^count sets; "
            f"use at most {MAX_ENUMERATED}"
        )


def _algorithm(config: Config) -> Iterator[str]:
    batch, learner, critic = config.algorithm.batch, config.cluster.learner, config.algorithm.critic
    per_pass = learner.ranks * learner.micro_batch
    if batch.minibatch % per_pass:
        yield (
            f"algorithm.batch.minibatch={batch.minibatch} must be a multiple of cluster.learner.ranks * "
            f"cluster.learner.micro_batch = {learner.ranks} * {learner.micro_batch} = {per_pass}"
        )
    if config.algorithm.has_critic and critic.init == "reward" and critic.kind == "shared":
        yield "algorithm.critic.init=reward needs algorithm.critic.kind=separate"
    if critic.head_lr is not None and critic.kind == "separate":
        yield (
            "algorithm.critic.head_lr is about a shared trunk; use algorithm.critic.lr for "
            "algorithm.critic.kind=separate"
        )
    if config.algorithm.has_critic and config.algorithm.group != type(config.algorithm.group)():
        yield (
            f"algorithm.group is about algorithms without a critic; algorithm.name={config.algorithm.name} has one, "
            "leave its keys out or use algorithm=grpo"
        )
    if not config.algorithm.has_critic:
        yield from _without_critic(config.algorithm)


def _without_critic(algorithm: AlgorithmConfig) -> Iterator[str]:
    """Rules of algorithms whose baseline is other responses."""
    name, batch = f"algorithm.name={algorithm.name}", algorithm.batch
    if algorithm.critic != type(algorithm.critic)():
        yield f"algorithm.critic is unused: {name} has no critic; leave its keys out or use algorithm=ppo"
    if algorithm.group_size < 2:
        key = "prompts" if algorithm.name == "reinforce" else "samples"
        yield (
            f"{name} needs other responses as a baseline; use algorithm.batch.{key} of at least 2, "
            f"got {getattr(batch, key)}"
        )
    if algorithm.gamma != 1.0:
        yield f"algorithm.gamma={algorithm.gamma:g}: {name} does not discount; use 1"
    if algorithm.kl.place == "reward" and algorithm.kl.coef > 0 and algorithm.group.tokens != "to_go":
        yield (
            f"algorithm.group.tokens={algorithm.group.tokens} shares out the score alone; "
            "use algorithm.kl.place=loss, or algorithm.kl.coef=0"
        )


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
        if cluster.reward.tensor_parallel > gpus:
            yield (
                f"cluster.reward.tensor_parallel={cluster.reward.tensor_parallel} needs as many GPUs, "
                f"cluster.placement=shared has {gpus}; lower it"
            )
        fullest = -(-cluster.reward.actors * cluster.reward.tensor_parallel // cluster.learner.ranks)
        if fullest * cluster.reward.gpus_per_actor >= 1:
            yield (
                f"cluster.reward.gpus_per_actor={cluster.reward.gpus_per_actor:g} leaves nothing of a GPU "
                f"shared with {fullest} reward actors; lower it to {0.4 / fullest:.2g}"
            )


def _evaluation(config: Config) -> Iterator[str]:
    held_out, task = config.eval, config.task
    sampling = held_out.sampling(task.sampling)
    if held_out.max_new_tokens is not None:
        if sampling.min_new_tokens > held_out.max_new_tokens:
            yield (
                f"eval.max_new_tokens={held_out.max_new_tokens} is below task.sampling.min_new_tokens="
                f"{sampling.min_new_tokens}; raise it"
            )
        length, limit = task.prompt_tokens_max + held_out.max_new_tokens, config.cluster.rollout.max_model_len
        if length > limit:
            yield (
                f"task.prompt_tokens_max + eval.max_new_tokens = {task.prompt_tokens_max} + {held_out.max_new_tokens} "
                f"exceeds cluster.rollout.max_model_len={limit}; raise it"
            )
    if held_out.gold is not None and not (held_out.gold.path or held_out.gold.function):
        yield "eval.gold.path is empty; name the second reward model, or set eval.gold=null"
    if held_out.select == "gold" and held_out.gold is None:
        yield "eval.select=gold needs a second reward model; set eval.gold.path, or eval.select=reward"
