"""The engine that auto becomes: the fastest that suits the model, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from scar_ray.config.arithmetic import typical_job
from scar_ray.config.load import load
from scar_ray.scoring import RewardModel
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import measure
from scar_ray.scoring.measured import Measured

SEQUENCES = [Encoded(tuple(range(row + 2))) for row in range(16)]


class Clock:
    """Seconds that pass only while engines work."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed:
    """An engine that needs so many seconds for a sequence, and more for the first time."""

    def __init__(self, name: str, clock: Clock, each: float, start: float = 0.0) -> None:
        self.name, self.calls = name, 0
        self._clock, self._each, self._start = clock, each, start

    def scores(self, sequences: Sequence[Encoded], groups: Any, /) -> tuple[np.ndarray, int]:
        assert [row for group in groups for row in group] == list(range(len(sequences)))
        self._clock.now += self._each * len(sequences) + (0 if self.calls else self._start)
        self.calls += 1
        return np.zeros(len(sequences)), 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr("scar_ray.scoring.engines.timing.time", turned)
    return turned


def test_the_fastest_engine_is_taken_and_its_start_does_not_count(clock: Clock) -> None:
    found = measure([Timed("first", clock, 2.0), Timed("second", clock, 1.0, start=30.0)], SEQUENCES)
    assert found == Measured(16, 152, {"first": 32.0, "second": 16.0})
    assert found.fastest == "second"
    assert str(found) == "16 sequences of 10 tokens: first 32 s, second 16 s"


def test_a_small_difference_leaves_the_first_engine_in_place(clock: Clock) -> None:
    assert measure([Timed("first", clock, 1.0), Timed("second", clock, 0.95)], SEQUENCES).fastest == "first"


def test_an_engine_of_another_process_is_taken_where_it_is_clearly_faster() -> None:
    here = Measured(16, 152, {"trie": 2.0, "plain": None})
    assert here.beside(Measured(16, 152, {"vllm": 1.5})).fastest == "vllm"
    assert here.beside(Measured(16, 152, {"vllm": 1.9})).fastest == "trie"
    assert str(here.beside(Measured(16, 152, {"vllm": 1.9}))).endswith("trie 2 s, plain slower, vllm 1.9 s")


def test_an_engine_that_is_far_slower_is_not_run_to_its_end(clock: Clock) -> None:
    slow = Timed("slow", clock, 10.0)
    found = measure([Timed("fast", clock, 1.0), slow], SEQUENCES)
    assert (found.seconds, found.fastest, slow.calls) == ({"fast": 16.0, "slow": None}, "fast", 2)
    assert str(found) == "16 sequences of 10 tokens: fast 16 s, slow slower"


@pytest.mark.parametrize(
    ("kind", "engines"), {"llama": ["trie", "shared_prompt", "plain"], "bert": ["plain"], "llama_other": None}.items()
)
def test_a_model_measures_the_engines_that_suit_it_on_the_runs_shape(
    kind: str, engines: list[str] | None, load_reward: Callable[..., RewardModel]
) -> None:
    config = load(["task.sampling.max_new_tokens=16", "credit=scar_word", "credit.budget=40"])
    response, plan = typical_job(config)
    found = load_reward(kind).measure_engines(response, plan)
    assert list(found.seconds) == (engines or ["trie", "shared_prompt", "plain"])
    assert found.fastest in found.seconds
    assert plan.game is not None
    assert 20 <= found.sequences <= plan.game.n_coalitions + 1
