"""Which engine scores a run's coalitions, vLLM among them: actors that report given seconds."""

from __future__ import annotations

import time
from typing import Any

import pytest
import ray
import reward_actors

from scar_ray.config.load import load
from scar_ray.config.schema import Config
from scar_ray.workers.engine_choice import fastest

pytestmark = pytest.mark.stack


def choose(in_process: dict[str, float | None] | None, vllm: Any) -> tuple[str, list[str], list[Any]]:
    """The engine chosen, what was logged, and the actors that were started."""
    started, lines = [], []

    def start(config: Config) -> tuple[str, Any]:
        given = {"auto": in_process, "vllm": vllm}[config.cluster.reward.engine]
        started.extend(reward_actors.start(reward_actors.Measurer, ["reward-0"], given))
        return "reward-0", started[-1]

    config = load(["cluster.reward.engine=fastest", "credit=scar_span", "task.sampling.max_new_tokens=24"])
    return fastest(config, start, lines.append).cluster.reward.engine, lines, started


def ends(actor: Any) -> bool:
    """Waits for an actor's end, for which Ray takes its time."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            ray.get(actor.ready.remote(), timeout=120)
        except ray.exceptions.RayActorError:
            return True
    return False


def test_vllm_is_taken_where_it_is_the_fastest(ray_cluster: None) -> None:
    chosen, lines, started = choose({"trie": 2.0, "plain": None}, {"vllm": 1.5})
    said = "reward engine: vllm (10 sequences of 30 tokens: trie 2 s, plain slower, vllm 1.5 s)"
    assert (chosen, lines, len(started)) == ("vllm", [said], 2)
    assert all(map(ends, started))  # they would hold a device


def test_a_model_that_vllm_does_not_serve_is_scored_without_it_and_the_log_says_why(ray_cluster: None) -> None:
    chosen, lines, _ = choose({"trie": 2.0}, "vLLM has no such architecture")
    assert chosen == "trie"
    assert lines[0] == "vllm is no choice: reward-0: ValueError: vLLM has no such architecture"
    assert lines[1] == "reward engine: trie (10 sequences of 30 tokens: trie 2 s)"


def test_what_is_too_long_to_be_measured_is_left_to_auto(ray_cluster: None) -> None:
    chosen, lines, started = choose(None, {"vllm": 1.0})
    assert (chosen, lines, len(started)) == ("auto", [], 1)
