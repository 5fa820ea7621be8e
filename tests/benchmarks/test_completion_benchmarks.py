"""What the benchmarks of values by completion count and compare."""

import json

import complete_value
import numpy as np
import pytest
import wrong_step
from make_response import make_response, words

from scar_ray.credit import build
from scar_ray.records import Evaluation, SequenceScore
from scar_ray.text.units import segment


def test_credits_of_lines_are_the_methods_own_or_what_their_tokens_are_paid() -> None:
    response = make_response(words("\n1 + 2 = 3\n3 + 4 = 7"))
    lines = segment(response, "sentence", 64)
    assert len(lines) == 2
    options = {"unit": "sentence", "estimator": "auto", "alpha": 1.0, "budget": 64, "max_units": 64, "base": "last"}
    score = SequenceScore(3.0, 1.0, 0.0)
    prefix = build("prefix", **options)
    plan = prefix.plan(response)
    values_C = np.array([1.0, 3.0, 1.5])  # nothing, all, the first line
    rewards = prefix.assign(response, plan, Evaluation(3.0, values_C), score)
    np.testing.assert_allclose(wrong_step.line_credits(rewards, lines), [0.5, 1.5])
    sparse = build("sparse", **options)
    rewards = sparse.assign(response, sparse.plan(response), Evaluation(3.0), score)
    np.testing.assert_allclose(wrong_step.line_credits(rewards, lines), [0.0, 3.0])


def test_a_run_has_spent_the_tokens_of_its_responses_and_of_its_values(tmp_path) -> None:
    rows = [
        {"step": 0, "eval/reward": 0.25, "eval/reward_stderr": 0.02, "eval/kl_k3": 0.0},
        {"step": 1, "tokens/generated": 100.0, "credit/generated_tokens": 300.0, "credit/value_stderr": 0.2},
        {"step": 2, "tokens/generated": 150.0, "credit/generated_tokens": 450.0, "credit/value_stderr": 0.1},
    ]
    for row in rows[1:]:
        row |= {"cost/rollout": 1.0, "cost/learner": 2.0, "cost/reward": 0.5, "credit/wrong_step_lowest": 0.75}
    rows[2] |= {"eval/reward": 0.5, "eval/reward_stderr": 0.02, "eval/kl_k3": 0.1}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.json").write_text(json.dumps({"versions": {}, "hardware": {}}))
    found = complete_value.read("grpo, prefix_complete", 0, tmp_path)
    assert found["tokens"] == [0.0, 1000.0]
    assert found["accuracy"] == [0.25, 0.5]
    assert found["value_tokens_share"] == pytest.approx(0.75)
    assert found["wrong_step_lowest"] == 0.75
    assert found["cpu_seconds"] == {"rollout": 2.0, "learner": 4.0, "reward": 1.0}
