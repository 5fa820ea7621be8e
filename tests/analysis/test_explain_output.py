"""Explanations on the screen and on the page."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from scar_ray.analysis.explain_page import render, write_page
from scar_ray.analysis.explanation import (
    ExplainedToken,
    ExplainedUnit,
    Explanation,
    decimals,
    full_strength,
    one_line,
    signed,
)
from scar_ray.analysis.terminal import print_explanations


def explanation(
    units: list[tuple[str, float, int]], credit: str = "scar_span", score: float = 1.0, **fields: object
) -> Explanation:
    """Units of (text, credit, tokens), each token as long as the others of its unit; then the EOS.

    Token-wise methods (sparse, abc) give the EOS a unit of its own, the last one, which has no text.
    """
    made, tokens, end = [], [], 0
    for text, share, n in units:
        made.append(ExplainedUnit(text, end, end + len(text), n, share))
        step = len(text) // n
        cuts = [*range(0, step * n, step or 1)][:n] or [0]
        tokens += [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
        end += len(text)
    if units[-1][0]:
        tokens.append("")
    tokens[-1] = "<eos>"
    game = credit.startswith("scar")
    known = {
        "credit": credit,
        "prompt": "The film is",
        "response": "".join(text for text, _, _ in units),
        "score": score,
        "base": 0.25 if game else None,
        "residual": 0.0 if game else None,
        "estimator": "owen" if game else None,
        "units": tuple(made),
        "tree": tuple(range(len(made))),
        "tokens": tuple(ExplainedToken(text, 0.1) for text in tokens),
        "finished": True,
        "asked": 9 if game else 1,
        "evaluated": 8 if game else 1,
        "reward_tokens": 70,
        "seconds": 0.5,
    }
    return Explanation(**{**known, **fields})  # type: ignore[arg-type]


SCAR = explanation([(" not a", -0.5, 2), (" good film", 1.25, 2)])
SPARSE = explanation([(" not", 0.0, 1), (" a ", 0.0, 1), ("good ", 0.0, 1), ("film", 0.0, 1), ("", 1.0, 1)], "sparse")


def printed(*explanations: Explanation, width: int = 80, **options: object) -> str:
    file = io.StringIO()
    print_explanations(explanations, Console(file=file, width=width, **options))  # type: ignore[arg-type]
    return file.getvalue()


def test_what_was_left_out_is_told() -> None:
    found = explanation([(" a", 1.0, 1)], "shape_grpo", dropped=("1 empty", "2 of 3 missing"))
    assert printed(found).splitlines()[-1] == "shape_grpo: 1 empty, 2 of 3 missing"
    assert "1 empty, 2 of 3 missing" in render([[found]], "a model")
    assert "missing" not in printed(SCAR)


def test_one_method_is_the_text_with_its_numbers_below() -> None:
    assert printed(SCAR).splitlines() == [
        "prompt  The film is",
        "",
        "not a good film <eos>",
        "−0.50 ────+1.25 +0.25",
        "",
        "credit     estimator  score   base  residual  evaluations  tokens     time",
        "scar_span  owen        1.00  0.250         0       8 of 9      70  0.500 s",
    ]


def test_several_methods_have_a_row_each_on_the_same_columns() -> None:
    assert printed(SPARSE, SCAR).splitlines()[2:5] == [
        "           not a good film <eos>",
        "sparse     ──────────────0 +1.00",
        "scar_span  −0.50 ────+1.25 +0.25",
    ]


def test_no_line_is_wider_than_the_screen_and_units_go_on_in_the_next_line() -> None:
    long = explanation([(" a word and another one" * 3, 1.0, 1), (" short", -0.25, 1), (" 漢字" * 20, 0.5, 1)])
    lines = printed(long, width=40).splitlines()[2:-3]
    console = Console(width=40, file=io.StringIO())
    assert max(console.measure(line).maximum for line in lines) <= 40
    assert [line for line in lines if "+1.00" in line or "−0.25" in line or "+0.50" in line] == [
        "─────────────────────────────+1.00 −0.25",
        "──────────────+0.50 −0.25",
    ]


def test_a_screen_gets_colours_by_sign_and_size_and_a_pipe_gets_none() -> None:
    assert "\x1b" not in printed(SCAR)
    drawn = printed(SCAR, force_terminal=True, color_system="truecolor")
    assert "48;2;74;144;217m────+1.25" in drawn  # blue in full strength
    assert "48;2;244;196;158m−0.50" in drawn  # a tint of orange
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", drawn)


def test_the_scale_is_that_of_the_dense_methods_as_long_as_there_is_one() -> None:
    assert full_strength([SPARSE]) == 1.0
    big = explanation([("x", 0.0, 1), ("", -30.0, 1)], "sparse")
    assert full_strength([big, SCAR]) == 1.25
    assert full_strength([explanation([("x", 0.0, 1)])]) == 1.0


@pytest.mark.parametrize(("scale", "places"), [(1.25, 2), (9.4, 2), (9.6, 1), (0.96, 2), (0.02, 4), (123.0, 0)])
def test_numbers_have_the_decimals_that_the_scale_calls_for(scale: float, places: int) -> None:
    assert decimals(scale) == places


def test_credits_have_a_sign_unless_they_round_to_zero() -> None:
    assert [signed(value, 2) for value in (1.234, -0.4, 0.001, -0.001)] == ["+1.23", "−0.40", "0", "0"]


def test_what_could_act_on_a_terminal_is_replaced() -> None:
    assert one_line("a\nb\tc\x1b[31m\x07\x9b\ud800\u202e漢👍🏽é") == "a⏎b→c\ufffd[31m\ufffd\ufffd\ufffd\ufffd漢👍🏽é"
    hostile = explanation([(" \x1b]0;title\x07", 1.0, 1)], prompt="\x1b[2J\r\n")
    shown = printed(hostile)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.splitlines()[0] == "prompt  \ufffd[2J␍⏎"


class _Tags(HTMLParser):
    """Collects tags and checks that they are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.seen


