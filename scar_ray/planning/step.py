"""A training step on one split of the devices: seconds by phase, and what is computed beside what.

    rollout -> rest of the planning -> forward passes -> rest of the scoring -> update -> weight sync

The driver plans the units and coalitions of responses as they come, one after the other, and the pool scores them
beside what follows; a phase waits for what is not done by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scar_ray.planning import roles
from scar_ray.planning.devices import Device
from scar_ray.planning.reading import Reading
from scar_ray.planning.roles import Sharding
from scar_ray.planning.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Workload:
    """What one training step does."""

    policy: ModelShape
    reward: ModelShape
    critic: ModelShape | None
    """A critic with a trunk of its own; None for a value head on the policy's."""
    lora_rank: int | None
    responses: int
    prompt: int
    """Tokens of a prompt."""
    new: int
    """Tokens of a response."""
    epochs: int
    minibatch: int
    micro_batch: int
    """Most responses of a learner's pass."""
    reading: Reading
    reward_memory: float
    """Bytes that scoring may take above the reward model's own."""
    engine_memory: float
    """Share of a device's memory that an engine may use."""

    @property
    def length(self) -> int:
        return self.prompt + self.new


@dataclass(frozen=True, slots=True)
class Split:
    """Devices by role, and how the learner uses its own."""

    engines: int
    tensor_parallel: int
    ranks: int
    reward_actors: int
    sharding: Sharding

    @property
    def rollout_devices(self) -> int:
        return self.engines * self.tensor_parallel

    @property
    def devices(self) -> int:
        return self.rollout_devices + self.ranks + self.reward_actors


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of a training step by phase, and of each role's work."""

    split: Split
    rollout: float
    planning: float
    """Units and coalitions, as far as the driver is not done with them when the last response is there."""
    forward: float
    reward: float
    """Waiting for the pool after the forward passes."""
    update: float
    sync: float
    driver: float
    """Advantages and answers, on the driver."""
    scoring: float
    """Busy seconds of all reward actors together."""

    @property
    def seconds(self) -> float:
        waited = self.planning + self.reward
        return self.rollout + self.forward + waited + self.update + self.sync + self.driver

    def utilisation(self) -> dict[str, float]:
        """Share of the step in which a role's devices compute, weight sync included."""
        busy = {
            "rollout": self.rollout + self.sync,
            "learner": self.forward + self.update + self.sync,
            "reward": self.scoring / self.split.reward_actors,
        }
        return {role: seconds / self.seconds for role, seconds in busy.items()}


def predict(work: Workload, device: Device, split: Split) -> Prediction:
    """The step on this split, which fits into memory."""
    share = -(-work.responses // split.engines)
    slots = roles.slots(work, device, split.tensor_parallel)
    rollout = roles.rollout_seconds(work, device, split.tensor_parallel, share, slots)
    forward = roles.forward_seconds(work, device, split.ranks, split.sharding)
    each = roles.scoring_seconds(work, device)
    waves = -(-share // slots)
    arrivals = [rollout * (wave + 1) / waves for wave in range(waves)]
    planned = pool_done(arrivals, work.responses, roles.planning_seconds(work, device), 1)
    done = max(planned + each, pool_done(arrivals, work.responses, each, split.reward_actors))
    return Prediction(
        split=split,
        rollout=rollout,
        planning=planned - rollout,
        forward=forward,
        reward=max(0.0, done - planned - forward),
        update=roles.update_seconds(work, device, split.ranks, split.sharding),
        sync=roles.sync_seconds(work, device, split.rollout_devices, split.ranks, split.sharding),
        driver=work.responses * device.rates.response_s,
        scoring=work.responses * each,
    )


def pool_done(arrivals: Sequence[float], responses: int, each: float, actors: int) -> float:
    """When the last response is done, if equal parts of them arrive at these times and each takes `each` seconds.

    Responses of one length that are generated side by side finish together, so only those of earlier waves are scored
    beside generation. Actors take one response at a time.
    """
    done = 0.0
    parts = [responses * (i + 1) // len(arrivals) - responses * i // len(arrivals) for i in range(len(arrivals))]
    for arrival, part in zip(arrivals, parts, strict=True):
        done = max(done, arrival) + -(-part // actors) * each
    return done
