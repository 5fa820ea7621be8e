"""Mapping weights on the tokens of one tokenizer to the tokens of another, by the characters they share."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Sequence

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
