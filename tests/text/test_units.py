"""Units of responses: tokens, phrases, sentences, and the hierarchy above them."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response, unit_texts, words

from scar_ray.games import Tree, n_players, owen_coalitions, paired_tree_coalitions
from scar_ray.records import Units
from scar_ray.text.parse import parse
from scar_ray.text.units import MAX_CHILDREN, merge, segment

UNITS = ["token", "word", "span", "sentence", "paragraph", "auto"]
REVIEW = "The movie was not very good, but I loved the acting. She is brilliant!"


def texts(tokens, unit, max_units=64):
    response = make_response(tokens)
    return unit_texts(response, segment(response, unit, max_units))


def test_tokens_below_their_words_phrases_and_sentences():
    response = make_response(["The", " mov", "ie", " was", " good", "!", " I", " left"])
    units = segment(response, "token", 64)
    assert units.ends == tuple(range(1, response.n_content + 1))
    assert units.tree == (((0, (1, 2)), (3, 4), 5), (6, 7))


def test_words_and_marks():
    response = make_response(["The", " mov", "ie", " was", " good", "!", " I", " left"])
    units = segment(response, "word", 64)
    assert unit_texts(response, units) == ["The", " movie", " was", " good", "!", " I", " left"]
    assert units.tree == (((0, 1), (2, 3), 4), (5, 6))


def test_phrases_below_their_clauses_and_sentences():
    response = make_response(words(REVIEW))
    units = segment(response, "span", 64)
    assert unit_texts(response, units) == [
        "The movie",
        " was not very good,",
        " but I loved the acting.",
        " She is brilliant!",
    ]
    assert units.tree == (((0, 1), 2), 3)


def test_sentences():
    response = make_response(words(REVIEW))
    units = segment(response, "sentence", 64)
    assert unit_texts(response, units) == [
        "The movie was not very good, but I loved the acting.",
        " She is brilliant!",
    ]
    assert (units.ends, units.tree) == ((13, 17), (0, 1))


def test_paragraphs_end_at_blank_lines():
    assert texts(["A", " title", "\n\n", "One", ".", " Two", ".", "\n", "Three", "\n\nEnd"], "paragraph") == [
        "A title",
        "\n\nOne. Two.\nThree",
        "\n\nEnd",
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_a_response_without_content_has_no_units(unit):
    assert segment(make_response([]), unit, 64) == Units((), ())


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [["Good"], [" \n"], [""], ["", ""]])
def test_one_unit_is_a_tree_of_one_player(unit, tokens):
    assert segment(make_response(tokens, finished=False), unit, 64) == Units((len(tokens),), 0)


def test_a_truncated_response_has_units_up_to_its_last_token():
    response = make_response(["Good", " film"], finished=False)
    assert segment(response, "token", 64).ends == (1, 2)


def test_tokens_without_characters_join_the_token_that_follows():
    # two special tokens, one in the middle and one at the end, and the first parts of a character of three
    assert texts(["Good", "", " film", " ", "", "", "😀", ""], "token") == ["Good", " film", " ", "😀"]
    assert segment(make_response(["Good", "", " film", ""]), "token", 64).ends == (1, 4)
    assert segment(make_response(["", "Good", "", " film."]), "sentence", 64).ends == (4,)


def test_white_space_goes_with_the_word_that_follows():
    tokens = ["I", " liked", " ", " the", " film", "\n", "a", " lot", " \n"]
    assert texts(tokens, "span") == ["I liked  the film", "\na lot \n"]
    assert texts(["Good", "\n\n", "Bad"], "sentence") == ["Good", "\n\nBad"]


def test_a_token_over_two_words_goes_to_the_larger_overlap():
    assert texts(["It was go", "od.I", "t dragged"], "sentence") == ["It was good.It dragged"]
    assert texts(["It was go", "od. I", "ndeed it was"], "sentence") == ["It was good. I", "ndeed it was"]
    assert texts(["It was good", ". Inde", "ed it was"], "sentence") == ["It was good", ". Indeed it was"]


def test_final_punctuation_with_line_breaks_in_one_token_stays_with_its_sentence():
    assert texts(["It was good", ".\n\n", "I left"], "sentence") == ["It was good.\n\n", "I left"]


def test_subwords_are_siblings():
    units = segment(make_response(["un", "watch", "able", " film"]), "token", 64)
    assert units.tree == ((0, 1, 2), 3)


def test_nodes_that_would_be_too_wide_become_balanced_binary_ones():
    sentences = segment(make_response([f" It is number {i}." for i in "abcdefgh"]), "sentence", 64)
    assert sentences.tree == (((0, 1), (2, 3)), ((4, 5), (6, 7)))


def test_merging_takes_the_node_with_the_fewest_tokens_first_and_the_earlier_of_equals():
    units = Units(ends=(1, 2, 3, 4, 8, 9), tree=(((0, 1), (2, 3)), (4, 5)))
    assert merge(units, 6) == units
    assert merge(units, 5) == Units((2, 3, 4, 8, 9), ((0, (1, 2)), (3, 4)))
    assert merge(units, 4) == Units((2, 4, 8, 9), ((0, 1), (2, 3)))
    assert merge(units, 3) == Units((4, 8, 9), (0, (1, 2)))
    assert merge(units, 2) == Units((4, 9), (0, 1))
    assert merge(units, 1) == Units((9,), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "這部電影非常好看，我很喜歡。但是結局太差了！",
            ["這部電影", "非常好看，", "我很喜歡。", "但是結", "局太差了！"],
        ),
        ("love it 😀👍🏽 so much!!!", ["love", " it 😀👍🏽 so much!!!"]),
        ("def f(x):\n    return x + 1\n", ["def f(x):", "\n    return x + 1\n"]),
        ("كان الفيلم رائعا جدا، وأحببت النهاية.", ["كان الفيلم رائعا جدا،", " وأحببت النهاية."]),
        ("## Title\n\n- **bold** item\n- `code`", ["## Title", "\n\n- **bold** item", "\n- `code`"]),
        ("(Really?) “Yes”, she said... OK", ["(Really?)", " “Yes”, she said...", " OK"]),
    ],
)
def test_phrases_of_other_scripts_emoji_code_and_markdown(text, expected):
    assert texts(list(text), "span") == expected


def test_marks_join_words_and_lone_function_words_what_follows():
    assert texts(words("? he said that it was an unusually long film !"), "span") == [
        "? he",
        " said",
        " that it",
        " was an unusually long film !",
    ]
    assert texts(words("?!"), "span") == ["?!"]


class RightChains:
    """A parser that brackets every sentence to the right."""

    def bracket(self, words):
        tree = len(words) - 1
        for number in reversed(range(len(words) - 1)):
            tree = (number, tree)
        return tree


def test_a_parser_decides_on_phrases_and_hierarchy():
    response = make_response(words("the cat sat on the mat."))
    chains = partial(parse, bracketer=RightChains())
    units = segment(response, "span", 64, parser=chains)
    assert unit_texts(response, units) == ["the cat", " sat on the mat."]
    assert segment(response, "word", 64, parser=chains).tree == (0, (1, (2, (3, (4, (5, 6))))))


def test_auto_takes_tokens_merged_until_the_budget_looks_at_each_alone_and_at_the_rest():
    tokens = ["The", " mov", "ie", " was", " not", " very", " good", "!", " I", " left", ".", "\n\n", "Bye"]
    response = make_response(tokens)
    taken = [segment(response, "auto", 64, budget=budget) for budget in (28, 26, 8, 3)]
    assert [len(units) for units in taken] == [13, 12, 3, 1]
    assert unit_texts(response, taken[1])[:2] == ["The", " movie"]
    assert segment(response, "auto", 12) == taken[1]
    assert {units.granularity for units in taken} == {"token"}


def test_units_say_what_they_were_cut_as_also_after_merging():
    response = make_response(words(REVIEW))
    assert segment(response, "word", 3).granularity == "word"
    assert segment(response, "sentence", 64).granularity == "sentence"


def check(response, units, max_units):
    assert 1 <= len(units) <= max_units
    assert list(units.ends) == sorted(set(units.ends))
    assert units.ends[-1] == response.n_content
    assert n_players(units.tree) == len(units)
    assert "".join(unit_texts(response, units)) == response.text
    assert widest(units.tree) <= MAX_CHILDREN


def widest(tree: Tree) -> int:
    return 0 if isinstance(tree, int) else max(len(tree), *(widest(child) for child in tree))


TEXTS = st.text(min_size=1, max_size=120) | st.text("the not good. ,\n()\"'-!?電<br />😀\u0301", min_size=1)


@st.composite
def responses(draw):
    """Any text cut into tokens anywhere, with tokens of no characters in between."""
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=40)))
    tokens = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return make_response(tokens, finished=draw(st.booleans()))


@pytest.mark.parametrize("unit", UNITS)
@given(response=responses(), max_units=st.integers(1, 40))
def test_units_partition_the_content_of_any_response(unit, response, max_units):
    units = segment(response, unit, max_units)
    check(response, units, max_units)
    assert units == segment(response, unit, max_units)


@given(response=responses(), max_units=st.integers(1, 40), budget=st.integers(2, 80))
def test_auto_never_exceeds_its_budget(response, max_units, budget):
    units = segment(response, "auto", max_units, budget=budget)
    check(response, units, max_units)
    assert 2 * len(units) <= budget


@given(response=responses(), more=st.integers(1, 20), fewer=st.integers(1, 20))
def test_merging_in_two_steps_is_merging_in_one(response, more, fewer):
    units = segment(response, "token", 64)
    fewer = min(more, fewer)
    assert merge(merge(units, more), fewer) == merge(units, fewer)


@given(response=responses(), max_units=st.integers(2, 40))
def test_merging_lowers_the_cost_of_both_estimators(response, max_units):
    units = segment(response, "token", max_units)
    if len(units) > 1:
        fewer = merge(units, len(units) - 1)
        assert paired_tree_coalitions(fewer.tree) < paired_tree_coalitions(units.tree)
        assert owen_coalitions(fewer.tree) < owen_coalitions(units.tree)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", ["the plot was thin. ", "word ", "電", "x+=1;\n", "😀", "?!", "("])
def test_four_thousand_tokens(unit, text):
    tokens = (words(text * 4000) if text.isascii() else list(text * 4000))[:4000]
    response = make_response(tokens)
    for max_units in (64, 4000):
        check(response, segment(response, unit, max_units), max_units)
