"""What the benchmarks of whole training steps make of measured seconds; the steps themselves are run by hand."""

from __future__ import annotations

from dataclasses import replace

import credit_overhead
import plan
import pytest
from plan import Case
from planning_workload import workload

from scar_ray.planning.devices import Device, Rates
from scar_ray.planning.reading import Reading
from scar_ray.planning.roles import Sharding
from scar_ray.planning.shapes import ModelShape
from scar_ray.planning.step import Split, predict

CPU = Device(
    "cpu",
    peak_flops=8e10,
    memory=24e9,
    bandwidth=1e10,
    node_link=1e10,
    network=1e10,
    value_bytes=4,
    prefill_tokens=4096,
    rates=replace(Rates(), **plan.GUESS),
)
TRUE = replace(
    CPU, rates=replace(CPU.rates, prefill=0.4, decode=0.3, forward=0.6, training=0.5, layer_s=1e-3, call_s=0.05)
)
SPLIT = Split(1, 1, 1, 1, Sharding(0, False, 8))


def case(hidden: int, layers: int, prompt: int, dense: bool, clock: str) -> Case:
    """A case whose measured seconds are those of the device TRUE."""
    shape = ModelShape("", hidden, layers, hidden // 64, hidden // 64, 4 * hidden, 700, 64, tied=True)
    asked = Reading(53, 108, 108.0 * prompt, prompt + 1500) if dense else Reading(0, 1, prompt + 54, prompt + 54)
    work = replace(
        workload(), policy=shape, reward=shape.scalar(), prompt=prompt, responses=8, minibatch=8, reading=asked
    )
    found = predict(work, TRUE, SPLIT)
    phases = {name: getattr(found, name) for name in ("forward", "reward", "update", "sync", "scoring")}
    cpu = {"cpu_rollout": found.rollout, "cpu_learner": found.forward + found.update, "cpu_reward": found.scoring}
    measured = {"seconds": found.seconds, "rollout": found.rollout + found.planning, **phases, **cpu}
    return Case(f"{hidden}, {clock}", work, SPLIT, measured)


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_rates_fitted_to_some_steps_predict_others(clock: str) -> None:
    pytest.importorskip("scipy")
    known = [
        case(*size, prompt, dense, clock) for size in ((128, 6), (320, 3)) for prompt in (64, 448) for dense in (0, 1)
    ]
    other = case(256, 4, 300, True, clock)
    found, measured = plan.whole(other, plan.fitted(CPU, known, clock), clock)
    assert found == pytest.approx(measured, rel=0.05)
    before, _ = plan.whole(other, CPU, clock)
    assert abs(before / measured - 1) > 0.15


def test_cpu_seconds_are_those_of_the_actors_of_this_process_only() -> None:
    assert plan.small_runs.cpu_seconds() == {"rollout": 0, "learner": 0, "reward": 0}


def row(method: str, turn: int, seconds: float, cpu: float) -> dict[str, float | str]:
    used = {"cpu_rollout": 1.0, "cpu_learner": 5.0, "cpu_reward": cpu - 6.0}
    return {"method": method, "turn": turn, "seconds": seconds, **used}


def test_methods_are_compared_turn_by_turn() -> None:
    seconds = {"sparse": (10.0, 20.0, 10.0), "scar_token": (12.0, 26.0, 14.0)}
    rows = [
        row(method, turn, seconds.get(method, (10.0,) * 3)[turn], 10.0 if method == "scar_token" else 8.0)
        for method in credit_overhead.METHODS
        for turn in range(3)
    ]
    found = credit_overhead.summarise(rows)
    assert found["scar_token"]["over_sparse"] == pytest.approx(1.3)  # of 1.2, 1.3 and 1.4: the busy turn hit both
    assert found["scar_token"]["over_sparse_range"] == pytest.approx([1.2, 1.4])
    assert found["scar_token"]["cpu_over_sparse"] == pytest.approx(1.25)
    assert found["scar_token"]["aim"] == 1.5
    assert found["sparse"]["seconds_range"] == [10.0, 20.0]
