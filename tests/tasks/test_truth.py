"""Credits against the true contributions of the demo's grammar."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response
from scipy.stats import spearmanr

from scar_ray.records import Prompt, TokenRewards, Units
from scar_ray.tasks.sentiment import read
from scar_ray.tasks.truth import rank_correlation, sign_accuracy, truth_metrics, truth_of, word_shares


def response_to(prompt, tokens):
    return replace(make_response(tokens), prompt=Prompt(0, (), prompt))


def test_contributions_beyond_given_words_are_those_of_the_game_that_has_them_always():
    reading = read("Although the plot was not very good, the cast was superb")
    present = (0, 4)  # "although" and "not"
    phi = np.zeros(len(reading.words))
    relevant = [5, 6, 11]  # "very", "good", "superb": the only other ones that matter
    for order in permutations(relevant):
        for k, word in enumerate(order):
            before = (*present, *order[:k])
            phi[word] += (reading.value((*before, word)) - reading.value(before)) / 6
    assert [reading.words[word] for word in relevant] == ["very", "good", "superb"]
    np.testing.assert_allclose(reading.contributions(present), phi, atol=1e-12)


def test_a_unit_has_the_sum_of_its_words_and_a_word_of_two_units_is_divided_by_characters():
    response = response_to("The plot was", [" not", " go", "od", "."])
    truth = truth_of(response)
    np.testing.assert_allclose(truth.contributions_W, [-0.875, 0.125, 0.0])
    tokens = Units((1, 2, 3, 4), (0, 1, 2, 3))
    np.testing.assert_allclose(truth.of_units(word_shares(truth, response, tokens)), [-0.875, 0.0625, 0.0625, 0.0])
    phrase = Units((3, 4), (0, 1))
    np.testing.assert_allclose(truth.of_units(word_shares(truth, response, phrase)), [-0.75, 0.0])


def test_words_of_the_prompt_are_given():
    truth = truth_of(response_to("The plot was not", [" good", "."]))
    assert [truth.reading.words[word] for word in truth.given] == ["the", "plot", "was", "not"]
    np.testing.assert_allclose(truth.contributions_W, [-0.75, 0.0])


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=8))
def test_the_rank_correlation_is_spearmans(pairs):
    credits_n, truth_n = np.array(pairs, dtype=float).T
    if np.ptp(truth_n) == 0:
        assert rank_correlation(credits_n, truth_n) is None
    elif np.ptp(credits_n) == 0:
        assert rank_correlation(credits_n, truth_n) == 0.0
    else:
        expected = spearmanr(credits_n, truth_n).statistic
        assert rank_correlation(credits_n, truth_n) == pytest.approx(expected)


def test_signs_count_where_there_is_a_truth_and_no_credit_counts_half():
    assert sign_accuracy(np.array([1.0, -1.0, 0.0, 5.0]), np.array([2.0, 3.0, -1.0, 0.0])) == 0.5
    assert sign_accuracy(np.array([1.0]), np.array([0.0])) is None


def test_rounding_is_neither_a_rank_nor_a_sign():
    noisy = rank_correlation(np.array([0.1 + 0.2, 0.3, 1.0]), np.array([1.0, 2.0, 3.0]))
    assert noisy == pytest.approx(np.sqrt(3) / 2)
    assert sign_accuracy(np.array([1e-17]), np.array([1.0])) == 0.5


def test_metrics_are_means_over_the_responses_that_have_a_truth():
    right = response_to("The plot was", [" good"])
    neutral = response_to("The plot", [" went", " on"])
    units = Units((1, 2), (0, 1))  # the EOS is a unit of its own, as for methods that pay every token
    credited = [
        (right, TokenRewards(np.array([2.0, 0.0]), units, np.array([2.0, 0.0]))),
        (right, TokenRewards(np.array([0.0, 2.0]), units, np.array([0.0, 2.0]))),
        (neutral, TokenRewards(np.zeros(3), Units((1, 2, 3), (0, 1, 2)), np.array([1.0, 2.0, 3.0]))),
    ]
    assert truth_metrics(credited) == {"truth_rank_correlation": 0.0, "truth_sign_accuracy": 0.75}
    assert truth_metrics(credited[2:]) == {}
