"""Units of responses of real tokenizers: byte-level BPE, sentencepiece's unigrams with byte fallback, WordPiece."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_response import make_response, unit_texts
from test_offsets import BYTE_FALLBACK, BYTE_LEVEL, WORD_PIECES, decode, encode

from scar_ray.games import n_players
from scar_ray.text.alignment import dropped_characters, token_units
from scar_ray.text.offsets import token_spans
from scar_ray.text.units import segment

FAMILIES = {"byte-level": BYTE_LEVEL, "byte-fallback": BYTE_FALLBACK, "word-pieces": WORD_PIECES}
UNITS = ["token", "word", "span", "sentence", "paragraph", "auto"]
SAMPLES = [
    "The movie was not good! It was good.\n\nThe end",
    "這部電影很好看。但是結局太差了！",
    "كان الفيلم رائعا جدا، وأحببت النهاية. שלום!",
    "def f(x):\n    return x + 1\n",
    "## Title\n\n- **bold** item\n- `code`",
    "😀👍🏽 e\u0301 \u200b\u202e\x00",
]
TEXTS = st.sampled_from(SAMPLES) | st.text(st.characters(codec="utf-8"), max_size=60)


def respond(tokenizer, text, finished):
    """The response whose tokens are those of `text`; its text is what they decode to."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded, spans = token_spans(ids, decode(tokenizer), encode(tokenizer))
    return make_response([decoded[a:b] for a, b in spans], finished=finished)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, derandomize=True)
@given(text=TEXTS, unit=st.sampled_from(UNITS), max_units=st.integers(1, 50), finished=st.booleans())
def test_units_partition_the_content_of_responses_of_any_tokenizer(family, text, unit, max_units, finished):
    response = respond(FAMILIES[family], text, finished)
    units = segment(response, unit, max_units)
    assert units.ends[-1:] == ((response.n_content,) if response.n_content else ())
    assert list(units.ends) == sorted(set(units.ends))
    assert len(units) <= max_units
    assert "".join(unit_texts(response, units)) == response.text
    if len(units):
        assert n_players(units.tree) == len(units)
    assert response.n_tokens - response.n_content == int(finished), "the EOS is in no unit"


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("reward", FAMILIES)
@settings(max_examples=25, derandomize=True)
@given(text=TEXTS, unit=st.sampled_from(UNITS))
def test_units_reach_the_tokens_of_another_tokenizer_by_their_characters(policy, reward, text, unit):
    response = respond(FAMILIES[policy], text, True)
    units = segment(response, unit, 50)
    bounds = [response.token_spans[end - 1][1] for end in units.ends]
    ranges = list(zip([0, *bounds[:-1]], bounds, strict=True)) if bounds else []
    spans = FAMILIES[reward].encode(response.text, add_special_tokens=False).offsets
    of_tokens = token_units(spans, ranges)
    assert len(of_tokens) == len(spans)
    assert [unit for unit in of_tokens if unit >= 0] == sorted(unit for unit in of_tokens if unit >= 0)
    for (start, end), number in zip(spans, of_tokens, strict=True):
        assert (number == -1) == (start == end)
    covered = {i for start, end in spans for i in range(start, end)}
    lost = [char for i, char in enumerate(response.text) if i not in covered and not char.isspace()]
    assert dropped_characters(response.text, spans) == "".join(lost)


def test_a_text_that_the_reward_tokenizer_normalises_away_is_noticed():
    spans = WORD_PIECES.encode("the \x00movie", add_special_tokens=False).offsets
    assert dropped_characters("the movie", [(0, 3), (4, 9)]) == ""
    assert dropped_characters("the movie 電影", [(0, 3), (4, 9)]) == "電影"
    assert dropped_characters("the \x00movie", spans) == ""


def test_white_space_tokens_and_split_characters_go_with_what_follows():
    response = respond(BYTE_LEVEL, "good 😀!\n\nnot", True)
    assert unit_texts(response, segment(response, "word", 50)) == ["good", " 😀", "!", "\n\nnot"]
    response = respond(WORD_PIECES, "the movie was unwatchable!", True)
    assert unit_texts(response, segment(response, "word", 50)) == ["the", " movie", " was", " unwatchable", " !"]
    assert segment(response, "token", 50).ends == (1, 2, 3, 4, 5, 6, 7)
