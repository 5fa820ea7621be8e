"""Explanations as one HTML page that needs nothing but itself: methods side by side, trees, tables of the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import scar_ray.report
from scar_ray.analysis.explain_tree import draw_tree
from scar_ray.analysis.explanation import ExplainedUnit, Explanation, decimals, full_strength, one_line, signed
from scar_ray.report.frame import document, write_whole
from scar_ray.report.responses import clean
from scar_ray.report.scale import duration, number

_STYLES = (Path(scar_ray.report.__file__).with_name("report.css"), Path(__file__).with_name("explain.css"))

_NOTE = (
    "Blue with a solid line: the unit earned reward. Orange with a dotted line: it cost reward. The stronger, the "
    "more; all methods of a response share one scale. Credits are what a method gives each unit, before any mixing "
    "with the sparse reward; with what is left for the end (mostly v(∅), the score of the empty response) they add up "
    "to the score. Token rewards are what PPO would be paid."
)


def write_page(responses: Sequence[Sequence[Explanation]], file: Path, model: str) -> Path:
    """Writes the page on responses, each with its explanations by one or more methods; returns its path."""
    return write_whole(file, render(responses, model))


def render(responses: Sequence[Sequence[Explanation]], model: str) -> str:
    """The page as HTML. It loads nothing and runs nothing, and its policy forbids that it does."""
    style = "".join(file.read_text(encoding="utf-8") for file in _STYLES)
    if len(responses) == 1:
        body = f'<section class="one">{_response(responses[0])}</section>'
    else:
        body = "".join(
            f'<details class="one"{" open" if index == 1 else ""}><summary>{_title(index, found)}</summary>'
            f"{_response(found)}</details>"
            for index, found in enumerate(responses, start=1)
        )
    methods = ", ".join(found.credit for found in responses[0])
    count = "One response" if len(responses) == 1 else f"{len(responses)} responses"
    page = (
        '<header><p class="brand">scar_ray</p><h1>What earned the score</h1>'
        f'<p class="sub">{count}, scored by {clean(model)}, shared out by {clean(methods)}.</p></header>'
        f'<main>{body}<p class="note meaning">{_NOTE}</p></main>'
    )
    return document("What earned the score", style, page, kind="numbers")


def _title(index: int, explanations: Sequence[Explanation]) -> str:
    first = explanations[0]
    text = one_line(first.response.strip())
    return f"{index}. {clean(text if len(text) <= 90 else text[:89] + '…')} <small>score {number(first.score)}</small>"


def _response(explanations: Sequence[Explanation]) -> str:
    first, scale = explanations[0], full_strength(explanations)
    cards = "".join(_card(found, scale) for found in explanations)
    trees = "".join(draw_tree(found, scale) for found in explanations if found.estimator and len(found.units) > 1)
    prompt = f'<p class="asked" dir="auto"><b>Prompt</b>{clean(first.prompt)}</p>' if first.prompt else ""
    return f'{prompt}{_legend(scale)}<div class="methods">{cards}</div>{trees}{_table(explanations, scale)}'


def _legend(scale: float) -> str:
    text = number(scale)
    return (
        f'<div class="scale" role="img" aria-label="Colour scale of the credits, from minus {text} to plus {text}">'
        f'<span>−{text}</span><i class="ramp"></i><span>+{text}</span></div>'
    )


def _card(found: Explanation, scale: float) -> str:
    """The response with its units coloured, and the facts."""
    units = "".join(_unit(unit, scale) for unit in found.units)
    rest = "" if found.covers_all else f' <span class="end" title="no unit\'s">end {_short(found.rest, scale)}</span>'
    facts = "".join(
        f'<div><dt title="{meaning}">{name}</dt><dd>{value}</dd></div>' for name, value, meaning in _facts(found)
    )
    estimator = f"<small>{clean(found.estimator)}</small>" if found.estimator else ""
    return (
        f'<article class="card"><h3>{clean(found.credit)}{estimator}</h3>'
        f'<p class="text" dir="auto">{units}{rest}</p><dl>{facts}</dl></article>'
    )


def _facts(found: Explanation) -> list[tuple[str, str, str]]:
    """Name, value and meaning."""
    sequences = f"{found.evaluated:,}" + (f" of {found.asked:,}" if found.asked > found.evaluated else "")
    facts = [("score", number(found.score), "what the reward model gives the response")]
    if found.base is not None and found.residual is not None:
        facts += [
            ("base", number(found.base), "v(∅), the score of the empty response"),
            ("residual", number(found.residual), "sum of the credits minus (score − base)"),
        ]
    if found.dropped:
        facts.append(("left out", clean(", ".join(found.dropped)), "what of the response has no credit, and why"))
    return [
        *facts,
        ("evaluations", sequences, "distinct sequences that the reward model scored"),
        ("tokens", f"{found.reward_tokens:,}", "reward-model tokens of these sequences"),
        ("time", duration(found.seconds), "planning, scoring and sharing out"),
    ]


def _unit(unit: ExplainedUnit, scale: float) -> str:
    """One unit, its credit beside it; a number that rounds to zero is left out."""
    word = unit.text.lstrip() or unit.text
    space = unit.text[: len(unit.text) - len(word)]
    short = _short(unit.credit, scale)
    beside = f'<span class="num"> {short}</span>' if short != "0" else ""
    return (
        f'{clean(space)}<span class="unit {sign(unit.credit)}" style="{strength(unit.credit, scale)}" '
        f'title="{number(unit.credit, sign=True)}">{clean(word) or "EOS"}{beside}</span>'
    )


def _table(explanations: Sequence[Explanation], scale: float) -> str:
    """One row a token; for each method the credit of its units and the rewards of the tokens."""
    first = explanations[0]
    over = "".join(f'<th scope="colgroup" colspan="2">{clean(found.credit)}</th>' for found in explanations)
    head = '<th scope="col">Token</th>' + '<th scope="col">credit</th><th scope="col">reward</th>' * len(explanations)
    shares = [_shares(found, scale) for found in explanations]
    rows = []
    for index, token in enumerate(first.tokens):
        cells = "".join(
            share.get(index, "") + _paid(found.tokens[index].reward, scale)
            for found, share in zip(explanations, shares, strict=True)
        )
        rows.append(f'<tr><th scope="row">{clean(one_line(token.text)) or "·"}</th>{cells}</tr>')
    sums = "".join(
        f"<td>{number(sum(unit.credit for unit in found.units))}</td><td>{number(found.score)}</td>"
        for found in explanations
    )
    return (
        '<details class="table"><summary>All tokens and their rewards</summary>'
        '<div class="scroll" role="region" aria-label="Table of the tokens" tabindex="0"><table>'
        f"<thead><tr><th></th>{over}</tr><tr>{head}</tr></thead><tbody>{''.join(rows)}"
        f'<tr><th scope="row">sum</th>{sums}</tr></tbody></table></div></details>'
    )


def _shares(found: Explanation, scale: float) -> dict[int, str]:
    """The cell of each unit, by its first token; it spans the rows of its tokens."""
    cells, start = {}, 0
    for unit in found.units:
        cells[start] = (
            f'<td class="share {sign(unit.credit)}" rowspan="{unit.n_tokens}" '
            f'style="{strength(unit.credit, scale)}">{_short(unit.credit, scale)}</td>'
        )
        start += unit.n_tokens
    if not found.covers_all:
        cells[start] = f'<td class="share nil" rowspan="{len(found.tokens) - start}"></td>'
    return cells


def _paid(reward: float, scale: float) -> str:
    short = _short(reward, scale)
    return '<td class="zero">0</td>' if short == "0" else f"<td>{short}</td>"


def sign(credit: float) -> str:
    """The class of a unit with this credit in the page's styles."""
    return "pos" if credit > 0 else "neg" if credit < 0 else "nil"


def strength(credit: float, scale: float) -> str:
    """The style that says how strong a unit's colour is."""
    return f"--s:{min(1.0, abs(credit) / scale):.3f}"


def _short(credit: float, scale: float) -> str:
    return signed(credit, decimals(scale))
