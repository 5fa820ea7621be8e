"""Clipping and penalties of the sequence score, made before the score is distributed over the tokens."""

from __future__ import annotations

import math


def shape_score(
    raw: float,
    *,
    n_tokens: int,
    finished: bool,
    max_new_tokens: int,
    clip: float | None,
    missing_eos_penalty: float,
    over_length_penalty: float,
    over_length_start: int | None,
) -> tuple[float, float]:
    """(scale, penalty) such that the final score is `scale * raw + penalty`.

    scale = min(max(raw, -clip), clip) / raw, in (0, 1]; 1 without clipping and for raw = 0. It is a
    factor, so that shares which sum to `raw` sum to the clipped score when each is multiplied by it.

    penalty = -missing_eos_penalty * [not finished] - over_length_penalty * x, at most 0, where x is
    1. [n_tokens >= max_new_tokens] without a start ("full length pays");
    2. min(1, max(0, n_tokens - start) / (max_new_tokens - start)) with one (soft over-length punishment,
       Yu et al. 2025, DAPO, section 3.4).

    `n_tokens` counts the EOS. ValueError when raw is not finite.
    """
    if not math.isfinite(raw):
        raise ValueError(f"reward score is {raw}; every score must be finite, check the reward model")
    scale = 1.0
    if clip is not None and abs(raw) > clip:
        scale = clip / abs(raw)
    penalty = 0.0
    if not finished:
        penalty -= missing_eos_penalty
    if over_length_start is None:
        excess = float(n_tokens >= max_new_tokens)
    else:
        excess = min(1.0, max(0, n_tokens - over_length_start) / (max_new_tokens - over_length_start))
    if excess > 0.0:
        penalty -= over_length_penalty * excess
    return scale, penalty
