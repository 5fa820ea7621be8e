"""Shapley values of set rewards: how much each of K candidates contributes to the reward of their set.

The players are the K candidates, the value of a coalition S is a reward of the set S with v(empty) = 0, and
phi_K adds up to the reward of all K. The rules for ordered rewards rest on one identity: with
r_(1) <= ... <= r_(K), r_(0) = 0 and D(m) the value of m candidates of reward 1,

    v(S) = sum over j of (r_(j) - r_(j-1)) D(number of members of S among the K - j + 1 best),

and each such layer is shared equally by its candidates: phi_(k) = sum over j <= k of
(r_(j) - r_(j-1)) D(K - j + 1) / (K - j + 1). It holds for all real rewards and all ties; equal rewards get equal
credits. The maximum is ShapE-GRPO's reward (arXiv 2603.29871).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scar_ray.games.shapley import shapley

MAX_ENUMERATED = 12
"""Most candidates whose 2^K sets are enumerated."""


def max_values(rewards_K: ArrayLike) -> NDArray[np.float64]:
    """phi_K of v(S) = max of the rewards in S, in O(K log K); (5, 4, 3) gives (2.5, 1.5, 1).

    ValueError unless the rewards are one row of finite numbers, here and below.
    """
    rewards_K = _finite("rewards", rewards_K)
    return _layers(rewards_K, np.ones(len(rewards_K)))


def top_m_sum(rewards_K: ArrayLike, m: int) -> NDArray[np.float64]:
    """phi_K of v(S) = sum of the min(m, |S|) largest rewards in S, in O(K log K). ValueError for m < 1."""
    if m < 1:
        raise ValueError(f"top_m_sum: m={m} must be at least 1")
    rewards_K = _finite("rewards", rewards_K)
    return _layers(rewards_K, np.minimum(m, np.arange(1, len(rewards_K) + 1)).astype(np.float64))


def sorted_dcg(rewards_K: ArrayLike, discounts_K: ArrayLike) -> NDArray[np.float64]:
    """phi_K of v(S) = sum over k of discount_k times the k-th largest reward in S, in O(K log K).

    The discounts may have any finite values. ValueError when there are fewer of them than rewards.
    """
    rewards_K, discounts_K = _finite("rewards", rewards_K), _finite("discounts", discounts_K)
    if len(discounts_K) < len(rewards_K):
        raise ValueError(f"sorted_dcg: {len(rewards_K)} rewards need as many discounts, got {len(discounts_K)}")
    return _layers(rewards_K, np.cumsum(discounts_K[: len(rewards_K)]))


def mean(rewards_K: ArrayLike) -> NDArray[np.float64]:
    """phi_K of v(S) = mean of the rewards in S, in O(K).

    phi_i = (H_K r_i - (H_K - 1) mean of the other rewards) / K with H_K = 1 + 1/2 + ... + 1/K.
    """
    rewards_K = _finite("rewards", rewards_K)
    K = len(rewards_K)
    if K < 2:
        return rewards_K
    harmonic = (1 / np.arange(1, K + 1)).sum()
    others_K = (rewards_K.sum() - rewards_K) / (K - 1)
    phi_K: NDArray[np.float64] = (harmonic * rewards_K - (harmonic - 1) * others_K) / K
    return phi_K


def min(rewards_K: ArrayLike) -> NDArray[np.float64]:
    """phi_K of v(S) = min of the rewards in S, in O(K log K): minus the credits of the maximum of minus the rewards."""
    return -max_values(-_finite("rewards", rewards_K))


def coverage(covers_KI: ArrayLike, weights_I: ArrayLike) -> NDArray[np.float64]:
    """phi_K of v(S) = sum of the weights of the items that some candidate in S covers, in O(K I).

    `covers_KI` is True where candidate k covers item i; an item's weight is shared equally by those that cover it.
    ValueError when the shapes disagree or a weight is not finite.
    """
    covers_KI, weights_I = np.asarray(covers_KI), _finite("weights", weights_I)
    if covers_KI.dtype != np.bool_ or covers_KI.ndim != 2 or covers_KI.shape[1] != len(weights_I):
        raise ValueError(
            f"coverage: covers must be booleans of shape (candidates, {len(weights_I)} items), "
            f"got {covers_KI.dtype} of shape {covers_KI.shape}"
        )
    coverers_I = np.maximum(covers_KI.sum(axis=0), 1)
    phi_K: NDArray[np.float64] = covers_KI @ (weights_I / coverers_I)
    return phi_K


def max_with_floor(rewards_K: ArrayLike, floor: float) -> NDArray[np.float64]:
    """phi_K of v(S) = max(floor, rewards in S), v(empty) = floor, in O(K log K); adds up to v(all) - floor.

    The floor is what a default choice brings that needs no candidate. ValueError when it is not finite.
    """
    rewards_K, (lowest,) = _finite("rewards", rewards_K), _finite("floor", [floor])
    return max_values(np.maximum(rewards_K, lowest) - lowest)


def noisy_or(probabilities_K: ArrayLike) -> NDArray[np.float64]:
    """phi_K of v(S) = 1 - product over S of (1 - p): the chance that at least one of independent candidates succeeds.

    phi_i = p_i times the integral over x in [0, 1] of the product over j != i of (1 - x p_j), a polynomial of
    degree K - 1, for which Gauss-Legendre quadrature with ceil(K / 2) nodes is exact. O(K^2). ValueError unless
    0 <= p <= 1.
    """
    p_K = _finite("probabilities", probabilities_K)
    if ((p_K < 0) | (p_K > 1)).any():
        bad = int(np.flatnonzero((p_K < 0) | (p_K > 1))[0])
        raise ValueError(f"noisy_or: probability {bad} is {p_K[bad]}; it must lie between 0 and 1")
    if len(p_K) == 0:
        return p_K
    nodes, weights = np.polynomial.legendre.leggauss((len(p_K) + 1) // 2)
    fails_mK = 1 - (nodes[:, None] + 1) / 2 * p_K
    # Nodes lie inside (0, 1), so that no factor is 0.
    others_mK = fails_mK.prod(axis=1, keepdims=True) / fails_mK
    phi_K: NDArray[np.float64] = p_K * (weights / 2 @ others_mK)
    return phi_K


def enumerate_set_game(utility: Callable[[tuple[int, ...]], float], K: int) -> NDArray[np.float64]:
    """phi_K of v(S) = utility of the candidates S, a tuple of increasing indices, called once for each of the 2^K.

    phi_K adds up to utility(all) - utility(()). ValueError unless 0 <= K <= 12 and every utility is finite.
    """
    if not 0 <= K <= MAX_ENUMERATED:
        raise ValueError(
            f"enumerate_set_game: K={K} candidates have 2^K sets, K must be 0..{MAX_ENUMERATED}; "
            "use a closed form or fewer candidates"
        )
    plan = shapley(K)
    return plan.credits(np.array([utility(tuple(np.flatnonzero(row).tolist())) for row in plan.coalitions_Cn]))


def _layers(rewards_K: NDArray[np.float64], values_of_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Credits by layers; `values_of_K[m - 1]` is D(m), the value of m candidates of reward 1."""
    K = len(rewards_K)
    ascending = np.argsort(rewards_K)
    steps = np.diff(rewards_K[ascending], prepend=0.0)
    members = np.arange(K, 0, -1)
    phi_K = np.empty(K)
    phi_K[ascending] = np.cumsum(steps * values_of_K[members - 1] / members)
    return phi_K


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one row of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}: number {bad} is {array[bad]}; every one must be finite")
    return array
