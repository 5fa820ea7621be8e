"""Advantages from token rewards and values; float64 on the driver, over the whole batch at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scar_ray.objectives.kl import k1

AnyFloats = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def kl_rewards(
    rewards_BT: AnyFloats, logprobs_BT: AnyFloats, ref_logprobs_BT: AnyFloats, mask_BT: Mask, coef: float
) -> Floats:
    """Token rewards with the KL penalty: r_t - coef * (log pi(a_t) - log ref(a_t)); 0 at padding.

    The penalty is added after the sequence score has been distributed and is itself never redistributed.
    """
    penalty_BT = coef * k1(logprobs_BT.astype(np.float64), ref_logprobs_BT.astype(np.float64))
    return np.where(mask_BT, rewards_BT.astype(np.float64) - penalty_BT, 0.0)


def gae(rewards_BT: AnyFloats, values_BT: AnyFloats, mask_BT: Mask, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """Generalised advantage estimates and the returns for the critic (Schulman et al. 2016, equation 16).

        delta_t = r_t + gamma * V_{t+1} - V_t
        A_t     = delta_t + gamma * lam * A_{t+1}
        R_t     = A_t + V_t

    V_t is the value of the state before token t, and V = A = 0 beyond the last token of a response. That also
    holds for truncated responses: the episode ends where sampling stopped and nothing is bootstrapped, as the
    reward model has scored the response as it stands. Special cases: lam = 1 makes R_t the discounted
    reward-to-go whatever the values; lam = 0 makes A_t the one-step temporal difference.

    All arrays are (B, T), right-padded; what stands at padding is ignored, and both results are 0 there.
    """
    assert rewards_BT.shape == values_BT.shape == mask_BT.shape, (
        rewards_BT.shape,
        values_BT.shape,
        mask_BT.shape,
    )
    assert (mask_BT[:, :-1] >= mask_BT[:, 1:]).all(), "padding must be on the right"
    B, T = mask_BT.shape
    # One column more than tokens: V = A = 0 after the end.
    v_BT, a_BT = np.zeros((B, T + 1)), np.zeros((B, T + 1))
    v_BT[:, :T] = np.where(mask_BT, values_BT, 0.0)
    r_BT = np.where(mask_BT, rewards_BT, 0.0).astype(np.float64)
    for t in reversed(range(T)):
        delta_B = r_BT[:, t] + gamma * v_BT[:, t + 1] - v_BT[:, t]
        a_BT[:, t] = delta_B + gamma * lam * a_BT[:, t + 1]
    return a_BT[:, :T], a_BT[:, :T] + v_BT[:, :T]


def whiten(advantages_BT: AnyFloats, mask_BT: Mask, eps: float = 1e-8) -> Floats:
    """(A - mean) / sqrt(var + eps) over all unmasked tokens of the batch together; 0 at padding.

    var is the population variance (divided by the number of tokens), so the result has variance 1 up to eps,
    and a batch whose advantages are all equal becomes 0. Call it on the whole batch, before any split into
    mini-batches or ranks: whitening parts would make the update depend on the split.
    """
    tokens = advantages_BT[mask_BT].astype(np.float64)
    whitened_BT = np.zeros(advantages_BT.shape)
    whitened_BT[mask_BT] = (tokens - tokens.mean()) / np.sqrt(tokens.var() + eps)
    return whitened_BT


def explained_variance(values_BT: AnyFloats, returns_BT: AnyFloats, mask_BT: Mask) -> float:
    """1 - Var(R - V) / Var(R) over unmasked tokens: 1 for a perfect critic, 0 for a constant one.

    Negative for a critic worse than a constant; 0 when the returns do not vary: there is nothing to explain.
    """
    returns = returns_BT[mask_BT].astype(np.float64)
    variance = returns.var()
    if variance == 0.0:
        return 0.0
    return float(1.0 - (returns - values_BT[mask_BT]).var() / variance)
