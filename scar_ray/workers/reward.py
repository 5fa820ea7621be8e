"""One reward model in a Ray actor."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scar_ray import scoring
from scar_ray.config.cluster import EngineName
from scar_ray.config.schema import Config, Masking, RewardModelConfig
from scar_ray.records import CreditPlan, Evaluation, Response
from scar_ray.scoring import SampleFailed, Workload
from scar_ray.scoring.encoding import Alike
from scar_ray.workers.environment import importing
from scar_ray.workers.reward_tasks import Job

if TYPE_CHECKING:
    from scar_ray.scoring.measured import Measured


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """What a reward actor is started with."""

    model: RewardModelConfig
    policy_tokenizer: str
    masking: Masking
    device: str
    batch_tokens: int
    attention: bool
    trust_remote_code: bool
    threads: int
    engine: EngineName = "auto"
    memory_gib: float = 1.0
    batch_texts: int = 256
    parallel_calls: int | None = None
    gold: RewardModelConfig | None = None
    """A second reward model that only evaluates."""
    tensor_parallel: int = 1
    gpus: float = 1.0
    """Share of each of its GPUs that the actor has."""


def reward_options(config: Config) -> RewardOptions:
    """Those of a run's reward actors."""
    pool = config.cluster.reward
    return RewardOptions(
        model=config.model.reward,
        policy_tokenizer=config.model.policy.path,
        masking=config.credit.masking,
        device=config.cluster.device,
        batch_tokens=pool.batch_tokens,
        attention=config.credit.method == "abc",
        trust_remote_code=config.model.trust_remote_code,
        threads=config.cluster.threads_per_actor,
        engine="vllm" if pool.uses_vllm else pool.engine,
        memory_gib=pool.memory_gib,
        batch_texts=pool.batch_texts,
        parallel_calls=pool.parallel_calls,
        gold=config.eval.gold if config.eval.every else None,
        tensor_parallel=pool.tensor_parallel,
        gpus=pool.gpus_per_actor,
    )


class RewardWorker:
    """One reward model, or function, in an actor of its own."""

    def __init__(self, name: str, options: RewardOptions) -> None:
        import torch

        if options.device == "cpu":
            torch.set_num_threads(options.threads)
        self._name = name
        self._reward, self._gold = load_reward(options), None
        if options.gold is not None:  # it scores whole responses only: nothing is left out of them
            plain = replace(options, model=options.gold, masking="delete", attention=False, engine="auto")
            self._gold = load_reward(plain)

    def ready(self, engine: EngineName | None = None) -> str:
        """Returns the actor's name once it has loaded, and computes coalitions by that engine from then on."""
        if engine is not None and isinstance(self._reward, scoring.RewardModel):
            self._reward.use_engine(engine)
        return self._name

    def engine(self) -> str:
        """Name of the engine that computes coalitions."""
        return self._reward.engine

    def alike(self) -> tuple[Alike, int]:
        """When coalitions of two responses to a prompt are equal to what scores them, and what fills their gaps."""
        return self._reward.alike, self._reward.fill_token

    def measure(self, response: Response, plan: CreditPlan) -> Measured | None:
        """How long the model's engines take for such a response; None where it is too long for the model."""
        assert isinstance(self._reward, scoring.EncodedReward)
        try:
            return self._reward.measure_engines(response, plan)
        except SampleFailed:  # one of full length may be; those of the run say so when they are
            return None

    def evaluate(self, jobs: list[Job]) -> tuple[list[Evaluation], Workload, float]:
        """Evaluations of the jobs, what they took, and the seconds spent."""
        started = time.perf_counter()
        evaluations, work = self._reward.evaluate(jobs)
        if any(plan.gold for _, plan in jobs):
            evaluations = self._with_gold(jobs, evaluations)
        return evaluations, work, time.perf_counter() - started

    def _with_gold(self, jobs: list[Job], evaluations: list[Evaluation]) -> list[Evaluation]:
        """The evaluations with the second model's scores of the full responses."""
        assert self._gold is not None, "no second reward model was loaded"
        try:
            scored, _ = self._gold.evaluate([(response, CreditPlan()) for response, _ in jobs])
        except SampleFailed as error:
            raise SampleFailed(f"eval.gold: {error}") from None
        return [replace(one, gold=other.score) for one, other in zip(evaluations, scored, strict=True)]

    def close(self) -> None:
        """Ends the worker processes of a tensor-parallel vLLM engine on CPU; they would outlive a kill."""
        from scar_ray.workers.pooling import PoolingReward

        if isinstance(self._reward, PoolingReward):
            self._reward.close()


def load_reward(options: RewardOptions) -> scoring.EncodedReward | scoring.FunctionReward:
    """What scores the responses. Models and engines are imported here, not by who starts the actor."""
    if options.model.function:
        return scoring.FunctionReward(
            options.model,
            masking=options.masking,
            batch_texts=options.batch_texts,
            parallel_calls=options.parallel_calls,
        )
    if options.engine == "vllm":
        from scar_ray.workers.pooling import PoolingReward, VllmPooling

        engine = VllmPooling(
            options.model,
            device=options.device,
            memory_gib=options.memory_gib,
            tensor_parallel=options.tensor_parallel,
            gpus=options.gpus,
            trust_remote_code=options.trust_remote_code,
        )
        return PoolingReward(
            options.model,
            engine,
            policy_tokenizer=options.policy_tokenizer,
            masking=options.masking,
            trust_remote_code=options.trust_remote_code,
        )
    with importing():
        from scar_ray.scoring.model import RewardModel
    return RewardModel(
        options.model,
        policy_tokenizer=options.policy_tokenizer,
        masking=options.masking,
        device=options.device,
        batch_tokens=options.batch_tokens,
        engine=options.engine,
        memory_gib=options.memory_gib,
        attention=options.attention,
        trust_remote_code=options.trust_remote_code,
    )
