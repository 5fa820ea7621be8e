"""The workload of a training step from the configuration and two model shapes."""

from __future__ import annotations

from scar_ray.config.errors import UserError
from scar_ray.config.schema import Config
from scar_ray.planning.reading import reading
from scar_ray.planning.shapes import ModelShape
from scar_ray.planning.step import Workload


def workload(config: Config, policy: ModelShape, reward: ModelShape) -> Workload:
    """Prompts of `task.prompt_tokens_max` tokens, responses of `task.sampling.max_new_tokens`."""
    algorithm, cluster = config.algorithm, config.cluster
    prompt, new, lora = config.task.prompt_tokens_max, config.task.sampling.max_new_tokens, config.model.policy.lora
    critic = None
    if algorithm.has_critic and algorithm.critic.kind == "separate":
        critic = (policy if algorithm.critic.init == "policy" else reward).scalar()
    if lora is not None and lora.target_modules:
        raise UserError("model.policy.lora.target_modules: a plan counts adapters on all linear layers; leave it out")
    return Workload(
        policy=policy,
        reward=reward.scalar(),
        critic=critic,
        lora_rank=None if lora is None else lora.rank,
        responses=algorithm.batch.responses,
        prompt=prompt,
        new=new,
        epochs=algorithm.epochs,
        minibatch=algorithm.batch.minibatch,
        micro_batch=cluster.learner.micro_batch,
        reading=reading(config, prompt, new),
        reward_memory=cluster.reward.memory_gib * 2**30,
        engine_memory=cluster.rollout.gpu_memory,
    )