def test_the_page_holds_text_numbers_tree_and_table() -> None:
    page = render([[SPARSE, SCAR]], "reward")
    tags(page)
    for text in ("The film is", "scored by reward, shared out by sparse, scar_span", "Tree of scar_span", "not a"):
        assert text in page
    assert page.count('<article class="card">') == 2
    assert page.count("<circle") == 1
    assert "<title>+0.75: not a good film</title>" in page
    assert '<td class="share pos" rowspan="2" style="--s:1.000">+1.25</td>' in page
    assert '<td class="share neg" rowspan="2" style="--s:0.400">−0.50</td>' in page
    for fact in ("<dd>0.250</dd>", "<dd>8 of 9</dd>", "<dd>70</dd>", "<dd>0.500 s</dd>"):
        assert fact in page


def test_hostile_text_stays_text_and_nothing_is_loaded_or_run() -> None:
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\ud800\x00"
    bad = explanation([(attack, 1.0, 1), (attack, -1.0, 2)], prompt=attack, response=attack * 2)
    page = render([[bad], [bad]], attack)
    page.encode()  # no half of a surrogate pair
    names = {tag for tag, _ in tags(page)}
    assert not names & {"script", "img", "iframe", "object"}
    for tag, attributes in tags(page):
        assert not [name for name in attributes if name.startswith("on") or name == "src"], (tag, attributes)
        assert attributes.get("href") in (None, "data:,")
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "script-src" not in page


def test_many_responses_fold_and_the_first_one_is_open(tmp_path: Path) -> None:
    file = write_page([[SCAR], [SCAR], [SCAR]], tmp_path / "new" / "page.html", "reward")
    page = file.read_text(encoding="utf-8")
    assert page.count('<details class="one"') == 3
    assert page.count('<details class="one" open>') == 1
    assert "3 responses, scored by reward" in page
    assert "2. not a good film" in page
    assert sorted(path.name for path in file.parent.iterdir()) == ["page.html"]
