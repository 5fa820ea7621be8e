"""What counts as a candidate in a response, and what is said about the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.text.candidates import find_candidates

NUMBERED = {
    "1. red shoes\n2. boots\n3. sandals": (["red shoes", "boots", "sandals"], ()),
    "Try: 1) red shoes 2) boots 3) sandals": (["red shoes", "boots", "sandals"], ()),
    "(1) a\n(2) b\n(3) c\n\nHope this helps!": (["a", "b", "c"], ("16 characters after the list",)),
    "Top 3: 1. a 2. costs 3.5 euros 3. c": (["a", "costs 3.5 euros", "c"], ()),
    "1. a\n3. b\n2. c": (["a\n3. b", "c"], ("1 of 3 missing",)),
    "1. a\n2.\n3. c": (["a", "c"], ("1 empty", "1 of 3 missing")),
    "1. a\n2. b\n3. c\n4. d": (["a", "b", "c"], ("1 more than the 3 asked for",)),
    "no list at all": ([], ("3 of 3 missing",)),
    "": ([], ("3 of 3 missing",)),
    "1. ": ([], ("1 empty", "3 of 3 missing")),
}
JSON = {
    '["red shoes", "boots", "sandals"]': (["red shoes", "boots", "sandals"], ()),
    'Here: ["a", "b\\"c", "d"] done': (["a", 'b\\"c', "d"], ("4 characters after the list",)),
    '["a", 7, {"b": [1]}, "c"': (["a", "c"], ("1 that is no text", "1 that is no text", "1 of 3 missing")),
    '["a", "b", "c and more': (["a", "b"], ("1 not finished", "1 of 3 missing")),
    '["a", b, "c"]': (["a"], ("7 characters that are no JSON", "2 of 3 missing")),
    "[]": ([], ("3 of 3 missing",)),
    "a, b": ([], ("3 of 3 missing",)),
}


@pytest.mark.parametrize(("text", "expected"), NUMBERED.items(), ids=NUMBERED)
def test_numbered_lists(text, expected):
    found = find_candidates(text, "numbered", 3)
    assert ([text[a:b] for a, b in found.spans], found.dropped) == expected


@pytest.mark.parametrize(("text", "expected"), JSON.items(), ids=JSON)
def test_json_lists(text, expected):
    found = find_candidates(text, "json", 3)
    assert ([text[a:b] for a, b in found.spans], found.dropped) == expected


def test_separators():
    text = "red shoes ||| boots||||||  sandals |||"
    found = find_candidates(text, "separator", 3, "|||")
    assert [text[a:b] for a, b in found.spans] == ["red shoes", "boots", "sandals"]
    assert found.dropped == ()
    lines = find_candidates("a\nb\n\n", "separator", 1)
    assert (lines.spans, lines.dropped) == (((0, 1),), ("1 more than the 1 asked for",))


@given(
    text=st.text(alphabet='ab1234.)[],"\\ \n', max_size=40),
    form=st.sampled_from(["numbered", "json", "separator"]),
    count=st.integers(1, 4),
)
def test_whatever_a_model_writes_candidates_are_apart_in_order_and_not_empty(text, form, count):
    found = find_candidates(text, form, count)
    assert len(found.spans) <= count
    bounds = [place for span in found.spans for place in span]
    assert bounds == sorted(bounds)
    assert all(text[a:b].strip() == text[a:b] != "" for a, b in found.spans)
    assert (len(found.spans) == count) == (f"of {count} missing" not in " ".join(found.dropped))
