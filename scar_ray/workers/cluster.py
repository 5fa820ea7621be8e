"""Ray: joining or starting a cluster, reserving the placement, starting and stopping the actors."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from scar_ray.config.errors import UserError
from scar_ray.config.placement import Placement, Role, placement
from scar_ray.config.schema import ClusterConfig, Config
from scar_ray.records import FILLS
from scar_ray.workers.addresses import free_address
from scar_ray.workers.engine_choice import engine_of, fastest, measured
from scar_ray.workers.environment import actor_env, engine_env, joins, learner_env
from scar_ray.workers.errors import get_all
from scar_ray.workers.learner import LearnerOptions, LearnerRank
from scar_ray.workers.learner_group import RayLearner
from scar_ray.workers.reward import RewardWorker, reward_options
from scar_ray.workers.reward_pool import RayRewardPool
from scar_ray.workers.reward_tasks import Sharing, TaskSizes
from scar_ray.workers.rollout import EngineOptions, RayRolloutPool, RolloutWorker

POLL_S = 10.0
"""Seconds between messages about a placement that is still pending."""

CLOSE_S = 10.0
"""Seconds that engines get to end their processes."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Actors:
    """Everything a run has started, ready for use."""

    rollout: RayRolloutPool
    reward: RayRewardPool
    learner: RayLearner
    handles: tuple[Any, ...]
    names: tuple[str, ...]
    group: PlacementGroup
    engine_processes: bool
    """Whether rollout engines keep processes outside Ray: killing the actors is not enough then."""
    config: Config
    """The run's, with the reward engine that `auto` or `fastest` has become."""
    reward_processes: bool = False
    """The same of reward actors."""

    def stop(self) -> None:
        """Ends all actors and gives their resources back."""
        self.reward.close()
        try:
            if self.engine_processes:
                self.rollout.close(CLOSE_S)
            if self.reward_processes:
                rewards = [actor for actor, name in zip(self.handles, self.names, strict=True) if "reward" in name]
                ray.wait([actor.close.remote() for actor in rewards], num_returns=len(rewards), timeout=CLOSE_S)
        finally:
            end(self.handles, self.group)


