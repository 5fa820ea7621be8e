"""Seconds and bytes of each role: rollout, learner, reward pool, weight sync.

Work is FLOPs at a share of the device's peak, bytes at a share of its bandwidth, and what it takes to start a layer or
a call. Where a role is bound by the larger of computing and moving bytes, the other one is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scar_ray.planning.devices import Device
from scar_ray.planning.shapes import ModelShape

if TYPE_CHECKING:
    from scar_ray.planning.step import Workload

USABLE = 0.92
"""Share of a device's memory that a learner or a reward model can use."""
ENGINE_EXTRA = 2e9
"""Bytes of an engine beside weights and cache: activations, CUDA graphs."""
ADAM_BYTES = 28
"""Moved for each trained parameter: gradient, weight and two moments read, the last three written, in float32."""
BACKWARD, BACKWARD_LORA = 2.0, 1.0
"""FLOPs of a backward pass over those of the forward pass; frozen matrices need no gradients of their own."""
TREE_BLOCK = 384
"""Nodes of the prefix tree in one pass."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """How the learner spends memory: the keys of `cluster.learner`."""

    zero_stage: int
    checkpointing: bool
    micro_batch: int


def pass_seconds(
    device: Device, shape: ModelShape, share: float, rows: float, tokens: int, outputs: float, passes: float
) -> float:
    """Forward passes over `rows` sequences of `tokens`, with `outputs` positions each through the output layer."""
    rates = device.rates
    matrices = rows * (tokens * shape.token_flops + outputs * shape.output_flops) / share
    attention = rows * tokens * shape.attention_flops(tokens / 2) / rates.attention
    return (matrices + attention) / device.peak_flops + passes * shape.layers * rates.layer_s


# rollout


def slots(work: Workload, device: Device, tensor_parallel: int) -> int:
    """Sequences whose key-value cache fits into one engine; 0 where not even the weights do."""
    weights = work.policy.parameters * device.value_bytes
    room = tensor_parallel * (device.memory * work.engine_memory - ENGINE_EXTRA) - weights
    if work.lora_rank is not None:
        room -= 2 * work.policy.lora_parameters(work.lora_rank) * device.value_bytes
    each = work.length * work.policy.cached_values * device.value_bytes
    return max(0, min(device.max_sequences, int(room // each)))


def rollout_seconds(work: Workload, device: Device, tensor_parallel: int, responses: int, slots: int) -> float:
    """One engine's time for its responses, in waves of at most `slots`."""
    waves = -(-responses // slots)
    rows = responses / waves
    return waves * (_prefill(work, device, tensor_parallel, rows) + _decode(work, device, tensor_parallel, rows))


def _prefill(work: Workload, device: Device, tensor_parallel: int, rows: float) -> float:
    passes = max(1.0, rows * work.prompt / device.prefill_tokens)
    computed = pass_seconds(device, work.policy, device.rates.prefill, rows, work.prompt, 1, 0) / tensor_parallel
    started = passes * work.policy.layers * device.rates.layer_s + rows * device.rates.sampled_token_s
    return computed + started + passes * _all_reduces(work, device, tensor_parallel, rows * work.prompt / passes)


def _decode(work: Workload, device: Device, tensor_parallel: int, rows: float) -> float:
    """All tokens but the first one. Matrices at the roofline, then the caches of all sequences are read."""
    policy, rates = work.policy, device.rates
    bandwidth = device.bandwidth * rates.bandwidth * tensor_parallel
    read = policy.read_parameters * device.value_bytes / bandwidth
    computed = rows * (policy.token_flops + policy.output_flops) / (device.peak_flops * rates.decode * tensor_parallel)
    cached = rows * (work.prompt + work.new / 2) * policy.cached_values * device.value_bytes / bandwidth
    started = policy.layers * rates.decode_layer_s + rates.decode_step_s + rows * rates.sampled_token_s
    reduced = _all_reduces(work, device, tensor_parallel, rows)
    return (work.new - 1) * (max(read, computed) + cached + started + reduced)


def _all_reduces(work: Workload, device: Device, tensor_parallel: int, tokens: float) -> float:
    """Two all-reduces a layer over the engine's devices."""
    if tensor_parallel == 1:
        return 0.0
    sent = 2 * (tensor_parallel - 1) / tensor_parallel * tokens * work.policy.hidden * device.value_bytes
    return 2 * work.policy.layers * (device.rates.all_reduce_s + sent / (device.node_link * device.rates.link))


# learner


def learner_memory(work: Workload, device: Device, ranks: int, sharding: Sharding) -> float:
    """Bytes on each rank: weights, gradients, Adam's states, the reference, activations of a micro-batch."""
    stage, policy = sharding.zero_stage, work.policy
    trained, frozen = _trained(work)
    value, states = device.value_bytes, 12 if device.value_bytes == 2 else 8
    whole = [
        ((trained + frozen) * value, 3),
        (trained * value, 2),
        (trained * states, 1),
    ]
    models = sum(size / (ranks if stage >= shards else 1) for size, shards in whole)
    if stage == 3:
        models += 2 * policy.layer_parameters * value
    rows = sharding.micro_batch
    layer = value * (10 * policy.hidden + 4 * policy.intermediate) * work.length
    kept = (
        value * policy.hidden * work.length * policy.layers + layer if sharding.checkpointing else layer * policy.layers
    )
    logits = 12 * (work.new + 1) * policy.vocabulary
    return models + rows * (kept + logits)


def _trained(work: Workload) -> tuple[int, int]:
    """Parameters that are trained, and those that stand beside them."""
    policy, critic = work.policy.parameters, work.critic.parameters if work.critic else 0
    if work.lora_rank is None:
        return policy + critic, policy
    return work.policy.lora_parameters(work.lora_rank) + critic, policy


def forward_seconds(work: Workload, device: Device, ranks: int, sharding: Sharding) -> float:
    """Policy, reference and, where it has a trunk of its own, critic over a rank's rows."""
    rows = work.responses / ranks
    passes = -(-work.responses // (ranks * sharding.micro_batch))
    share = device.rates.forward
    computed = 2 * pass_seconds(device, work.policy, share, rows, work.length, work.new, passes)
    if work.critic is not None:
        computed += pass_seconds(device, work.critic, share, rows, work.length, 0, passes)
    weights = _weights(work, device, reference=True)
    gathered = passes * weights * _around(ranks) / device.collective(ranks) if sharding.zero_stage == 3 else 0.0
    return max(computed, gathered) + device.rates.call_s


def update_seconds(work: Workload, device: Device, ranks: int, sharding: Sharding) -> float:
    """All epochs: forward and backward over a rank's rows, gradients over the ranks, optimizer steps."""
    rates, steps = device.rates, work.epochs * work.responses // work.minibatch
    rows = work.epochs * work.responses / ranks
    passes = steps * -(-work.minibatch // (ranks * sharding.micro_batch))
    shapes = [(work.policy, work.new)] + ([(work.critic, 0)] if work.critic else [])
    backward = BACKWARD if work.lora_rank is None else BACKWARD_LORA
    times = 1 + backward + float(sharding.checkpointing)
    computed = times * sum(
        pass_seconds(device, shape, rates.training, rows, work.length, outputs, passes) for shape, outputs in shapes
    )
    weights, (trained, _) = _weights(work, device, reference=False), _trained(work)
    link = device.collective(ranks)
    if sharding.zero_stage == 3:
        moved, computed = 0.0, max(computed, passes * 3 * weights * _around(ranks) / link)
    else:
        moved = steps * 2 * trained * device.value_bytes * _around(ranks) / link
    own = trained / (ranks if sharding.zero_stage else 1)
    return computed + moved + steps * (ADAM_BYTES * own / (device.bandwidth * rates.bandwidth) + rates.call_s)


def _weights(work: Workload, device: Device, reference: bool) -> float:
    """Bytes of the models that a pass goes through."""
    policies = 2 if reference else 1
    critic = work.critic.parameters if work.critic else 0
    return float(device.value_bytes * (policies * work.policy.parameters + critic))


def _around(ranks: int) -> float:
    """Share of the data that each rank of a ring sends."""
    return (ranks - 1) / ranks


# reward pool and weight sync


def reward_memory(work: Workload, device: Device) -> float:
    """Bytes of a reward actor."""
    return work.reward.parameters * device.value_bytes + work.reward_memory


def planning_seconds(work: Workload, device: Device) -> float:
    """The driver's time for the units and coalitions of one response; 0 for methods without any."""
    reading = work.reading
    return (device.rates.plan_s + reading.evaluations * device.rates.plan_coalition_s) * float(reading.units > 0)


def scoring_seconds(work: Workload, device: Device) -> float:
    """One reward actor's time for one response and its coalitions."""
    rates, reading, reward = device.rates, work.reading, work.reward
    beyond = max(0.0, reading.computed - work.prompt)
    keys = work.prompt * work.prompt / 2 + beyond * (work.prompt + work.new / 2)
    attention = rates.attention if reading.units == 0 else rates.tree_attention
    share = rates.forward if reading.units == 0 else rates.scoring
    flops = reading.computed * reward.token_flops / share + reward.attention_flops(keys) / attention
    started = max(1.0, reading.computed / TREE_BLOCK) * reward.layers * rates.layer_s
    return flops / device.peak_flops + started + rates.response_s + reading.evaluations * rates.coalition_s


def sync_seconds(work: Workload, device: Device, engine_devices: int, ranks: int, sharding: Sharding) -> float:
    """The policy's weights, gathered under ZeRO-3, from rank 0 to all engines."""
    weights = work.policy.parameters * device.value_bytes
    gathered = weights * _around(ranks) / device.collective(ranks) if sharding.zero_stage == 3 else 0.0
    return gathered + weights / device.broadcast(engine_devices) + device.rates.call_s
