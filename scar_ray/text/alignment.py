"""Mapping weights on the tokens of one tokenizer to the tokens of another, by the characters they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from scar_ray.records import FloatArray
from scar_ray.text.offsets import Span


def overlap_shares(source_spans: Sequence[Span], target_spans: Sequence[Span]) -> FloatArray:
    """Shares (S, T) of the S source tokens that go to each of the T target tokens of the same text.

    `weights_S @ shares` moves weights from source to target tokens; every row sums to 1, so their sum is
    kept. A source token is divided in proportion to the characters it shares with each target token. Source
    tokens with empty ranges (special tokens, parts of a character) go, in order, to the target tokens with
    the same empty range; the surplus goes to the token that the text continues with, at the end of the text
    to the last token. Equal spans give the identity.

    ValueError when the spans are not contiguous from character 0, do not end at the same character, or when
    there are source tokens but no target tokens.
    """
    _check(source_spans, "source")
    _check(target_spans, "target")
    length, target_length = (spans[-1][1] if spans else 0 for spans in (source_spans, target_spans))
    if length != target_length:
        raise ValueError(
            f"spans: source tokens cover {length} characters and target tokens {target_length}; "
            "both must be spans of the same text"
        )
    if source_spans and not target_spans:
        raise ValueError(f"spans: {len(source_spans)} source tokens but no target token to map them to")

    shares = np.zeros((len(source_spans), len(target_spans)))
    empty_targets: dict[int, list[int]] = defaultdict(list)
    for t in reversed(range(len(target_spans))):
        start, end = target_spans[t]
        if start == end:
            empty_targets[start].append(t)
    t = 0
    for s, (start, end) in enumerate(source_spans):
        if start == end and empty_targets[start]:
            shares[s, empty_targets[start].pop()] = 1.0
            continue
        while t < len(target_spans) - 1 and target_spans[t][1] <= start:
            t += 1
        if start == end:
            shares[s, t] = 1.0
        for overlapping in range(t, len(target_spans) if start < end else t):
            target_start, target_end = target_spans[overlapping]
            if target_start >= end:
                break
            shares[s, overlapping] = (min(end, target_end) - max(start, target_start)) / (end - start)
    return shares


def _check(spans: Sequence[Span], name: str) -> None:
    ends = [0, *(end for _, end in spans)]
    if any(start != end for end, (start, _) in zip(ends, spans, strict=False)) or any(
        end < before for before, end in pairwise(ends)
    ):
        raise ValueError(
            f"spans: {name} spans must be contiguous ranges from character 0, got {list(spans)[:8]}"
        )
