"""Token advantages of critic-free methods: a response's advantage shared out by credits.

Both sources broadcast one number to all tokens where nothing is known about them; here every token gets its part,
scaled so that the mean over the tokens is what the plain method would have given to each.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scar_ray.records import FloatArray, TokenRewards

TokenAdvantages = Literal["to_go", "ordered", "shared"]
Scaling = Literal["length_exact", "k_phi", "raw"]

MIN_SUM = 0.1
"""Credits are shares only where their sum is more than this part of the sum of their sizes."""


def levels(rewards: TokenRewards) -> FloatArray:
    """What each of T tokens is judged by where there is no critic; the mean over the tokens is the final score R.

    T times what the token's unit was paid, spread evenly over the unit's tokens, plus `rest`, which concerns all
    alike. For the sparse reward that is R everywhere, as in GRPO; for uniform credit too.
    """
    if rewards.levels_T is not None:
        return rewards.levels_T
    dense_T = rewards.rewards_T.astype(np.float64)
    dense_T[-1] -= rewards.rest
    for start, end in zip(rewards.units.starts, rewards.units.ends, strict=True):
        dense_T[start:end] = dense_T[start:end].mean()
    return len(dense_T) * dense_T + rewards.rest


def shares(levels_T: FloatArray) -> FloatArray | None:
    """Levels divided by their sum; None where they are no shares.

    That is where the sum is at most `MIN_SUM` of the sum of the absolute levels: for R = 0 and for nearly balanced
    credits the division would explode, for R < 0 it would turn the order of the tokens around.
    """
    levels_T = np.asarray(levels_T, dtype=np.float64)
    total = levels_T.sum()
    return levels_T / total if total > MIN_SUM * np.abs(levels_T).sum() else None


def shared_advantages(shares_T: FloatArray, advantage: float) -> FloatArray:
    """A_t = T * share_t * A_hat (OSPO, arXiv 2601.08403), for shares that sum to 1; the mean over tokens is A_hat.

    For A_hat > 0 the order of the tokens is that of their shares. For A_hat < 0 it is reversed: the most useful token
    is punished most; `ordered_advantages` keeps the order. ValueError unless the shares are finite and sum to 1.
    """
    shares_T = np.asarray(shares_T, dtype=np.float64)
    if not (np.isfinite(shares_T).all() and abs(shares_T.sum() - 1.0) <= 1e-9):
        raise ValueError(f"shares: must be finite and sum to 1, got the sum {shares_T.sum()}; divide by their sum")
    return len(shares_T) * shares_T * advantage


def ordered_advantages(credits_T: FloatArray, mean_reward: float, std: float) -> FloatArray:
    """A_t = (T * phi_t - mean R) / std for credits with sum R; the mean over tokens is (R - mean R) / std.

    Keeps the order of the credits whatever the sign of the advantage, and divides by no sum of credits, which may be
    zero or negative. ValueError unless the standard deviation is positive.
    """
    credits_T = np.asarray(credits_T, dtype=np.float64)
    if not std > 0:
        raise ValueError(
            f"std: the group's standard deviation must be positive, got {std}; use 1 for a group of equals"
        )
    return (len(credits_T) * credits_T - mean_reward) / std


def candidate_rewards(phi_K: FloatArray, lengths_K: FloatArray, scaling: Scaling) -> FloatArray:
    """Reward of every token of each of K candidates with Shapley values phi and lengths in tokens (ShapE-GRPO).

    "length_exact": phi_k * (sum of lengths) / length_k, whose mean over all tokens is the set's value sum(phi) for any
    lengths; "k_phi": K * phi_k, whose mean is that for equal lengths only; "raw": phi_k. ValueError when a length is
    not positive.
    """
    phi_K, lengths_K = np.array(phi_K, dtype=np.float64), np.asarray(lengths_K, dtype=np.float64)
    if phi_K.shape != lengths_K.shape or not (lengths_K > 0).all():
        raise ValueError(f"lengths: one positive length for each of {len(phi_K)} candidates is needed, got {lengths_K}")
    factors = {"length_exact": lengths_K.sum() / lengths_K, "k_phi": float(len(phi_K)), "raw": 1.0}
    phi_K *= factors[scaling]
    return phi_K
