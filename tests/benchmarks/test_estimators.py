"""The functions behind the estimator benchmark, on values that need no reward model."""

from __future__ import annotations

import re

import estimator_report
import granularity
import long_responses
import numpy as np
import pytest
import small_games
from make_response import make_response
from review_games import beginnings, deletion_game, errors, median_interval, sampled_shapley

from scar_ray.text.units import segment

WORTH = {"good": 2.0, "bad": -1.0, "not": -0.5, "film": 0.25}
REVIEW = "I saw it twice and found a good film with not one bad scene in it , really a good film to see again"


def score(prompt, texts):
    """Sum of the words' worth, doubled in sign after "not"; one token a word, and one for the end."""
    found = []
    for text in texts:
        words = text.split()
        found.append(
            sum(WORTH.get(w, 0.0) * (-1 if "not" in words[max(i - 2, 0) : i] else 1) for i, w in enumerate(words))
        )
    return np.array(found), np.array([len(prompt.split()) + len(text.split()) + 1 for text in texts])


def tokenizer(text, **_):
    """A word and the blank before it is a token."""
    spans = [match.span() for match in re.finditer(r"\s?\S+", text)]
    return {"input_ids": [1] * len(spans), "offset_mapping": spans}


def test_beginnings_start_after_the_prompt_and_end_with_words():
    found = beginnings("one two three four five six seven", tokenizer, 2)
    assert [(r.prompt.text, r.text) for r in found] == [
        ("one two three four", " five"),
        ("one two three four", " five six"),
    ]


def test_a_game_computes_a_text_once_and_counts_its_tokens_every_time():
    asked = []

    def counting(prompt, texts):
        asked.extend(texts)
        return score(prompt, texts)

    response = make_response([" good", " film"], finished=False)
    game = deletion_game(response, segment(response, "word", 8), counting, {})
    values, tokens = game.values(np.array([[True, False], [True, False], [True, True]]))
    assert values.tolist() == [2.0, 2.0, 2.25]
    assert tokens.tolist() == [4, 4, 5]
    assert asked == [" good", " good film"]


def test_errors_of_a_credit_moved_by_one_place():
    found = errors(np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.0, 3.0]))
    assert found == {"l2": pytest.approx(np.sqrt(2 / 10)), "rank": pytest.approx(0.5), "return": pytest.approx(1 / 4)}


def test_sampled_shapley_values_of_an_additive_game_are_exact_without_error():
    response = make_response([" good", " film", " bad", " idea"], finished=False)
    game = deletion_game(response, segment(response, "token", 8), score, {})
    credits_n, error = sampled_shapley(game, 4, 3, 0)
    np.testing.assert_allclose(credits_n, [2.0, 0.25, -1.0, 0.0], atol=1e-12)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_small_games_are_compared_with_their_exact_values():
    found = small_games.tables(iter([REVIEW]), tokenizer, score, [(8, "word", 1)])
    result = small_games.compare(found, (16, 256), None)
    assert result["shapiq"] == "not installed"
    at = {(row["estimator"], row["budget"]): row for row in result["rows"]}
    assert at["kernel", 256]["shapley"]["l2"] == pytest.approx(0.0, abs=1e-9)
    assert at["owen", 256]["owen"]["l2"] == pytest.approx(0.0, abs=1e-9)
    assert at["permutations", 16]["evaluations"] == 16
    assert at["kernel", 16]["tokens"] == 16 * (4 + 4 + 1)


def test_tokens_at_an_error_are_interpolated_on_logarithmic_axes():
    curve = [(10.0, 0.4), (1000.0, 0.1)]
    assert long_responses.tokens_at_error(curve, 0.2) == pytest.approx(100.0)
    assert long_responses.tokens_at_error(curve, 0.5) == 10.0
    assert long_responses.tokens_at_error(curve, 0.05) is None


def test_a_linkage_matrix_becomes_a_tree():
    linkage = np.array([[1, 2, 0.5, 2], [0, 3, 1.0, 3]])
    assert long_responses.tree_of(linkage) == (0, (1, 2))


def test_unit_credits_are_compared_at_unit_ends_and_spread():
    units = segment(make_response([" good", " film"], finished=False), "sentence", 8)
    found = granularity.unit_errors(np.array([4.0]), units, np.array([3.0, 1.0]))
    assert found == {"placed": pytest.approx(3 / 5), "spread": pytest.approx(np.sqrt(2 / 10))}


def test_the_interval_of_a_median_holds_it():
    middle, low, high = median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert middle == 3.0
    assert 1.0 <= low <= middle <= high <= 100.0


def test_curves_have_the_median_of_each_budget():
    rows = [{"estimator": "a", "budget": b, "tokens": b, "e": e} for b, e in ((8, 1.0), (8, 3.0), (4, 5.0))]
    assert estimator_report.curves(rows, "tokens", lambda row: row["e"]) == {"a": [(4.0, 5.0), (8.0, 2.0)]}
