"""What credit methods pay along a response, beside what its parts added."""

from __future__ import annotations

import json

import numpy as np
import pytest
from paid_by_position import by_quarter, correlations, main, over_responses, table

from scar_ray import explain
from scar_ray.config.load import load


def test_shapley_values_of_a_score_that_saturates_pay_the_end_for_what_the_beginning_added(tmp_path):
    (tmp_path / "rewards.py").write_text(
        "def score(samples):\n    return [float(min(3, len(sample.response.split()))) for sample in samples]\n"
    )
    text = "one two three four five six seven eight nine ten eleven twelve"
    prefix, scar = explain(f"{tmp_path}/rewards.py:score", "", text, ["prefix", "scar_token"])
    assert by_quarter(prefix).tolist() == [3, 0, 0, 0]
    assert by_quarter(scar) == pytest.approx([0.75] * 4)


def test_the_table_has_means_and_errors_over_responses():
    paid_RQ = np.array([[1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 4.0]])
    assert over_responses(paid_RQ)[0] == (2.0, 1.0)
    assert table({"prefix": paid_RQ}).splitlines()[2] == (
        "| prefix | 2.000 ± 1.000 | 0.000 ± 0.000 | 0.000 ± 0.000 | 2.000 ± 2.000 | 4.000 ± 3.000 |"
    )


def test_the_score_of_a_beginning_correlates_with_the_final_one_as_far_as_what_follows_is_the_same():
    base_R = np.array([0.0, 1.0, 2.0, 5.0])
    same_RQ, other_RQ = np.zeros((4, 4)), np.zeros((4, 4))
    same_RQ[:, 3], other_RQ[:, 3] = 1.0, -2 * base_R
    assert correlations(base_R, same_RQ) == pytest.approx([1.0] * 3)
    assert correlations(base_R, other_RQ) == pytest.approx([-1.0] * 3)


def test_a_run_without_the_evaluation_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["paid_by_position.py", str(tmp_path), "--step", "7"])
    with pytest.raises(SystemExit):
        main()
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("eval/step-000007.jsonl: no such evaluation; give a run with eval.every > 0 and one of its steps")
    )


def test_a_run_whose_reward_is_a_function_is_scored_by_it_with_its_options(tmp_path, monkeypatch):
    (tmp_path / "rewards.py").write_text(
        "def score(samples, most):\n    return [float(min(most, len(s.response.split()))) for s in samples]\n"
    )
    words = [f"model.reward.function='{tmp_path}/rewards.py:score'", "model.reward.options.most=3"]
    (tmp_path / "config.json").write_text(load(["task=demo", *words]).model_dump_json())
    (tmp_path / "eval").mkdir()
    rows = [{"prompt": "", "response": " ".join(["word"] * count)} for count in (8, 12)]
    (tmp_path / "eval" / "step-000000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(
        "sys.argv", ["paid_by_position.py", str(tmp_path), "--credit", "scar_token", "--out", f"{tmp_path}"]
    )
    main()
    found = json.loads((tmp_path / "paid_by_position.json").read_text())
    assert found["correlations"] == [None] * 3  # all scores are equal
    paid = found["paid"]
    assert [quarter["mean"] for quarter in paid["prefix"]] == [2.5, 0.5, 0.0, 0.0]
    assert [quarter["mean"] for quarter in paid["scar_token"]] == pytest.approx([0.75] * 4)