@contextlib.contextmanager
def session(cluster: ClusterConfig) -> Iterator[None]:
    """A connection to Ray: the address given, the cluster of a Ray job, or a local one that ends with the context."""
    if ray.is_initialized():
        yield
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"cluster.address={address}: no Ray cluster answers there ({reason}); start one with `ray start --head` "
            "(its token belongs into RAY_AUTH_TOKEN or ~/.ray/auth_token), or leave the address out for a local one"
        ) from error
    except Exception as error:  # what Ray raises here has no type of its own
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start on this machine in the 30 s that it gives itself: the machine is too busy, or has too "
            "little memory; try again when it has less to do, or start Ray with `ray start --head` and set "
            "cluster.address=auto"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def reserve(plan: Placement, cluster: ClusterConfig, log: Log) -> PlacementGroup:
    """Reserves the bundles of a plan. UserError, saying what is asked and what is there, when they cannot be had.

    A cluster that may grow (one that was joined) gets `startup_timeout_s`, with a message about what is missing now
    and then; a local one has what it has.
    """
    local = not joins(cluster)
    group = placement_group([dict(bundle) for bundle in plan.bundles], strategy="PACK")
    deadline = time.monotonic() + (0 if local and not _fits(plan) else cluster.startup_timeout_s)
    while not group.wait(min(POLL_S, max(0.1, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            remove_placement_group(group)
            raise UserError(f"the cluster cannot hold the actors: {_shortfall(plan)}; use a smaller cluster= choice")
        log(f"waiting for the cluster: {_shortfall(plan)}")
    return group


def _fits(plan: Placement) -> bool:
    there = ray.cluster_resources()
    return plan.cpus <= there.get("CPU", 0) and plan.gpus <= there.get("GPU", 0)


def _shortfall(plan: Placement) -> str:
    there, free = ray.cluster_resources(), ray.available_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    largest = max(plan.bundles, key=lambda bundle: (bundle.get("GPU", 0.0), bundle["CPU"]))
    return (
        f"asked are {plan.cpus:g} CPUs and {plan.gpus:g} GPUs in {len(plan.bundles)} bundles of at most "
        f"{_amounts(largest)}; there are {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs on {nodes} "
        f"node{'s' if nodes > 1 else ''}, of which {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free"
    )


def _amounts(bundle: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}{'' if amount == 1 else 's'}" for name, amount in bundle.items())


def bundle_order(plan: Placement, group: PlacementGroup) -> list[int]:
    """For each bundle of the plan the one of the group that takes its place, so that neighbours share a node.

    Ray numbers bundles without regard to nodes; the bundles of a tensor-parallel engine should be on one.
    """
    nodes = placement_group_table(group)["bundles_to_node_id"]
    order = list(range(len(plan.bundles)))
    for shape in {tuple(sorted(bundle.items())) for bundle in plan.bundles}:
        slots = [i for i, bundle in enumerate(plan.bundles) if tuple(sorted(bundle.items())) == shape]
        for slot, real in zip(slots, sorted(slots, key=lambda i: (nodes[i], i)), strict=True):
            order[slot] = real
    return order


@dataclass(frozen=True, slots=True)
class Starter:
    """Starts actors of a role in their bundles."""

    config: Config
    group: PlacementGroup
    order: list[int]

    def options(self, role: Role, i: int, env: dict[str, str], **more: Any) -> dict[str, Any]:
        """Ray options of actor number i of a role."""
        bundles = [self.order[bundle] for bundle in role.bundles[i]]
        gpus = role.gpus
        if len(bundles) > 1:  # vLLM's own Ray workers take the GPUs, one in each bundle
            env |= {
                "VLLM_RAY_BUNDLE_INDICES": ",".join(map(str, bundles)),
                "VLLM_RAY_PER_WORKER_GPUS": str(role.gpus),
            }
            gpus = 0.0
        return {
            "name": None,
            "num_cpus": role.cpus,
            "num_gpus": gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                placement_group=self.group,
                placement_group_bundle_index=bundles[0],
                placement_group_capture_child_tasks=len(bundles) > 1,
            ),
            "runtime_env": {"env_vars": env},
            **more,
        }

    def address(self, role: Role) -> tuple[str, int]:
        """Host and a free port where the role's first actor will live."""
        strategy = PlacementGroupSchedulingStrategy(self.group, self.order[role.bundles[0][0]])
        probe = ray.remote(free_address).options(num_cpus=0, scheduling_strategy=strategy)
        return tuple(ray.get(probe.remote()))


def start(config: Config, log: Log) -> Actors:
    """Reserves the placement and starts all actors of a run; waits until every model is loaded."""
    plan = placement(config.cluster)
    roles = {role.name: role for role in plan.roles}
    group = reserve(plan, config.cluster, log)
    starter = Starter(config, group, bundle_order(plan, group))
    with all_or_none(group) as handles:
        handles |= start_engines(starter, roles["rollout"])
        handles |= start_ranks(starter, roles["learner"], LearnerRank)
        if config.cluster.reward.engine == "fastest":
            wait_ready(handles)  # a machine that starts other actors would blur the measurement
            config = fastest(
                config, lambda one: next(start_rewards(replace(starter, config=one), roles["reward"])), log
            )
        handles |= start_rewards(replace(starter, config=config), roles["reward"])
        wait_ready(handles)
        return _connect(_settled(config, handles, log), starter, roles, handles)


@contextlib.contextmanager
def all_or_none(group: PlacementGroup) -> Iterator[dict[str, Any]]:
    """Handles of actors by name, to be filled; if anything fails, all of them end and the placement is given back."""
    handles: dict[str, Any] = {}
    try:
        yield handles
    except BaseException:
        end(handles.values(), group)
        raise


def end(handles: Iterable[Any], group: PlacementGroup) -> None:
    """Ends actors and gives their placement back."""
    for handle in handles:
        ray.kill(handle, no_restart=True)
    remove_placement_group(group)


def actors_of(handles: dict[str, Any], role: str) -> tuple[list[Any], list[str]]:
    """Handles and names of a role's actors."""
    names = [name for name in handles if name.startswith(role)]
    return [handles[name] for name in names], names


def transfer_backend(cluster: ClusterConfig) -> str:
    """The weight-transfer backend that fits where engines and learner live."""
    if cluster.device == "cpu":
        return "object_store"
    return "ipc" if cluster.placement == "shared" else "nccl"


def start_engines(starter: Starter, role: Role) -> Iterator[tuple[str, Any]]:
    config = starter.config
    options = EngineOptions(
        model=config.model.policy.path,
        dtype=config.model.policy.dtype,
        device=config.cluster.device,
        backend=transfer_backend(config.cluster),
        trust_remote_code=config.model.trust_remote_code,
        pool=config.cluster.rollout,
        sampling=config.task.sampling,
        infill=config.model.policy.infill,
    )
    actor = ray.remote(RolloutWorker)
    for i in range(role.actors):
        name = f"rollout-{i}"
        yield (
            name,
            actor.options(**starter.options(role, i, engine_env(config.cluster))).remote(name, options),
        )


def start_ranks(starter: Starter, role: Role, kind: type, *more: Any) -> Iterator[tuple[str, Any]]:
    """Actors of class `kind` in the bundles of the learner; called with rank, options, `more` and the first address."""
    config = starter.config
    options = LearnerOptions(
        model=config.model,
        algorithm=config.algorithm,
        learner=config.cluster.learner,
        sampling=config.task.sampling,
        device=config.cluster.device,
        threads=config.cluster.threads_per_actor,
        seed=config.seed,
    )
    actor, address = ray.remote(kind), starter.address(role)
    for rank in range(role.actors):
        settings = starter.options(role, rank, learner_env(config.cluster))
        yield f"learner-{rank}", actor.options(**settings).remote(rank, options, *more, address)


def start_rewards(starter: Starter, role: Role) -> Iterator[tuple[str, Any]]:
    config = starter.config
    options, actor = reward_options(config), ray.remote(RewardWorker)
    for i in range(role.actors):
        name, restarts = f"reward-{i}", config.cluster.reward.max_restarts
        env = engine_env(config.cluster) if config.cluster.reward.uses_vllm else actor_env(config.cluster)
        settings = starter.options(role, i, env, max_restarts=restarts)
        yield name, actor.options(**settings).remote(name, options)


def wait_ready(handles: dict[str, Any]) -> None:
    """Waits until every actor has loaded. ActorFailed names the first one that did not, and why."""
    get_all([handle.ready.remote() for handle in handles.values()], list(handles))


def reward_pool(config: Config, actors: list[Any], names: list[str]) -> RayRewardPool:
    """The pool of these actors, which have loaded; the samples of a prompt are neighbours in a task."""
    pool, samples = config.cluster.reward, config.algorithm.batch.samples
    shares: dict[str, Sharing] = {"trie": "trie", "shared_prompt": "prompt", "vllm": "prompt"}
    engine, (alike, fill_token) = ray.get([actors[0].engine.remote(), actors[0].alike.remote()])
    sizes = TaskSizes(
        tokens=pool.task_tokens,
        neighbours=-(-pool.responses_per_task // samples) * samples,
        sharing=shares.get(engine, "nothing"),
        filled=config.credit.masking in FILLS,
        alike=alike,
        fill_token=fill_token,
    )
    return RayRewardPool(
        actors,
        names,
        sizes,
        engine=engine_of(config),
        patience_s=config.cluster.startup_timeout_s,
        timeout_s=pool.timeout_s,
    )


def _settled(config: Config, handles: dict[str, Any], log: Log) -> Config:
    """The configuration with the reward engine that auto stands for, which all actors have taken then."""
    actors, names = actors_of(handles, "reward")
    config = measured(config, actors[0], log)
    get_all([actor.ready.remote(engine_of(config)) for actor in actors], names)
    return config


def _connect(config: Config, starter: Starter, roles: dict[str, Role], handles: dict[str, Any]) -> Actors:
    engines, engine_names = actors_of(handles, "rollout")
    learner = RayLearner(*actors_of(handles, "learner"))
    backend, width = transfer_backend(config.cluster), config.cluster.rollout.tensor_parallel
    learner.open_transfer(backend, engines, width, starter.address(roles["learner"]))
    return Actors(
        rollout=RayRolloutPool(engines, engine_names),
        reward=reward_pool(config, *actors_of(handles, "reward")),
        learner=learner,
        handles=tuple(handles.values()),
        names=tuple(handles),
        group=starter.group,
        config=config,
        engine_processes=backend == "object_store" and width > 1,
        reward_processes=backend == "object_store" and config.cluster.reward.tensor_parallel > 1,
    )
