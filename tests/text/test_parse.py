"""Parses of texts: words, sentences, paragraphs, and trees from parsers that may fail."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.games.tree import leaves, nodes
from scar_ray.text.parse import MAX_DEPTH, Parse, parse


class Flat:
    """A parser that puts all words side by side, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def bracket(self, words):
        self.asked.append(list(words))
        return tuple(range(len(words)))


class Gives:
    def __init__(self, tree):
        self.tree = tree

    def bracket(self, words):
        return self.tree


class Refuses:
    """A parser for sentences of up to two words."""

    def bracket(self, words):
        if len(words) > 2:
            raise ValueError(f"{len(words)} words")
        return tuple(range(len(words)))


def test_words_sentences_and_paragraphs_of_a_text():
    assert parse("It was great. I left\n\nBye") == Parse(
        word_ends=(2, 6, 12, 13, 15, 20, 25),
        tree=(((0, (1, 2), 3), (4, 5)), 6),
        sentences=(4, 6, 7),
        paragraphs=(6, 7),
        kinds=("function", "function", "word", "closes", "function", "word", "word"),
    )


def test_white_space_is_one_word_and_nothing_is_none():
    assert parse(" \n ") == Parse((3,), 0, (1,), (1,), ("word",))
    assert parse("") == Parse((), (), (), (), ())


def test_a_parser_gets_every_sentence_as_words_and_its_trees_are_taken():
    parser = Flat()
    got = parse("It was great. I left", parser)
    assert parser.asked == [["It", "was", "great", "."], ["I", "left"]]
    assert (got.tree, got.fallbacks) == (((0, 1, 2, 3), (4, 5)), 0)


def test_a_parser_is_not_asked_about_white_space():
    parser = Flat()
    parse(" ", parser)
    assert parser.asked == []


def test_the_heuristic_stands_in_where_the_parser_refuses_and_is_counted():
    text = "It was great. I left. Really! OK"
    got = parse(text, Refuses())
    assert got.fallbacks == 2
    assert got.tree == parse(text).tree


def chain(depth):
    tree = 2
    for _ in range(depth):
        tree = (tree,)
    return (0, 1, tree)


@pytest.mark.parametrize(
    "tree", [(0, 1), (0, 1, 2, 3), (1, 0, 2), (0, (), 1, 2), ((0, 1), 1, 2), [0, 1, 2], None, chain(MAX_DEPTH), 0]
)
def test_a_tree_that_is_none_of_the_words_is_a_failure(tree):
    got = parse("It was great", Gives(tree))
    assert (got.tree, got.fallbacks) == (parse("It was great").tree, 1)


def test_unary_nodes_of_a_parser_are_left_out():
    assert parse("It was great", Gives((((0,), 1), ((2,),)))).tree == ((0, 1), 2)


TEXTS = st.text(max_size=200) | st.text("the not good. ,\n()\"'-!?電<br />😀\u0301", max_size=200)


@given(TEXTS, st.sampled_from([None, Flat(), Refuses()]))
def test_words_cover_any_text_and_sentences_and_paragraphs_are_nodes(text, bracketer):
    got = parse(text, bracketer)
    n = len(got.word_ends)
    assert list(got.word_ends) == sorted(set(got.word_ends))
    assert got.word_ends[-1:] == ((len(text),) if text else ())
    assert len(got.kinds) == n
    assert leaves(got.tree) == tuple(range(n))
    assert set(got.paragraphs) <= set(got.sentences)
    ranges = {(leaves(node)[0], leaves(node)[-1] + 1) for node in nodes(got.tree) if node != ()}
    for ends in (got.sentences, got.paragraphs):
        assert ends[-1:] == ((n,) if n else ())
        assert set(pairwise([0, *ends])) <= ranges
