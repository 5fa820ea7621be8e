import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.records import Sample
from scar_ray.tasks.sentiment import VALENCES, read, true_sentiment


@pytest.mark.parametrize(
    ("text", "sentiment"),
    [
        ("The plot was good.", 1.0),
        ("The plot was not good.", -0.75),
        ("The plot was very good.", 1.5),
        ("The plot was not very good.", -1.125),
        ("I did not really love the cast.", -2.25),
        ("The plot was good, and the cast was bad.", 0.0),
        ("The plot was good, but the cast was bad.", -1.0),
        ("Although the plot was good, the cast was bad.", -1.0),
        ("The plot was not dull. The cast was superb.", 2.75),
        ("The plot was a plot.", 0.0),
        ("", 0.0),
    ],
)
def test_the_sentiment_of_a_text_is_composed_of_its_words(text: str, sentiment: float) -> None:
    assert read(text).sentiment == pytest.approx(sentiment)


def test_the_sentiment_as_a_reward_reads_prompt_and_response_together() -> None:
    samples = [Sample("The plot was not", " good.", {}), Sample("The plot was not", " good. It was superb.", {})]

    assert true_sentiment(samples) == [-0.75, 1.25]


def test_a_modifier_acts_within_its_clause_only() -> None:
    assert read("The plot was not long, and the cast was good.").sentiment == 1.0


def test_the_value_of_kept_words_takes_the_structure_from_the_whole_text() -> None:
    reading = read("The plot was not good.")
    assert reading.words == ("the", "plot", "was", "not", "good", ".")
    assert reading.value([4]) == 1.0
    assert reading.value([3]) == 0.0
    assert reading.value([3, 4]) == -0.75


def test_contributions_of_a_negated_word_are_its_shapley_values() -> None:
    # v({good}) = 1, v({not, good}) = -0.75: the orders give good 1 and -0.75, not -1.75 and 0.
    phi = read("not good").contributions()
    np.testing.assert_allclose(phi, [-0.875, 0.125], atol=1e-12)


def test_contributions_of_a_contrast_reach_both_clauses() -> None:
    # The turn moves 1 to 0.5 in one term and -1 to -1.5 in the other; half of each change is its own.
    phi = read("good but bad").contributions()
    np.testing.assert_allclose(phi, [0.75, -0.5, -1.25], atol=1e-12)


@given(st.lists(st.sampled_from(["not", "very", "slightly", "but", ",", *VALENCES]), max_size=7))
def test_contributions_equal_enumerated_shapley_values_for_any_text(words: list[str]) -> None:
    reading = read(" ".join(words))
    n = len(reading.words)
    values = [reading.value([i for i in range(n) if mask >> i & 1]) for mask in range(2**n)]
    weight = [1.0 / (n * _choose(n - 1, size)) for size in range(n)]
    expected = [
        sum(
            weight[mask.bit_count()] * (values[mask | 1 << i] - values[mask])
            for mask in range(2**n)
            if not mask >> i & 1
        )
        for i in range(n)
    ]
    np.testing.assert_allclose(reading.contributions(), expected, atol=1e-9)


def _choose(n: int, k: int) -> int:
    return 1 if k == 0 else _choose(n, k - 1) * (n - k + 1) // k


def test_the_spans_of_the_words_cut_them_out_of_the_text() -> None:
    reading = read("Overall, I didn't like it!")
    assert [reading.text[a:b] for a, b in reading.spans] == ["Overall", ",", "I", "didn't", "like", "it", "!"]


def test_a_long_chain_of_intensifiers_keeps_contributions_exact() -> None:
    reading = read("very " * 40 + "good")
    assert reading.contributions().sum() == pytest.approx(reading.sentiment, rel=1e-9)
    assert reading.sentiment == pytest.approx(1.5**30)
