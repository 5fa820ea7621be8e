"""Words, sentences and paragraphs of any text."""

from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.text.splitter import split


def parts(text, level):
    """The sentences or paragraphs, with single spaces."""
    found = []
    for _, group in groupby(split(text), key=lambda word: getattr(word, level)):
        words = list(group)
        found.append(" ".join(text[words[0].start : words[-1].end].split()))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was great. I left!", ["It was great.", "I left!"]),
        ("it was fun. it was short", ["it was fun.", "it was short"]),
        ("Really?! Yes... no, really… fine", ["Really?!", "Yes... no, really… fine"]),
        ("He said Dr. Smith left. She stayed", ["He said Dr. Smith left.", "She stayed"]),
        ("It opens at 9 a.m. today. The U.S. Army paid", ["It opens at 9 a.m. today.", "The U.S. Army paid"]),
        ("It opens at 9 a.m. The rest waits", ["It opens at 9 a.m.", "The rest waits"]),
        ("J. K. Rowling wrote 3.5 books. Good", ["J. K. Rowling wrote 3.5 books.", "Good"]),
        ('"I hated it." He left. (Really.) Fine', ['"I hated it."', "He left.", "(Really.)", "Fine"]),
        ("a title\nfirst line\n\n- an item\n- another", ["a title", "first line", "- an item", "- another"]),
        ("Loved it.<br /><br />Would see again", ["Loved it.", "Would see again"]),
        ("這部電影很好看。但是結局太差了！", ["這部電影很好看。", "但是結局太差了！"]),
        ("यह अच्छी है। ठीक", ["यह अच्छी है।", "ठीक"]),
        ("So did I. He left", ["So did I.", "He left"]),
    ],
)
def test_sentences(text, expected):
    assert parts(text, "sentence") == expected


def test_paragraphs_end_at_blank_lines():
    text = "A title\n\nOne line.\nAnother line\n \nThe end.<br /><br />Really"
    assert parts(text, "paragraph") == ["A title", "One line. Another line", "The end.", "Really"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's  so\n\ngood!", ["It's", "so", "good", "!"]),
        ("3.14 of U.S. pay, no?!", ["3.14", "of", "U.S", ".", "pay", ",", "no", "?!"]),
        ("電影 😀👍🏽", ["電", "影", "😀👍🏽"]),
        ("مرحبا بالعالم، שלום!", ["مرحبا", "بالعالم", "،", "שלום", "!"]),
        ("- **bold** `f(x)`", ["-", "**bold**", "`f", "(", "x", ")", "`"]),
        ("one—two <br /> three", ["one", "—", "two", "three"]),
        ("def f(x):\n    return x+1", ["def", "f", "(", "x", "):", "return", "x+1"]),
    ],
)
def test_words(text, words):
    assert [text[word.start : word.end] for word in split(text)] == words


def test_kinds_of_words():
    words = split('The film ("Heat") is good.')
    assert [word.kind for word in words] == [
        "function",
        "word",
        "opens",
        "opens",
        "word",
        "closes",
        "closes",
        "function",
        "word",
        "closes",
    ]


def test_white_space_has_no_words():
    assert split(" \n ") == split("") == ()


TEXTS = st.text(max_size=200) | st.text("the not good. ,\n()\"'-!?電<br />😀\u0301", max_size=200)


@given(TEXTS)
def test_words_are_in_order_and_leave_out_white_space_only(text):
    words = split(text)
    bounds = [0, *(bound for word in words for bound in (word.start, word.end)), len(text)]
    assert bounds == sorted(bounds)
    gaps = "".join(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))
    assert not gaps.replace("<br />", "").replace("<br>", "").strip() or "<br" in gaps.lower()
    for before, word in pairwise(words):
        steps = [word.paragraph - before.paragraph, word.sentence - before.sentence]
        assert steps in ([0, 0], [0, 1], [1, 1])
