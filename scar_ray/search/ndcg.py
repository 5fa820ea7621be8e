"""Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), with linear gains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def dcg(gains: Iterable[float]) -> float:
    """Sum of gain_i / log2(1 + i) over the ranks i = 1, 2, ..."""
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def ndcg(found: Sequence[float], judged: Iterable[float], k: int) -> float:
    """DCG of the first k gains of what was found, over that of the best order of all judged gains; 0 to 1.

    ValueError where no judged gain is above 0.

    Example: found (0, 1) with judged (1, 0.1) and k = 2 is (1 / log2 3) / (1 + 0.1 / log2 3) = 0.594.
    """
    best = dcg(sorted(judged, reverse=True)[:k])
    if best <= 0:
        raise ValueError("no judged product has a gain above 0; NDCG is not defined")
    return dcg(found[:k]) / best
