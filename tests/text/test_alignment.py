"""Weights carried from one tokenizer's tokens to another's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.text.alignment import overlap_shares


def moved(weights, source, target):
    return overlap_shares(np.array(weights, dtype=float), source, target).tolist()


def test_weights_are_divided_by_the_characters_shared():
    assert moved([0.6, 0.4], [(0, 3), (3, 5)], [(0, 1), (1, 5)]) == pytest.approx([0.2, 0.8])
    assert moved([1.0], [(0, 4)], [(0, 1), (1, 2), (2, 4)]) == [0.25, 0.25, 0.5]
    assert moved([0.5, 0.5], [(0, 2), (2, 4)], [(0, 4)]) == [1.0]


def test_equal_spans_change_nothing():
    spans = [(0, 2), (2, 2), (2, 2), (2, 3), (3, 3)]
    assert moved([0.1, 0.2, 0.3, 0.25, 0.15], spans, spans) == [0.1, 0.2, 0.3, 0.25, 0.15]


def test_white_space_that_a_tokenizer_leaves_out_weighs_nothing():
    assert moved([0.5, 0.5], [(0, 2), (3, 5)], [(0, 2), (2, 5)]) == [0.5, 0.5]
    assert moved([0.5, 0.5], [(1, 2), (2, 3)], [(0, 2), (2, 3), (3, 5)]) == [0.5, 0.5, 0.0]


def test_tokens_that_claim_the_same_character_bring_their_weights_together():
    assert moved([0.25, 0.25, 0.5], [(0, 1), (0, 1), (1, 2)], [(0, 0), (0, 1), (1, 2)]) == [0.0, 0.5, 0.5]


def test_special_tokens_go_to_special_tokens_or_to_what_follows():
    assert moved([0.75, 0.25], [(0, 4), (4, 4)], [(0, 4), (4, 4)]) == [0.75, 0.25]
    assert moved([0.75, 0.25], [(0, 4), (4, 4)], [(0, 2), (2, 4)]) == [0.375, 0.625]
    assert moved([0.25, 0.25, 0.5], [(0, 0), (0, 2), (2, 4)], [(0, 2), (2, 4)]) == [0.5, 0.5]
    assert moved([0.25, 0.75], [(0, 0), (0, 0)], [(0, 0)]) == [1.0]


def test_no_weights_are_no_weights():
    assert moved([], [], []) == []
    assert moved([], [], [(0, 0)]) == [0.0]


@pytest.mark.parametrize(
    ("weights", "source", "target", "message"),
    [
        ([1.0], [(0, 5)], [(0, 4)], r"source token 0 is at \(0, 5\).* 4 characters .* same text"),
        ([0.5, 0.5], [(2, 3), (0, 2)], [(0, 3)], r"source token 1 is at \(0, 2\), it must lie in order"),
        ([1.0], [(-1, 3)], [(0, 3)], r"source token 0 is at \(-1, 3\)"),
        ([1.0], [(0, 3)], [(1, 3)], r"target token 0 is at \(1, 3\), it must start at 0"),
        ([1.0], [(0, 3)], [(0, 1), (2, 3)], r"target token 1 is at \(2, 3\), it must start at 1"),
        ([1.0], [(0, 0)], [], "1 source tokens but no target token"),
        ([1.0, 2.0], [(0, 3)], [(0, 3)], "expected one for each of 1 tokens, got 2"),
    ],
)
def test_spans_of_different_texts_are_refused(weights, source, target, message):
    with pytest.raises(ValueError, match=message):
        moved(weights, source, target)


@st.composite
def two_tokenizations(draw):
    length = draw(st.integers(0, 30))

    def cut():
        cuts = sorted(draw(st.lists(st.integers(0, length), max_size=12)))
        return list(zip([0, *cuts], [*cuts, length], strict=True))

    return cut(), cut()


@given(two_tokenizations(), st.integers(0, 2**32 - 1))
def test_the_sum_is_kept_and_nobody_gets_a_weight_from_characters_that_are_not_theirs(spans, seed):
    source, target = spans
    weights = np.random.default_rng(seed).random(len(source))
    got = overlap_shares(weights, source, target)
    assert got.sum() == pytest.approx(weights.sum())
    for s, (start, end) in enumerate(source):
        alone = overlap_shares(np.eye(len(source))[s], source, target)
        assert alone.sum() == pytest.approx(1.0)
        if start < end:
            touched = [target[t] for t in np.flatnonzero(alone)]
            assert all(a < end and b > start for a, b in touched)
