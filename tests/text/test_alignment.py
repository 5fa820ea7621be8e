"""Weights carried from one tokenizer's tokens to another's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.text.alignment import dropped_characters, overlap_shares, token_units


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


@pytest.mark.parametrize(
    ("tokens", "units", "expected"),
    [
        ([(0, 3), (3, 6), (0, 0)], [(1, 4), (4, 6)], (0, 1, -1)),
        ([(0, 4), (4, 8)], [(0, 3), (3, 8)], (0, 1)),
        ([(0, 4)], [(0, 2), (2, 4)], (0,)),
        ([(0, 5)], [(0, 2), (2, 5)], (1,)),
        ([(0, 2), (2, 9), (9, 12)], [(2, 5), (5, 9)], (-1, 1, -1)),
        ([(4, 5), (4, 5), (6, 8)], [(4, 5), (5, 8)], (0, 0, 1)),
        ([(0, 0), (0, 3), (3, 3)], [(0, 1), (1, 1), (1, 3)], (-1, 2, -1)),
        ([(0, 3)], [], (-1,)),
        ([], [(0, 3)], ()),
    ],
)
def test_the_unit_of_each_reward_model_token(tokens, units, expected):
    assert token_units(tokens, units) == expected


@pytest.mark.parametrize(
    ("tokens", "units", "message"),
    [
        ([(3, 5), (0, 3)], [(0, 5)], r"token 1 is at \(0, 3\) after \(3, 5\); tokens must be in order"),
        ([(0, 5), (1, 3)], [(0, 5)], r"token 1 is at \(1, 3\) after \(0, 5\)"),
        ([(-1, 3)], [(0, 5)], r"token 0 is at \(-1, 3\)"),
        ([(3, 1)], [(0, 5)], r"token 0 is at \(3, 1\)"),
        ([(0, 3)], [(0, 2), (3, 5)], "unit 1 starts at character 3, it must start at 2"),
        ([(0, 3)], [(0, 2), (2, 1)], "a range ends before it starts"),
    ],
)
def test_spans_that_cannot_be_those_of_the_text_have_no_units(tokens, units, message):
    with pytest.raises(ValueError, match=message):
        token_units(tokens, units)


@given(two_tokenizations())
def test_a_token_with_a_character_of_the_response_has_a_unit_it_shares_most_with(spans):
    tokens, units = spans
    got = token_units(tokens, units)
    for (start, end), unit in zip(tokens, got, strict=True):
        shared = [max(min(end, b) - max(start, a), 0) for a, b in units]
        if start == end:
            assert unit == -1
        else:
            assert shared[unit] == max(shared) > 0
            assert max(shared) not in shared[:unit]


def test_visible_characters_that_no_token_covers():
    assert dropped_characters("It was  good", [(0, 2), (3, 6), (8, 12)]) == ""
    assert dropped_characters("It was good", [(0, 2), (0, 0), (3, 5), (7, 11)]) == "s"
    assert dropped_characters("caf\u00e9 \U0001f600!", [(0, 3)]) == "\u00e9\U0001f600!"
    assert dropped_characters("no tokens", []) == "notokens"
    assert dropped_characters("", []) == ""


def test_offsets_of_another_text_are_refused():
    with pytest.raises(ValueError, match=r"token 1 is at \(2, 9\).* within the 5 characters of the text"):
        dropped_characters("short", [(0, 2), (2, 9)])
