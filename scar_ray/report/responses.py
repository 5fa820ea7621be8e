"""Sample responses with the credit of each unit as a heat map: hue for the sign, strength for the size."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from scar_ray.report.groups import Group
from scar_ray.report.runs import Sample
from scar_ray.report.scale import number

Pair = tuple[Sample | None, Sample | None]


def clean(text: str) -> str:
    """Text for HTML: escaped; halves of surrogate pairs and control characters replaced."""
    text = text.encode("utf-8", "replace").decode()
    return html.escape("".join("\ufffd" if ord(c) < 32 and c not in "\t\n\r" else c for c in text))


def pairs(samples: Sequence[Sample]) -> list[Pair]:
    """Samples of the first and of the last sampled step, side by side; the same prompt where there is one."""
    if not samples:
        return []
    steps = [sample.step for sample in samples]
    before = [sample for sample in samples if sample.step == min(steps)]
    after = [sample for sample in samples if sample.step == max(steps)] if max(steps) > min(steps) else []
    rest = list(after)
    partners: list[Sample | None] = []
    for sample in before:
        partner = next((other for other in rest if other.prompt == sample.prompt), None)
        partners.append(partner)
        if partner is not None:
            rest.remove(partner)
    for index, partner in enumerate(partners):
        if partner is None and rest:
            partners[index] = rest.pop(0)
    return [*zip(before, partners, strict=True), *((None, sample) for sample in rest)]


def credit_scale(shown: Sequence[Pair]) -> float:
    """Credit that is drawn in full strength: the 98th percentile of the sizes shown."""
    sizes = [abs(credit) for pair in shown for sample in pair if sample for _, credit in sample.units]
    sizes = [size for size in sizes if np.isfinite(size) and size > 0]
    return float(np.percentile(sizes, 98)) if sizes else 1.0


def draw_responses(group: Group, *, is_open: bool) -> str:
    """The responses of the group's first run that has any, with their scale; empty without samples."""
    run = next((run for run in group.runs if run.samples), None)
    if run is None:
        return ""
    shown = pairs(run.samples)
    scale = credit_scale(shown)
    heads = [f"Step {sample.step:,}" for sample in _columns(shown)]
    cards = "".join(_pair(pair, scale, heads) for pair in shown)
    title = clean(group.label) + (f" <small>seed {run.seed}</small>" if len(group.runs) > 1 else "")
    columns = "".join(f'<h4 class="when">{head}</h4>' for head in heads)
    return (
        f'<details class="responses" data-group="{group.index}"{" open" if is_open else ""}>'
        f"<summary>{title}</summary>{_legend(scale)}"
        f'<div class="pairs{"" if len(heads) > 1 else " single"}">'
        f'<div class="pair heads">{columns}</div>{cards}</div>'
        "</details>"
    )


def _columns(shown: Sequence[Pair]) -> list[Sample]:
    """One sample of each column."""
    firsts = [next((sample for sample in column if sample), None) for column in zip(*shown, strict=True)]
    return [sample for sample in firsts if sample]


def _legend(scale: float) -> str:
    text = number(scale)
    return (
        '<div class="scale" role="img" '
        f'aria-label="Colour scale of the credits, from minus {text} to plus {text}">'
        f'<span>−{text}</span><i class="ramp"></i><span>+{text}</span></div>'
    )


def _pair(pair: Pair, scale: float, heads: Sequence[str]) -> str:
    cards = "".join(
        _card(sample, scale) if sample else '<div class="card none"></div>' for sample in pair[: len(heads)]
    )
    return f'<div class="pair">{cards}</div>'


def _card(sample: Sample, scale: float) -> str:
    units = "".join(_unit(text, credit, scale, first=not index) for index, (text, credit) in enumerate(sample.units))
    if not sample.units:
        units = f'<span class="plain">{clean(sample.response)}</span>' if sample.response else "<em>(empty)</em>"
    end = "finished" if sample.finished else "cut at the length limit"
    listed = "".join(
        f'<div><dt title="{meaning}">{name}</dt><dd>{number(value)}</dd></div>'
        for name, value, meaning in _facts(sample)
    )
    return (
        f'<article class="card"><div class="step">Step {sample.step:,}</div>'
        f'<p class="text" dir="auto"><span class="prompt">{clean(sample.prompt)}</span>{units}</p>'
        f'<dl>{listed}<div><dt class="hidden">ending</dt><dd class="end">{end}</dd></div></dl></article>'
    )


def _facts(sample: Sample) -> list[tuple[str, float, str]]:
    """Name, value and meaning of the numbers of a response."""
    shaped = [("shaped", sample.final, "the score after clipping and penalties")]
    return [
        ("score", sample.score, "what the reward model gives the response"),
        *(shaped if sample.final != sample.score else []),
        ("base", sample.base, "v(∅), the score of the empty response"),
        ("residual", sample.residual, "sum of the credits minus (score − base)"),
    ]


def _unit(text: str, credit: float, scale: float, *, first: bool) -> str:
    """One unit: its text, and its credit for hover, focus, print and screen readers."""
    strength = min(1.0, abs(credit) / scale) if np.isfinite(credit) else 0.0
    # Beside the text all credits have the decimals that the scale calls for; the tooltip has all digits.
    decimals = min(6, max(0, 2 - math.floor(math.log10(scale))))
    short = f"{credit:+.{decimals}f}".replace("-", "−")
    sign = "pos" if credit > 0 else "neg" if credit < 0 else "nil"
    value, tab = number(credit, sign=True), 0 if first else -1
    word = text.lstrip() or text
    return (
        f"{clean(text[: len(text) - len(word)])}"
        f'<span class="unit {sign}" style="--s:{strength:.3f}" title="{value}" tabindex="{tab}">'
        f'{clean(word) or "∅"}<span class="num"> {short}</span></span>'
    )
