"""The heuristic constituency: sentences, clauses, phrases and words of any text."""

from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.text.constituents import MAX_PHRASE_WORDS, constituents


def parts(text, level):
    """The constituents of one level, as stripped texts."""
    start, found = 0, []
    words = constituents(text)
    for _, group in groupby(words, key=lambda word: (getattr(word, level), level == "word" and word.end)):
        end = list(group)[-1].end
        found.append(" ".join(text[start:end].split()))
        start = end
    return found


def phrases(text):
    return parts(text, "phrase")


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
        ("Loved it.<br /><br />Would see again", ["Loved it.", "<br /><br />Would see again"]),
        ("這部電影很好看。但是結局太差了！", ["這部電影很好看。", "但是結局太差了！"]),
        ("यह अच्छी है। ठीक", ["यह अच्छी है।", "ठीक"]),
        ("So did I. He left", ["So did I.", "He left"]),
    ],
)
def test_sentences(text, expected):
    assert parts(text, "sentence") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The movie was bad, but I loved it", ["The movie was bad,", "but I loved it"]),
        ("I left because the plot was thin", ["I left", "because the plot was thin"]),
        ("it drags; nothing happens", ["it drags;", "nothing happens"]),
        ("the cast is good and the score is great", ["the cast is good", "and the score is great"]),
        ("the cast is good and funny", ["the cast is good and funny"]),
        ("the film (shot in Rome) works", ["the film", "(shot in Rome)", "works"]),
    ],
)
def test_clauses(text, expected):
    assert parts(text, "clause") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The movie was not very good at all", ["The movie", "was not very good", "at all"]),
        ("I really loved the acting of the lead", ["I really loved", "the acting", "of the lead"]),
        ("it was a terrible film", ["it was", "a terrible film"]),
        ("good, bad, and ugly", ["good,", "bad,", "and ugly"]),
        ("it was n't funny", ["it was n't funny"]),
        ("I loved it so much", ["I loved it", "so much"]),
        ("I think it works", ["I think", "it works"]),
        ("the plot wasn't bad", ["the plot", "wasn't bad"]),
        ('he said "not again" twice', ["he said", '"not again"', "twice"]),
        ("Dr. Smith agreed", ["Dr. Smith agreed"]),
        ("well-made, 10/10 and 3.5 stars", ["well-made,", "10/10", "and 3.5 stars"]),
    ],
)
def test_phrases(text, expected):
    assert phrases(text) == expected


def test_words_take_the_white_space_before_them():
    text = "It's  so\n\ngood, 電影 😀! "
    ends = [word.end for word in constituents(text)]
    assert [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)] == [
        "It's",
        "  so",
        "\n\ngood",
        ",",
        " 電",
        "影",
        " 😀",
        "! ",
    ]


def test_long_runs_of_content_words_are_cut_evenly():
    assert phrases("one two three four five six seven eight") == [
        "one two three four",
        "five six seven eight",
    ]
    assert phrases("電影很好看我喜歡這") == ["電影很好看", "我喜歡這"]


def test_code_is_cut_by_lines_and_brackets():
    code = "def f(x):\n    return g(x) + 1\n"
    assert parts(code, "sentence") == ["def f(x):", "return g(x) + 1"]


def test_white_space_is_one_word_and_nothing_is_none():
    assert [word.end for word in constituents(" \n ")] == [3]
    assert constituents("") == ()


TEXTS = st.text(max_size=200) | st.text("the not good. ,\n()\"'-!?電<br />😀\u0301", max_size=200)


@given(TEXTS)
def test_words_cover_any_text_and_constituents_are_nested(text):
    words = constituents(text)
    ends = [word.end for word in words]
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(text)] if text else [])
    for before, word in pairwise(words):
        steps = [
            word.sentence - before.sentence,
            word.clause - before.clause,
            word.phrase - before.phrase,
        ]
        assert set(steps) <= {0, 1}
        assert steps == sorted(steps), "a new sentence starts a clause, a new clause a phrase"
    for _, phrase in groupby(words, key=lambda word: word.phrase):
        assert len(list(phrase)) <= MAX_PHRASE_WORDS
