"""Nodes of the coalitions' prefix tree: by hand, and as the reward actors' own forest has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.config.load import load
from scar_ray.games import Lengths
from scar_ray.planning.reading import reading
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.forest import plant


def tree_tokens(coalitions: np.ndarray, lengths: list[int], cut: bool) -> int:
    return Lengths(0, tuple(lengths), end=0, filled=not cut).trie_tokens(coalitions)


PAIR = np.array([[False, False], [True, True], [True, False], [False, True]])


def test_two_units_of_one_token() -> None:
    assert tree_tokens(PAIR, [1, 1], cut=True) == 3  # a, ab, b
    assert tree_tokens(PAIR, [1, 1], cut=False) == 6  # a, ab, a-; -, -b, --


def test_units_count_with_their_tokens() -> None:
    assert tree_tokens(PAIR, [2, 3], cut=True) == 2 + 3 + 3
    assert tree_tokens(PAIR, [2, 3], cut=False) == 2 * 2 + 4 * 3


@given(st.data())
def test_the_count_is_the_size_of_the_forest_that_is_computed(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    rows = data.draw(st.sets(st.integers(0, 2**n - 1), min_size=1, max_size=20))
    coalitions = np.array([[bool(row >> i & 1) for i in range(n)] for row in rows])
    lengths = data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    cut = data.draw(st.booleans())
    ends = np.cumsum(lengths).tolist()
    units = [range(10 + end - length, 10 + end) for end, length in zip(ends, lengths, strict=True)]
    prompt = (1, 2)
    sequences = [
        Encoded(
            (
                *prompt,
                *(
                    token if here else 5
                    for unit, here in zip(units, row, strict=True)
                    if here or not cut
                    for token in unit
                ),
            )
        )
        for row in coalitions
    ]
    forest = plant(sequences, [len(sequence) - 1 for sequence in sequences])
    assert len(forest) == len(prompt) + tree_tokens(coalitions, lengths, cut)


@pytest.mark.parametrize("credit", ["sparse", "abc", "uniform"])
def test_methods_without_units_read_the_response_once(credit: str) -> None:
    found = reading(load([f"credit={credit}"]), prompt=450, new=53)
    assert (found.units, found.evaluations, found.tokens, found.computed) == (0, 1, 504, 504)


def test_every_token_alone_and_everything_but_it() -> None:
    """53 tokens, 2n + 2 coalitions: each alone, all but each, none, all; and an EOS behind every one of them."""
    found = reading(load(["credit=scar_token", "credit.estimator=paired_flat"]), prompt=450, new=53)
    assert (found.units, found.evaluations) == (53, 108)
    alone, without = 53 - 1, 52 + sum(53 - i for i in range(2, 53))  # the first of each lies on the full response
    assert found.computed == pytest.approx(450 + 53 + alone + without + 108, abs=2)
    assert found.tokens == 108 * 451 + 53 * (1 + 52) + 53


def test_sharing_less_computes_more() -> None:
    tokens = {
        engine: reading(load(["credit=scar_span", f"cluster.reward.engine={engine}"]), prompt=100, new=40).computed
        for engine in ("trie", "shared_prompt", "plain")
    }
    assert tokens["trie"] < tokens["shared_prompt"] < tokens["plain"]
