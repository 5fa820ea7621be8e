"""What a policy reads for a request, and how much it may write."""

from __future__ import annotations

import pytest

from scar_ray.records import Prompt, Request
from scar_ray.text.writing import Writing

BEGINNING = Request(0, Prompt(0, (1, 2), ""), 0, 0, kept=(3, 4))
GAP = Request(0, Prompt(0, (1, 2), ""), 0, 0, kept=(3, 4), after=(5,))


def test_a_beginning_is_gone_on_from_and_a_gap_needs_the_text_that_asks_for_it() -> None:
    assert Writing(None).read(BEGINNING) == [1, 2, 3, 4]
    with pytest.raises(AssertionError, match=r"^only beginnings can be completed without model\.policy\.infill$"):
        Writing(None).read(GAP)


def test_given_tokens_count_as_the_responses_and_a_gap_may_stay_empty() -> None:
    assert (BEGINNING.most(10), GAP.most(10), GAP.most(3)) == (8, 7, 0)
    assert (BEGINNING.least(5), BEGINNING.least(1), GAP.least(5)) == (3, 0, 0)
