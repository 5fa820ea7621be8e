"""Noun, adjective and verb phrases, and the chunks that they become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response, unit_texts, words

from scar_ray.text.chunks import chunk_ends
from scar_ray.text.units import segment


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("The film is very good.", ["The film", " is", " very good."]),
        ("I was not watching it twice.", ["I", " was not watching", " it", " twice."]),
        ("He wants to see the union's old lawyers", ["He", " wants to see", " the union's old lawyers"]),
        ("waterproof hiking boots with good grip", ["waterproof hiking boots", " with good grip"]),
    ],
)
def test_the_chunks_of_a_text(text, chunks):
    response = make_response(words(text))
    units = segment(response, "chunk", 64)
    found = unit_texts(response, units)
    assert "".join(found) == text
    assert units.granularity == "chunk"
    assert found == chunks


def test_sentences_stand_above_their_chunks():
    response = make_response(words("The film is good. I left"))
    units = segment(response, "chunk", 64)
    assert unit_texts(response, units) == ["The film", " is", " good.", " I", " left"]
    assert units.tree == ((0, 1, 2), (3, 4))
    assert unit_texts(response, segment(response, "chunk", 2)) == ["The film is good.", " I left"]


@given(st.text("ACDGOPRSTVX(,:", max_size=20))
def test_every_word_is_in_one_chunk_whatever_the_classes(classes):
    ends = chunk_ends(classes)
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(classes)] if classes else [])
