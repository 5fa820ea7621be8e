"""All splits of so many devices among the roles, the fastest first."""

from __future__ import annotations

from collections.abc import Iterator

from scar_ray.config.errors import UserError
from scar_ray.planning import roles
from scar_ray.planning.devices import Device
from scar_ray.planning.roles import USABLE, Sharding
from scar_ray.planning.step import Prediction, Split, Workload, predict

TENSOR_PARALLEL = (1, 2, 4, 8)


def best_splits(work: Workload, device: Device, devices: int, count: int = 5) -> list[Prediction]:
    """The `count` fastest splits of at most so many devices that fit into memory; of equal ones the smaller.

    An engine's devices are on one node. Ranks divide the mini-batch. Nobody gets devices that it cannot use, so some
    may be left over. UserError, saying what does not fit, where there is no split.
    """
    if devices < 3:
        raise UserError(
            f"--gpus={devices}: rollout, learner and reward models on GPUs of their own need at least 3; "
            "cluster=gpu_shared trains on one, which this plan does not cover"
        )
    _check_memory(work, device)
    found = [predict(work, device, split) for split in _splits(work, device, devices)]
    if not found:
        raise UserError(f"--gpus={devices}: {_needs(work, device)}; use more GPUs or smaller models")
    found.sort(key=lambda one: (one.seconds, one.split.devices))
    return found[:count]


def _splits(work: Workload, device: Device, devices: int) -> Iterator[Split]:
    widths = [width for width in widths_of(work, device) if roles.slots(work, device, width) > 0]
    for ranks in rank_counts(work, devices - 2):
        sharding = best_sharding(work, device, ranks)
        if sharding is None:
            continue
        for width in widths:
            for engines in range(1, min(work.responses, (devices - ranks - 1) // width) + 1):
                actors = min(work.responses, devices - ranks - engines * width)
                yield Split(engines, width, ranks, actors, sharding)


def widths_of(work: Workload, device: Device) -> list[int]:
    """Sizes of an engine that divide its heads and fit on a node."""
    return [n for n in TENSOR_PARALLEL if n <= device.per_node and work.policy.heads % n == 0]


def rank_counts(work: Workload, most: int) -> list[int]:
    """Numbers of learner ranks that share a mini-batch equally."""
    return [ranks for ranks in range(1, most + 1) if work.minibatch % ranks == 0]


def best_sharding(work: Workload, device: Device, ranks: int) -> Sharding | None:
    """The fastest way of so many ranks to fit into memory; None where there is none. bfloat16 needs ZeRO 1 at least."""
    fitting = [
        sharding
        for sharding in _shardings(work, ranks)
        if roles.learner_memory(work, device, ranks, sharding) <= USABLE * device.memory
    ]

    def seconds(sharding: Sharding) -> float:
        return sum(f(work, device, ranks, sharding) for f in (roles.forward_seconds, roles.update_seconds))

    return min(fitting, key=seconds, default=None)


def _shardings(work: Workload, ranks: int) -> Iterator[Sharding]:
    rows = work.minibatch // ranks
    sizes = [size for size in range(1, min(rows, work.micro_batch) + 1) if rows % size == 0]
    for stage in (1, 2, 3) if ranks > 1 else (1,):
        for checkpointing in (False, True):
            for size in sizes:
                yield Sharding(stage, checkpointing, size)


def _check_memory(work: Workload, device: Device) -> None:
    """UserError where a single role cannot fit, whatever the split."""
    reward = roles.reward_memory(work, device)
    if reward > USABLE * device.memory:
        raise UserError(
            f"--reward-model={work.reward.name}: takes {reward / 1e9:.0f} GB, a reward actor has one {device.name} "
            f"with {USABLE * device.memory / 1e9:.0f} GB; use a smaller reward model or a larger GPU"
        )
    if not any(roles.slots(work, device, width) for width in widths_of(work, device)):
        raise UserError(
            f"--policy={work.policy.name}: an engine of {widths_of(work, device)[-1]} {device.name} cannot hold it and "
            f"a sequence of {work.length} tokens; use a smaller policy"
        )


def _needs(work: Workload, device: Device) -> str:
    """What the smallest engine and the smallest learner need."""
    width = next(width for width in widths_of(work, device) if roles.slots(work, device, width) > 0)
    ranks = next((n for n in rank_counts(work, work.minibatch) if best_sharding(work, device, n) is not None), None)
    if ranks is None:
        return f"no number of learner ranks up to algorithm.batch.minibatch={work.minibatch} holds {work.policy.name}"
    return (
        f"{work.policy.name} needs at least {width} GPUs for an engine, {ranks} for the learner (whose number divides "
        f"algorithm.batch.minibatch={work.minibatch}) and 1 for a reward model, {width + ranks + 1} together"
    )
