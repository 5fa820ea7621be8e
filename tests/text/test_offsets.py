"""Character ranges of tokens, for tokenizers of several families trained or written here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from scar_ray.text.offsets import token_spans

CORPUS = ["The movie was not very good, but I loved the acting.\n\nIt's great! 電影很好看。 Größe café"]


def byte_level() -> Tokenizer:
    """Like GPT-2: tokens of bytes, white space at the front of a token, trimmed in its offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def with_byte_fallback() -> Tokenizer:
    """Like Llama 2: a mark for the space before a word, single bytes for unknown characters."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁The", "▁mo", "vie", "▁was", "▁not", "▁good", "!", *"Themovwasntgd"]
    scored = [(piece, -float(i > 256) - 1) for i, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


def word_pieces() -> Tokenizer:
    """Like BERT: no spaces in the tokens, continuations marked."""
    vocabulary = ["[UNK]", "the", "movie", "was", "not", "good", "un", "##watch", "##able", "!", "<eos>"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


BYTE_LEVEL, BYTE_FALLBACK, WORD_PIECES = byte_level(), with_byte_fallback(), word_pieces()


def decode(tokenizer):
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True)


def encode(tokenizer):
    def with_offsets(text):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    return with_offsets


def pieces(text_and_spans):
    text, spans = text_and_spans
    return [text[start:end] for start, end in spans]


def assert_cover(text, spans, n_tokens):
    assert len(spans) == n_tokens
    ends = [0, *(end for _, end in spans)]
    assert [start for start, _ in spans] == ends[:-1]
    assert ends == sorted(ends)
    assert ends[-1] == len(text)


def test_the_tokens_of_a_plain_text():
    table = {1: "He", 2: "llo", 3: ""}
    spell = lambda ids: "".join(table[i] for i in ids)  # noqa: E731
    assert token_spans([1, 2, 3], spell) == ("Hello", ((0, 2), (2, 5), (5, 5)))


def test_no_tokens_have_no_spans():
    assert token_spans([], decode(BYTE_LEVEL)) == ("", ())
    assert token_spans((), decode(BYTE_LEVEL), encode(BYTE_LEVEL)) == ("", ())


def test_a_character_of_several_tokens_belongs_to_the_one_that_completes_it():
    ids = BYTE_LEVEL.encode("a 😀👍!").ids
    assert [BYTE_LEVEL.decode([i]) for i in ids].count("\ufffd") >= 6
    got = pieces(token_spans(ids, decode(BYTE_LEVEL)))
    assert [piece for piece in got if piece] == ["a", " ", "😀", "👍", "!"]
    assert got.index("👍") - got.index("😀") >= 2


def test_an_unfinished_character_at_the_end_belongs_to_its_first_token():
    ids = BYTE_LEVEL.encode("a😀").ids[:-1]
    text, spans = token_spans(ids, decode(BYTE_LEVEL))
    assert text == "a\ufffd"
    assert spans[:2] == ((0, 1), (1, 2))
    assert_cover(text, spans, len(ids))


def test_a_special_token_in_the_middle_is_empty_and_shifts_nothing():
    ids = BYTE_LEVEL.encode("It's great").ids
    eos = BYTE_LEVEL.token_to_id("<eos>")
    for use in (None, encode(BYTE_LEVEL)):
        bare = pieces(token_spans(ids, decode(BYTE_LEVEL), use))
        assert pieces(token_spans([*ids[:2], eos, *ids[2:], eos], decode(BYTE_LEVEL), use)) == [
            *bare[:2],
            "",
            *bare[2:],
            "",
        ]


@pytest.mark.parametrize("use_offsets", [False, True])
def test_a_decoder_that_drops_the_first_space_and_falls_back_to_bytes(use_offsets):
    ids = BYTE_FALLBACK.encode("The movie 😀 was good!").ids
    spans = token_spans(ids, decode(BYTE_FALLBACK), encode(BYTE_FALLBACK) if use_offsets else None)
    assert pieces(spans) == ["The", " mo", "vie", " ", "", "", "", "😀", " was", " good", "!"]


@pytest.mark.parametrize("use_offsets", [False, True])
def test_a_decoder_that_puts_spaces_between_words(use_offsets):
    ids = WORD_PIECES.encode("the movie was unwatchable!").ids
    spans = token_spans(ids, decode(WORD_PIECES), encode(WORD_PIECES) if use_offsets else None)
    assert pieces(spans) == ["the", " movie", " was", " un", "watch", "able", " !"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=40))
def test_byte_level_ranges_are_those_of_the_bytes(text):
    ids = BYTE_LEVEL.encode(text, add_special_tokens=False).ids
    characters = {mark: byte for byte, mark in zip(range(256), byte_marks(), strict=True)}
    so_far, ends = b"", []
    for i in ids:
        so_far += bytes(characters[mark] for mark in BYTE_LEVEL.id_to_token(i))
        ends.append(len(so_far.decode("utf-8", errors="ignore")))
    decoded, spans = token_spans(ids, decode(BYTE_LEVEL))
    assert decoded == text
    assert [end for _, end in spans] == ends
    assert_cover(text, spans, len(ids))


def byte_marks() -> list[str]:
    """The characters that byte-level tokenizers write for the bytes 0..255."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK, WORD_PIECES], ids=["bytes", "spm", "bert"])
@given(data=st.data())
def test_any_sequence_of_tokens_is_covered_with_and_without_offsets(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=30))
    text, spans = token_spans(ids, decode(tokenizer))
    assert text == tokenizer.decode(ids, skip_special_tokens=True)
    assert_cover(text, spans, len(ids))
    assert_cover(*token_spans(ids, decode(tokenizer), encode(tokenizer)), len(ids))


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK], ids=["bytes", "spm"])
@given(text=st.text("Themoviwasntgd !é😀電\n", max_size=30))
def test_a_tokenizers_offsets_change_nothing(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert token_spans(ids, decode(tokenizer), encode(tokenizer)) == token_spans(ids, decode(tokenizer))


def test_a_thousand_tokens_of_any_kind_are_decoded_token_by_token():
    calls = []
    text = "The movie was not 😀 good. " * 60

    def counting(ids):
        calls.append(len(ids))
        return BYTE_LEVEL.decode(list(ids), skip_special_tokens=True)

    ids = BYTE_LEVEL.encode(text).ids[:1000]
    assert len(ids) > 500
    assert_cover(*token_spans(ids, counting), len(ids))
    assert sum(calls) < 10 * len(ids)
