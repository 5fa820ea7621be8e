"""Evaluation on held-out prompts, on fakes: what is asked, what is measured, what must not change."""

from __future__ import annotations

import math
from dataclasses import replace

import fakes
import numpy as np
import pytest
from fakes import bench, config

from scar_ray.config.schema import Config, Sampling
from scar_ray.trainer.agreement import StaleEngine
from scar_ray.trainer.evaluation import Evaluator, Measured, headline, standard_error, summary
from scar_ray.trainer.protocols import Forward, Sequences


def evaluator(it: fakes.Bench, chosen: Config, prompts: int = 3) -> Evaluator:
    return Evaluator(chosen, fakes.prompts(prompts), it.rollout, it.reward, it.learner)


def held_out(**settings: object) -> Config:
    return config({"eval": settings, "task": {"sampling": {"temperature": 0.7}}})


def measured(**values: object) -> Measured:
    base = {
        "prompt_index": 0,
        "sample": 0,
        "prompt": "A",
        "response": " b",
        "tokens": 2,
        "finished": True,
        "reward": 1.0,
        "gold": None,
        "k1": 0.0,
        "k3": 0.0,
    }
    return Measured(**(base | values))  # type: ignore[arg-type]


def test_every_evaluation_asks_for_the_same_responses_whatever_the_runs_seed() -> None:
    it = bench()
    asked = []
    for seed in (0, 5):
        chosen = held_out(samples=2).model_copy(update={"seed": seed})
        for _ in range(2):
            evaluator(it, chosen).evaluate(0)
            asked.append(it.rollout.asked)
    assert asked[0] == asked[1] == asked[2] == asked[3]
    assert [(request.prompt.index, request.sample) for request in asked[0]] == [
        *((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))
    ]
    assert len({request.seed for request in asked[0]}) == 6
    evaluator(it, held_out(samples=2, seed=1)).evaluate(0)
    assert {request.seed for request in it.rollout.asked}.isdisjoint(request.seed for request in asked[0])


def test_lists_of_candidates_are_measured_by_the_worth_of_their_set() -> None:
    """Words are candidates; n of them and the EOS score n + 1 together, and an n-th of that each."""
    it = bench()
    candidates = {"form": "separator", "separator": " ", "count": 6, "floor": -1.0}
    chosen = config({"credit": {"method": "shape_grpo", "candidates": candidates}})
    found = evaluator(it, chosen).evaluate(0)
    for one in found:
        n = len(one.response.split())
        assert one.reward == pytest.approx((n + 1) / n)


def test_what_is_measured_on_each_response() -> None:
    """The fakes score with the number of tokens and say log-probabilities of -1, and -1.5 under the reference."""
    it = bench()
    found = evaluator(it, held_out(gold={"path": "gold"})).evaluate(0)
    assert [one.response for one in found] == ["good film", "not good at all", "a very long and dull film"]
    assert [one.tokens for one in found] == [3, 5, 7]
    assert [(one.reward, one.gold) for one in found] == [(3.0, -3.0), (5.0, -5.0), (7.0, -7.0)]
    assert [one.k1 for one in found] == pytest.approx([1.5, 2.5, 3.5])
    assert [one.k3 for one in found] == pytest.approx([n * (math.exp(-0.5) - 0.5) for n in (3, 5, 7)])
    assert not any("game" in str(plan) and plan.game for _, plan in it.reward.jobs.values()), "plain scores only"


def test_responses_are_sampled_as_the_task_says_but_for_what_is_set() -> None:
    it = bench()
    evaluator(it, held_out()).evaluate(0)
    assert it.rollout.sampling == Sampling(temperature=0.7)
    evaluator(it, held_out(temperature=0.2, max_new_tokens=9)).evaluate(0)
    assert it.rollout.sampling == Sampling(temperature=0.2, max_new_tokens=9)


def test_an_evaluation_between_two_steps_changes_nothing_about_them() -> None:
    plain, evaluated = bench(), bench()
    for step in range(2):
        expected = plain.trainer.step(step)
        evaluator(evaluated, held_out()).evaluate(step)
        found = evaluated.trainer.step(step)
        for name, value in expected.metrics.items():
            if not name.startswith(("time/", "tokens/per_s")):
                assert found.metrics[name] == value, name
    for one, other in zip(plain.learner.batches, evaluated.learner.batches, strict=True):
        assert np.array_equal(one.advantages_BT, other.advantages_BT)


def test_an_engine_with_other_weights_is_refused() -> None:
    with pytest.raises(StaleEngine, match="sampled with policy version 0, the learner is at 3"):
        evaluator(bench(), held_out()).evaluate(3)


def test_negative_estimates_of_the_kl_count_like_all_others() -> None:
    class Closer(fakes.FakeLearner):
        def forward(self, sequences: Sequences, sampling: Sampling | None = None) -> Forward:
            forward = super().forward(sequences, sampling)
            return replace(forward, ref_logprobs_BT=forward.logprobs_BT * 0.5)

    it = bench()
    found = Evaluator(held_out(), fakes.prompts(2), it.rollout, it.reward, Closer([], it.rollout)).evaluate(0)
    assert summary(found)["kl_k1"] == pytest.approx(-0.5 * (3 + 5) / 2)
    assert summary(found)["kl_k3"] == pytest.approx((math.exp(0.5) - 1.5) * (3 + 5) / 2)


def test_the_summary_has_the_means_and_the_spread() -> None:
    rows = [
        measured(prompt_index=0, reward=1.0, gold=2.0, tokens=4, finished=True, response="a b a b"),
        measured(prompt_index=1, reward=3.0, gold=2.0, tokens=2, finished=False, response="a b"),
    ]
    found = summary(rows)
    assert (found["reward"], found["reward_std"], found["reward_stderr"]) == pytest.approx((2.0, 1.0, 1.0))
    assert (found["gold"], found["gold_stderr"]) == (2.0, 0.0)
    assert (found["length"], found["eos_share"], found["responses"]) == (3.0, 0.5, 2.0)
    assert (found["distinct_1"], found["distinct_2"]) == (2 / 6, 2 / 4)
    assert "gold" not in summary([measured()])
    assert headline(found) == (
        "reward 2.000 ± 1.000  gold 2.000 ± 0.000  KL 0.00  length 3.0  ended 50 %  distinct-2 0.50"
    )


def test_samples_of_a_prompt_do_not_pretend_to_be_more_prompts() -> None:
    values, prompts = np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1])
    assert standard_error(values, prompts) == pytest.approx(1.0)
    assert standard_error(values, np.arange(4)) == pytest.approx(1.1547 / 2, abs=1e-4)
    assert math.isnan(standard_error(values, np.zeros(4, int)))
