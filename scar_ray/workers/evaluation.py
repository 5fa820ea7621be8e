"""The actors that measure a policy: engines and reward models as in training, and no trainer."""

from __future__ import annotations

from scar_ray.config.placement import placement
from scar_ray.config.schema import Config
from scar_ray.workers import cluster
from scar_ray.workers.learner_group import RayLearner
from scar_ray.workers.likelihood import LikelihoodRank
from scar_ray.workers.rollout import RayRolloutPool


def start(config: Config, policy: str, log: cluster.Log) -> cluster.Actors:
    """Starts what it takes to measure `policy` against the reference `config.model.policy.path`; waits for all."""
    plan = placement(config.cluster)
    roles = {role.name: role for role in plan.roles}
    group = cluster.reserve(plan, config.cluster, log)
    starter = cluster.Starter(config, group, cluster.bundle_order(plan, group))
    of_policy = cluster.Starter(with_policy(config, policy), group, starter.order)
    with cluster.all_or_none(group) as handles:
        for name, handle in (
            *cluster.start_engines(of_policy, roles["rollout"]),
            *cluster.start_ranks(starter, roles["learner"], LikelihoodRank, policy),
            *cluster.start_rewards(of_policy, roles["reward"]),
        ):
            handles[name] = handle
        cluster.wait_ready(handles)
    return cluster.Actors(
        rollout=RayRolloutPool(*cluster.actors_of(handles, "rollout")),
        reward=cluster.reward_pool(config, *cluster.actors_of(handles, "reward")),
        learner=RayLearner(*cluster.actors_of(handles, "learner")),
        handles=tuple(handles.values()),
        names=tuple(handles),
        group=group,
        config=config,
        engine_processes=config.cluster.device == "cpu" and config.cluster.rollout.tensor_parallel > 1,
        reward_processes=config.cluster.device == "cpu" and config.cluster.reward.tensor_parallel > 1,
    )


def with_policy(config: Config, policy: str) -> Config:
    """The configuration with another policy's path."""
    model = config.model
    path = model.policy.model_copy(update={"path": policy})
    return config.model_copy(update={"model": model.model_copy(update={"policy": path})})
