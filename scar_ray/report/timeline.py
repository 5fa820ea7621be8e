"""Who did what when: one lane for each engine, the learner and each reward actor, over a logged step."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from scar_ray.report.groups import Group
from scar_ray.report.runs import Lane, Span, Timeline
from scar_ray.report.scale import duration, round_ticks, tick_texts

MAX_LANES = 80
"""Lanes that are drawn; of more reward actors the first ones."""
MAX_SPANS = 400
"""Spans that are drawn in a lane; of more the nearest ones become one."""
PARTS = ("rollout", "reward", "forward", "update", "sync")

NOTE = (
    '<p class="note">Each bar is work of the actor at its left: an engine until its last response, with a mark where '
    "it finished one; the learner's phases; each task of a reward actor. Point at a bar to read what it was.</p>"
)


def draw_timelines(groups: Sequence[Group]) -> str:
    """The first and the last logged step of the first run of each method; empty where nothing is logged."""
    drawn = []
    for group in groups:
        run = next((run for run in group.runs if run.timeline), None)
        if run is None:
            continue
        steps = list(dict.fromkeys((len(run.timeline) - 1, 0)))
        figures = "".join(_figure(run.timeline[number]) for number in steps)
        is_open = "" if drawn else " open"
        drawn.append(
            f'<details class="responses"{is_open}><summary>{html.escape(group.label)} '
            f"<small>seed {run.seed}</small></summary>{figures}</details>"
        )
    if not drawn:
        return ""
    swatches = "".join(f'<li><i class="part {name}"></i>{name}</li>' for name in PARTS)
    return f'{NOTE}<ul class="parts" aria-label="Kinds of work">{swatches}</ul>{"".join(drawn)}'


def _figure(timeline: Timeline) -> str:
    lanes = timeline.lanes[:MAX_LANES]
    left_out = len(timeline.lanes) - len(lanes)
    more = f" {left_out} more reward actors are not drawn." if left_out else ""
    length = timeline.seconds
    ticks = round_ticks(0.0, length, 8)
    axis = "".join(
        f'<span class="{"end" if tick > 0.97 * length else ""}" style="left:{100 * tick / length:.2f}%">{text}</span>'
        for tick, text in zip(ticks, tick_texts(ticks), strict=True)
    )
    return (
        f'<figure class="lanes"><figcaption><h3>Step {timeline.step:,}, {duration(length)}</h3>'
        f"<p>{_summary(timeline)}{more}</p></figcaption>{''.join(_lane(lane, length) for lane in lanes)}"
        '<div class="lane"><div class="lanelabel">seconds</div>'
        f'<div class="ticks" aria-hidden="true">{axis}</div></div></figure>'
    )


def _summary(timeline: Timeline) -> str:
    """How busy the reward actors were, and how much of their work lay beside the generation."""
    rewards = [lane for lane in timeline.lanes if lane.role == "reward"]
    engines = [span.end for lane in timeline.lanes if lane.role == "rollout" for span in lane.spans]
    busy = sum(_busy(lane) for lane in rewards)
    if not busy:
        return "The reward actors had nothing to do."
    share = 100 * busy / (len(rewards) * timeline.seconds)
    generated = max(engines, default=0.0)
    beside = sum(max(0.0, min(span.end, generated) - span.start) for lane in rewards for span in lane.spans)
    who = "The reward actor was" if len(rewards) == 1 else f"The {len(rewards)} reward actors were"
    return f"{who} busy {share:.0f} % of the step; {100 * beside / busy:.0f} % of that while responses were generated."


def _lane(lane: Lane, length: float) -> str:
    bars = "".join(_bar(lane, span, length) for span in _drawn(lane.spans))
    marks = "".join(f'<i class="mark" style="left:{100 * at / length:.2f}%"></i>' for at in lane.marks[:MAX_SPANS])
    name = html.escape(lane.name)
    told = f"{name}: busy {duration(_busy(lane))} of {duration(length)}"
    return (
        f'<div class="lane"><div class="lanelabel">{name}</div>'
        f'<div class="track" role="img" tabindex="0" aria-label="{told}">{bars}{marks}</div></div>'
    )


def _bar(lane: Lane, span: Span, length: float) -> str:
    kind = span.what if lane.role == "learner" and span.what in PARTS else lane.role
    told = html.escape(f"{span.what}: {span.start:.2f}–{span.end:.2f} s, {duration(span.end - span.start)}")
    return (
        f'<span class="part {html.escape(kind)}" title="{told}" '
        f'style="left:{100 * span.start / length:.3f}%;width:{100 * (span.end - span.start) / length:.3f}%"></span>'
    )


def _busy(lane: Lane) -> float:
    return sum(span.end - span.start for span in lane.spans)


def _drawn(spans: Sequence[Span]) -> list[Span]:
    """The spans; where they are too many, those with the smallest gaps between them are joined."""
    if len(spans) <= MAX_SPANS:
        return list(spans)
    gaps = np.array([after.start - before.end for before, after in pairwise(spans)])
    cuts = np.sort(np.argsort(gaps, kind="stable")[-(MAX_SPANS - 1) :]) + 1
    runs = [spans[start:end] for start, end in pairwise([0, *cuts.tolist(), len(spans)])]
    return [
        run[0] if len(run) == 1 else Span(run[0].start, max(span.end for span in run), f"{len(run)} tasks")
        for run in runs
    ]
