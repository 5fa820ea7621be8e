"""Times of a step by hand, and what holds for every search over splits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_workload import workload

from scar_ray.config.errors import UserError
from scar_ray.planning import roles
from scar_ray.planning.devices import DEVICES, Device, Rates
from scar_ray.planning.reading import Reading
from scar_ray.planning.roles import USABLE, Sharding
from scar_ray.planning.search import best_sharding, best_splits
from scar_ray.planning.shapes import SHAPES
from scar_ray.planning.step import Split, Workload, pool_done, predict

TOKENS = Reading(units=53, evaluations=108, tokens=51_570, computed=2040)
IDEAL = Device(
    "ideal",
    peak_flops=1e15,
    memory=80e9,
    bandwidth=1e12,
    node_link=1e11,
    network=1e10,
    rates=Rates(**{name: 0.0 if name.endswith("_s") else 1.0 for name in Rates.__dataclass_fields__}),
)
"""Reaches its peaks, and starts everything in no time."""


def of_sizes(policy: str, reward: str = "7B", **changes: object) -> Workload:
    return workload(policy=SHAPES[policy], reward=SHAPES[reward].scalar(), **changes)


PLAIN = Sharding(zero_stage=1, checkpointing=False, micro_batch=8)


def test_scoring_a_response_takes_its_flops() -> None:
    flops = 504 * 2 * 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    attention = 4 * 32 * 4096 * (450 * 225 + 54 * (450 + 26.5))
    assert roles.scoring_seconds(workload(), IDEAL) == pytest.approx((flops + attention) / 1e15)


def test_an_update_is_three_forward_passes_an_epoch_and_the_optimizer() -> None:
    work, shape = workload(), SHAPES["7B"]
    forward = 64 * (503 * (shape.token_flops + shape.attention_flops(251.5)) + 53 * shape.output_flops) / 1e15
    adam = 4 * 28 * shape.parameters / 1e12
    assert roles.forward_seconds(work, IDEAL, 1, PLAIN) == pytest.approx(2 * forward)  # policy and reference
    assert roles.update_seconds(work, IDEAL, 1, PLAIN) == pytest.approx(4 * 3 * forward + adam)
    saving = replace(PLAIN, checkpointing=True)
    assert roles.update_seconds(work, IDEAL, 1, saving) == pytest.approx(4 * 4 * forward + adam)


def test_a_generated_token_costs_the_larger_of_reading_weights_and_computing_and_the_cache() -> None:
    work, shape = workload(responses=1), SHAPES["7B"]
    prefill = (450 * (shape.token_flops + shape.attention_flops(225)) + shape.output_flops) / 1e15
    weights = 2 * (shape.layers * shape.layer_parameters + 4096 * 32_000) / 1e12
    cache = 2 * 32 * 32 * 128 * 2 * (450 + 26.5) / 1e12
    assert roles.rollout_seconds(work, IDEAL, 1, 1, 8) == pytest.approx(prefill + 52 * (weights + cache))


def test_responses_beyond_the_cache_wait_for_the_next_wave() -> None:
    work = workload()
    one, two = (roles.rollout_seconds(work, IDEAL, 1, 64, slots) for slots in (64, 32))
    assert two == pytest.approx(2 * roles.rollout_seconds(work, IDEAL, 1, 32, 32))
    assert one < two


def test_memory_of_a_rank_by_zero_stage() -> None:
    """bfloat16: 2 bytes a weight, twice with the reference, 2 a gradient, 12 an optimizer state."""
    work, parameters = workload(), SHAPES["7B"].parameters
    whole = [roles.learner_memory(work, DEVICES["h100"], 1, replace(PLAIN, zero_stage=stage)) for stage in (1, 2)]
    activations = whole[0] - 18 * parameters
    assert whole[0] == whole[1]
    for stage, size in ((1, 6 + 12 / 4), (2, 4 + 14 / 4), (3, 18 / 4)):
        found = roles.learner_memory(work, DEVICES["h100"], 4, replace(PLAIN, zero_stage=stage))
        gathered = 4 * SHAPES["7B"].layer_parameters if stage == 3 else 0
        assert found == pytest.approx(size * parameters + activations + gathered)


def test_adapters_need_no_second_policy_and_no_gradients_of_the_first() -> None:
    work = workload(lora_rank=16)
    assert best_sharding(workload(), DEVICES["h100"], 1) is None
    assert best_sharding(work, DEVICES["h100"], 1) is not None
    # Forward and one backward pass, to the inputs, rather than two; Adam moves next to nothing.
    forward = roles.forward_seconds(work, IDEAL, 1, PLAIN) / 2
    assert roles.update_seconds(work, IDEAL, 1, PLAIN) == pytest.approx(4 * 2 * forward, rel=0.01)


def test_the_pool_begins_when_responses_arrive_and_takes_whole_ones() -> None:
    assert pool_done([10.0], responses=4, each=1.0, actors=2) == 12.0
    assert pool_done([10.0], responses=4, each=1.0, actors=3) == 12.0  # two of four wait
    assert pool_done([5.0, 10.0], responses=4, each=1.0, actors=1) == 12.0  # the first wave is scored beside the second
    assert pool_done([5.0, 10.0], responses=4, each=4.0, actors=1) == 21.0


def test_only_what_outlasts_the_forward_passes_is_waited_for() -> None:
    split = Split(2, 1, 4, 2, Sharding(3, False, 8))
    sparse = predict(workload(), DEVICES["h100"], split)
    dense = predict(workload(reading=TOKENS), DEVICES["h100"], split)
    planning = 64 * (0.002 + 108 * 1.5e-5)  # one after the other, on the driver
    assert (sparse.planning, dense.planning) == (0, pytest.approx(planning))
    assert dense.reward == pytest.approx(dense.scoring / 2 - dense.forward - planning)
    assert dense.seconds - sparse.seconds == pytest.approx(dense.reward - sparse.reward + planning)
    shares = dense.utilisation()
    assert shares["reward"] == pytest.approx(dense.scoring / 2 / dense.seconds)
    assert shares["learner"] == pytest.approx((dense.forward + dense.update + dense.sync) / dense.seconds)


models = st.sampled_from(["1B", "7B", "8B", "13B"])
gpus = st.integers(16, 64)
"""Enough for each of the models, whatever number of ranks divides the mini-batch."""


@given(models, models, gpus, st.sampled_from(["h100", "h200", "a100"]), st.sampled_from([64, 96, 128]))
@settings(max_examples=25)
def test_every_split_fits_into_memory_and_into_the_number_of_gpus(
    policy: str, reward: str, devices: int, name: str, minibatch: int
) -> None:
    work, device = of_sizes(policy, reward, responses=2 * minibatch, minibatch=minibatch, reading=TOKENS), DEVICES[name]
    found = best_splits(work, device, devices, 1000)
    assert [one.seconds for one in found] == sorted(one.seconds for one in found)
    for one in found:
        split = one.split
        assert 3 <= split.devices <= devices
        assert minibatch % (split.ranks * split.sharding.micro_batch) == 0
        assert roles.learner_memory(work, device, split.ranks, split.sharding) <= USABLE * device.memory
        assert work.policy.parameters * 2 <= split.tensor_parallel * 0.85 * device.memory
        assert all(0 < share <= 1 for share in one.utilisation().values())


@given(models, gpus)
@settings(max_examples=25)
def test_more_gpus_are_never_slower_and_sparse_is_never_slower_than_dense(policy: str, devices: int) -> None:
    device = DEVICES["h200"]
    sparse, dense = of_sizes(policy), of_sizes(policy, reading=TOKENS)
    best = best_splits(sparse, device, devices, 1)[0].seconds
    assert best_splits(sparse, device, devices + 1, 1)[0].seconds <= best
    assert best <= best_splits(dense, device, devices, 1)[0].seconds


def test_what_does_not_fit_is_said_with_what_it_needs() -> None:
    def refused(work: Workload, devices: int) -> str:
        with pytest.raises(UserError) as error:
            best_splits(work, DEVICES["h100"], devices)
        return str(error.value)

    assert refused(of_sizes("70B", "70B"), 64).startswith(
        "--reward-model=70B: takes 140 GB, a reward actor has one h100"
    )
    needs = refused(of_sizes("70B", "7B"), 16)
    assert "70B needs at least 4 GPUs for an engine, 32 for the learner" in needs
    assert needs.endswith("37 together; use more GPUs or smaller models")
    assert best_splits(of_sizes("70B", "7B"), DEVICES["h100"], 37)[0].split.devices == 37
    assert refused(workload(), 2).startswith("--gpus=2: ")
