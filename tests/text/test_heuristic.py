"""The heuristic constituency tree, and the classes of words behind it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.games.tree import leaves, nodes
from scar_ray.text.heuristic import MAX_WORDS, heuristic_tree
from scar_ray.text.word_classes import word_classes


def brackets(tree, words):
    """The tree written with brackets."""
    if isinstance(tree, int):
        return words[tree]
    return "[" + " ".join(brackets(child, words) for child in tree) + "]"


@pytest.mark.parametrize(
    "expected",
    [
        "[[The film] [is [very good]] .]",
        "[[The cast] [of [the film]]]",
        "[She [loved [the acting] [in [the film]]] .]",
        "[He [did not [want [to [see it]]]] .]",
        "[[[the union 's] lawyers] [are [reviewing [the suit]]] .]",
        "[[In [the end]] , he left .]",
        "[[It [was good]] , but [I [hated [the end]]] .]",
        "[[A spokesman] [said [that [[the plot] [was thin]]]] .]",
        "[[[The film] , [shot [in Rome]] ,] [was fun] .]",
        "[cats and dogs]",
        "[[good film] -- bad]",
        "[[a b c] [d e f]]",
        "!",
    ],
)
def test_trees_of_sentences(expected):
    words = expected.replace("[", "").replace("]", "").split()
    assert brackets(heuristic_tree(words), words) == expected


@pytest.mark.parametrize(
    ("sentence", "classes"),
    [
        ("The film is very good .", "DXARX,"),
        ("He did n't want to see Rome", "OARVTVX"),
        ('It\'s great -- " really " !', "AX:(R,,"),
        ("Smith said the plot worked", "XVDXV"),
        ("-LRB- of films that bore us -RRB-", "(PXSXO,"),
    ],
)
def test_classes_of_words(sentence, classes):
    assert word_classes(sentence.split()) == classes


def depth(tree):
    return 0 if isinstance(tree, int) else 1 + max(map(depth, tree))


WORDS = st.sampled_from(["the", "of", "and", "to", "that", "is", "said", "who", "n't", "'s", "film", "going"]) | (
    st.sampled_from([",", ".", ":", "(", ")", '"', "--", "in", "if", "very", "it", "loved", "電", "😀", "x+1"])
)


@given(st.lists(WORDS | st.text(min_size=1, max_size=4), min_size=1, max_size=200))
def test_any_words_have_a_tree_in_order_without_empty_or_unary_nodes(words):
    tree = heuristic_tree(words)
    assert leaves(tree) == tuple(range(len(words)))
    assert all(isinstance(node, int) or len(node) > 1 for node in nodes(tree))
    assert depth(tree) < 2 * MAX_WORDS


@pytest.mark.parametrize("word", ["the", "of", "to", "is", "that", "who", "said", ",", "and", "(", "film", "'s", "--"])
def test_depth_is_bounded_for_long_sentences(word):
    for pattern in ([word], [word, "it"], ["it", "was", word]):
        tree = heuristic_tree((pattern * 400)[:400])
        assert leaves(tree) == tuple(range(400))
        assert depth(tree) < 2 * MAX_WORDS
