"""The best tree of a chart, against all trees."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.parsing.chart import best_spans, spans_of, tree_of


def flat_trees(start, end):
    """Every tree over the words start..end-1, as a set of spans of two or more words; nodes may be wide."""
    if end - start == 1:
        return [frozenset()]
    found = []
    for cuts in range(1, 2 ** (end - start - 1)):
        inner = [start + 1 + i for i in range(end - start - 1) if cuts >> i & 1]
        parts = [frozenset()]
        for a, b in pairwise([start, *inner, end]):
            parts = [left | right for left in parts for right in flat_trees(a, b)]
        found += [spans | {(start, end)} for spans in parts]
    return found


def test_all_trees_are_enumerated():
    assert [len(flat_trees(0, n)) for n in (1, 2, 3, 4, 5)] == [1, 1, 3, 11, 45]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_best_tree_is_the_best_of_all_trees(n, seed):
    scores = np.random.default_rng(seed).normal(size=(n + 1, n + 1)).astype(np.float32)
    total = {spans: sum(float(scores[span]) for span in spans) for spans in flat_trees(0, n)}
    found = frozenset(best_spans(scores))
    assert found in total
    assert total[found] == pytest.approx(max(total.values()), abs=1e-5)


def test_spans_of_negative_score_are_left_out():
    scores = np.full((4, 4), -1.0, dtype=np.float32)
    assert best_spans(scores) == {(0, 3)}
    scores[1, 3] = 0.5
    assert best_spans(scores) == {(0, 3), (1, 3)}


def test_of_two_spans_that_cross_the_better_one_stays():
    scores = np.zeros((4, 4), dtype=np.float32)
    scores[0, 2], scores[1, 3] = 2.0, 1.0
    assert best_spans(scores) == {(0, 3), (0, 2)}


@pytest.mark.parametrize(
    ("n", "spans", "tree"),
    [
        (1, {(0, 1)}, 0),
        (2, set(), (0, 1)),
        (3, {(0, 2)}, ((0, 1), 2)),
        (3, {(1, 3), (0, 3), (2, 3)}, (0, (1, 2))),
        (5, {(0, 4), (0, 2), (2, 4)}, (((0, 1), (2, 3)), 4)),
    ],
)
def test_spans_become_a_tree(n, spans, tree):
    assert tree_of(spans, n) == tree


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_a_tree_has_the_spans_it_was_made_of(n, seed):
    spans = best_spans(np.random.default_rng(seed).normal(size=(n + 1, n + 1)).astype(np.float32))
    assert spans_of(tree_of(spans, n)) == spans


def test_spans_that_cross_are_refused():
    with pytest.raises(AssertionError, match=r"\(1, 3\) crosses"):
        tree_of({(0, 2), (1, 3)}, 3)
