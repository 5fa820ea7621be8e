from hypothesis import given
from hypothesis import strategies as st

from scar_ray.workers.supervised.lm import pack


def test_short_texts_share_a_row_and_long_ones_are_cut() -> None:
    assert pack([[1, 2, 3, 4, 5], [6, 7], [8]], 3) == [[1, 2, 3], [4, 5], [6, 7, 8]]


def test_a_long_text_begins_a_row_of_its_own() -> None:
    rows = pack([[1, 2], [3, 4, 5, 6, 7, 8], [9, 10]], 4)
    assert [3, 4, 5, 6] in rows


@given(st.lists(st.integers(1, 20), max_size=30), st.integers(1, 12))
def test_rows_hold_every_token_once_and_are_never_too_long(lengths: list[int], max_tokens: int) -> None:
    start = 0
    texts = []
    for length in lengths:
        texts.append(list(range(start, start + length)))
        start += length
    rows = pack(texts, max_tokens)
    assert sorted(token for row in rows for token in row) == list(range(start))
    assert all(0 < len(row) <= max_tokens for row in rows)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=30))
def test_no_two_rows_could_have_been_one(lengths: list[int]) -> None:
    sizes = sorted(len(row) for row in pack([[0] * length for length in lengths], 8))
    assert len(sizes) == 1 or sizes[0] + sizes[1] > 8
