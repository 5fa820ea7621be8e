"""How much texts repeat themselves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.text.diversity import distinct


@pytest.mark.parametrize(
    ("texts", "n", "expected"),
    [
        (["the good, the bad"], 1, 4 / 5),
        (["the good, the bad"], 2, 4 / 4),
        (["The film. the film."], 2, 3 / 5),
        (["a b", "a b"], 2, 1 / 2),
        (["a b", "b a"], 2, 2 / 2),
        (["so so so so so"], 3, 1 / 3),
    ],
)
def test_known_shares(texts: list[str], n: int, expected: float) -> None:
    assert distinct(texts, n) == pytest.approx(expected)


def test_without_any_n_gram_there_is_no_share() -> None:
    assert math.isnan(distinct(["one", ""], 2))


@given(st.lists(st.text(alphabet="ab c.", max_size=12), min_size=1, max_size=5), st.integers(1, 3))
def test_a_text_said_twice_halves_the_share(texts: list[str], n: int) -> None:
    once = distinct(texts, n)
    if not math.isnan(once):
        assert distinct([*texts, *texts], n) == pytest.approx(once / 2)
