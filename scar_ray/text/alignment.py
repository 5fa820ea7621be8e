"""Mapping weights and units on the tokens of one tokenizer to the tokens of another, by the characters they share."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from scar_ray.records import FloatArray
from scar_ray.text.offsets import Span


def overlap_shares(weights_S: FloatArray, source_spans: Sequence[Span], target_spans: Sequence[Span]) -> FloatArray:
    """Weights (T,) of the target tokens from those of the S source tokens of the same text; the sum is kept.

    A source token's weight is divided in proportion to the characters that it shares with each target token.
    Target spans are contiguous from character 0. Source spans are as a tokenizer reports them: they may leave
    out white space, and tokens of one character may all claim it. Source tokens with empty ranges (special
    tokens) go, in order, to the target tokens with the same empty range; the surplus goes to the token that
    the text continues with, at the end of the text to the last token. Equal spans change nothing.

    ValueError when there is not one weight for each source token, when either spans are out of order, when
    source tokens lie outside the text that the target tokens cover, or when there is no target token.
    """
    if len(weights_S) != len(source_spans):
        raise ValueError(f"weights: expected one for each of {len(source_spans)} tokens, got {len(weights_S)}")
    _check_same_text(source_spans, target_spans)
    weights_T = np.zeros(len(target_spans))
    target_ends = [end for _, end in target_spans]
    empty_targets: dict[int, deque[int]] = defaultdict(deque)
    for t, (start, end) in enumerate(target_spans):
        if start == end:
            empty_targets[start].append(t)
    for weight, (start, end) in zip(weights_S, source_spans, strict=True):
        if start == end and empty_targets[start]:
            weights_T[empty_targets[start].popleft()] += weight
            continue
        t = min(bisect_right(target_ends, start), len(target_spans) - 1)
        if start == end:
            weights_T[t] += weight
        position = start
        while position < end:
            shared = min(end, target_ends[t]) - position
            weights_T[t] += weight * (shared / (end - start))
            position += shared
            t += 1
    return weights_T


def token_units(token_char_spans: Sequence[Span], unit_char_ranges: Sequence[Span]) -> tuple[int, ...]:
    """The unit 0..n-1 of each reward-model token, -1 for tokens without characters of the response.

    Token spans are as a tokenizer reports them, in the same text as the n unit ranges: in order, possibly with
    gaps, empty (special tokens, anywhere) or claiming one character together. The unit ranges are contiguous; what
    stands before and after them is no unit's, such as a prompt. A token over several units goes to the one that it
    shares most characters with, to the first of equals.

    Example: the spans (0, 3), (3, 6), (0, 0) and the units (1, 4), (4, 6) give (0, 1, -1).

    ValueError when token spans are out of order or start before the text, or when unit ranges are not contiguous.
    """
    for number, ((_, end), (start, _)) in enumerate(pairwise(unit_char_ranges)):
        if start != end:
            raise ValueError(f"units: unit {number + 1} starts at character {start}, it must start at {end}")
    ends = [end for _, end in unit_char_ranges]
    if any(start > end for start, end in unit_char_ranges):
        raise ValueError(f"units: a range ends before it starts, got {list(unit_char_ranges)}")
    _check_spans(token_char_spans, None)
    units: list[int] = []
    for start, stop in token_char_spans:
        best, most = -1, 0
        for unit in range(bisect_right(ends, start), len(ends)):
            first, last = unit_char_ranges[unit]
            if first >= stop:
                break
            shared = min(last, stop) - max(first, start)
            if shared > most:
                best, most = unit, shared
        units.append(best)
    return tuple(units)


def dropped_characters(text: str, spans: Sequence[Span]) -> str:
    """The visible characters of `text` that no token covers, in order; "" when the tokens cover all of them.

    Something is dropped where a tokenizer normalises text away or where its offsets are not those of this text;
    units mapped by such offsets would be wrong. White space, which many tokenizers leave out, does not count.

    ValueError when spans that are not empty are out of order or outside the text.
    """
    _check_spans(spans, len(text))
    dropped: list[str] = []
    covered = 0
    for start, end in [*spans, (len(text), len(text))]:
        dropped += [char for char in text[covered:start] if not char.isspace()]
        covered = max(covered, end)
    return "".join(dropped)


def _check_spans(spans: Sequence[Span], length: int | None) -> None:
    """ValueError unless the spans that are not empty start in order, end in order and lie within the text."""
    before = (0, 0)
    for number, (start, end) in enumerate(spans):
        if start == end:
            continue
        if start < before[0] or end < before[1] or end < start or (length is not None and end > length):
            within = "" if length is None else f" and within the {length} characters of the text"
            raise ValueError(
                f"spans: token {number} is at {(start, end)} after {before}; tokens must be in order{within}; "
                "take the offsets of exactly this text"
            )
        before = (start, end)


def _check_same_text(source_spans: Sequence[Span], target_spans: Sequence[Span]) -> None:
    target_starts = [0, *(end for _, end in target_spans)]
    for t, (start, end) in enumerate(target_spans):
        if start != target_starts[t] or end < start:
            raise ValueError(f"spans: target token {t} is at {(start, end)}, it must start at {target_starts[t]}")
    if source_spans and not target_spans:
        raise ValueError(f"spans: {len(source_spans)} source tokens but no target token to map them to")
    length, before = target_starts[-1], 0
    for s, (start, end) in enumerate(source_spans):
        if not before <= start <= end <= length:
            raise ValueError(
                f"spans: source token {s} is at {(start, end)}, it must lie in order within the {length} "
                "characters of the target tokens; both must be spans of the same text"
            )
        before = start
