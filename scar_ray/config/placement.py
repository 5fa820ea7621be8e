"""The placement plan: which actors a configuration starts, and the Ray resources that they reserve."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scar_ray.config.cluster import ClusterConfig

Bundle = dict[str, float]
"""Resources of one placement-group bundle, as Ray writes them: `{"CPU": 1.0, "GPU": 1.0}`."""


@dataclass(frozen=True, slots=True)
class Role:
    """The actors of one kind."""

    name: str
    """rollout, learner or reward."""
    actors: int
    bundles: tuple[tuple[int, ...], ...]
    """For each actor the bundles that it lives in: one, or one for each GPU of a tensor-parallel engine."""
    cpus: float
    """CPUs that an actor reserves in each of its bundles."""
    gpus: float
    """GPUs that an actor reserves in each of its bundles."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One placement group that holds all actors."""

    roles: tuple[Role, ...]
    bundles: tuple[Bundle, ...]

    @property
    def cpus(self) -> float:
        return sum(bundle["CPU"] for bundle in self.bundles)

    @property
    def gpus(self) -> float:
        return sum(bundle.get("GPU", 0.0) for bundle in self.bundles)


def placement(cluster: ClusterConfig) -> Placement:
    """The bundles and actors of a cluster section.

    On CPU: one bundle an actor. GPUs of their own: one bundle for each GPU of an engine, learner rank and
    reward actor, of which tensor-parallel ones have several. Shared GPUs: one bundle a GPU, which an engine, a
    learner rank and reward actors share.
    """
    return _shared(cluster) if cluster.placement == "shared" else _separate(cluster)


def alone(plan: Placement, name: str) -> Placement:
    """The part of a plan that holds the actors of one role."""
    role = next(role for role in plan.roles if role.name == name)
    kept = sorted({bundle for bundles in role.bundles for bundle in bundles})
    number = {bundle: i for i, bundle in enumerate(kept)}
    bundles = tuple(tuple(number[bundle] for bundle in own) for own in role.bundles)
    return Placement((replace(role, bundles=bundles),), tuple(plan.bundles[bundle] for bundle in kept))


def _separate(cluster: ClusterConfig) -> Placement:
    on_gpu = cluster.device == "cuda"
    cpus = 1.0 if on_gpu else cluster.cpus_per_actor
    # On CPU a tensor-parallel engine keeps its worker processes inside its actor.
    per_engine = cluster.rollout.tensor_parallel if on_gpu else 1
    per_reward = cluster.reward.tensor_parallel if on_gpu else 1
    gpus_of_reward = cluster.reward.gpus_per_actor if on_gpu else 0.0
    roles: list[Role] = []
    bundles: list[Bundle] = []
    for name, actors, each, gpus in (
        ("rollout", cluster.rollout.engines, per_engine, float(on_gpu)),
        ("learner", cluster.learner.ranks, 1, float(on_gpu)),
        ("reward", cluster.reward.actors, per_reward, gpus_of_reward),
    ):
        first = len(bundles)
        owned = tuple(tuple(range(first + i * each, first + (i + 1) * each)) for i in range(actors))
        roles.append(Role(name, actors, owned, cpus, gpus))
        bundles += [{"CPU": cpus} | ({"GPU": gpus} if gpus else {}) for _ in range(actors * each)]
    return Placement(tuple(roles), tuple(bundles))


def _shared(cluster: ClusterConfig) -> Placement:
    each, n_gpus, rewards = cluster.rollout.tensor_parallel, cluster.learner.ranks, cluster.reward.actors
    per_reward = cluster.reward.tensor_parallel
    fullest = -(-rewards * per_reward // n_gpus)
    taken = fullest * cluster.reward.gpus_per_actor
    # Ray's GPU shares only steer the placement; the engine's memory is bounded by rollout.gpu_memory.
    rest = math.floor((1.0 - taken) / 2 * 10_000) / 10_000  # Ray counts in steps of 1/10000
    roles = (
        Role(
            "rollout",
            cluster.rollout.engines,
            tuple(tuple(range(i * each, (i + 1) * each)) for i in range(cluster.rollout.engines)),
            1.0,
            rest,
        ),
        Role("learner", n_gpus, tuple((i,) for i in range(n_gpus)), 1.0, rest),
        Role(
            "reward",
            rewards,
            tuple(tuple((i * per_reward + k) % n_gpus for k in range(per_reward)) for i in range(rewards)),
            1.0,
            cluster.reward.gpus_per_actor,
        ),
    )
    return Placement(roles, tuple({"CPU": 2.0 + fullest, "GPU": 1.0} for _ in range(n_gpus)))
