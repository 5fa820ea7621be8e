"""The true sentiment as a reward model."""

from dataclasses import replace

import credit_truth
import numpy as np
from make_response import make_response

from scar_ray.credit.scar import ScarCredit
from scar_ray.records import Prompt
from scar_ray.tasks.truth import truth_of, word_shares


def test_shapley_credit_of_true_values_is_the_truth() -> None:
    tokens = [" was", " hardly", " gri", "pping", ",", " but", " superb", "."]
    response = replace(make_response(tokens), prompt=Prompt(0, (), "Overall the plot"))
    truth = truth_of(response)
    method = ScarCredit(unit="word", estimator="shapley")
    plan = method.plan(response)
    evaluation = credit_truth.true_evaluation(response, plan, truth)
    assert evaluation.score == -0.5 * 1.5 * 0.5 + 1.5 * 2.0
    found = credit_truth.measured(method, response, plan, evaluation, truth)
    assert found == {
        f"{level}_{name}": 1.0 for name in ("rank_correlation", "sign_accuracy") for level in ("units", "words")
    }
    assert plan.game is not None
    assert plan.units is not None
    assert evaluation.values_C is not None
    expected_n = truth.of_units(word_shares(truth, response, plan.units))
    np.testing.assert_allclose(plan.game.credits(evaluation.values_C), expected_n, atol=1e-12)


def test_methods_that_are_defined_nowhere_have_no_mean() -> None:
    found = credit_truth.summary([{"a": 1.0, "b": None}, {"a": 3.0, "b": None}])
    assert found["b"] is None
    assert (found["a"][0], found["a"][3]) == (2.0, 2)
