"""Correction for the engine sampling from slightly other probabilities than the learner computes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def importance_weights(
    logprobs_BT: NDArray[np.floating[Any]],
    engine_logprobs_BT: NDArray[np.floating[Any]],
    mask_BT: NDArray[np.bool_],
    cap: float,
) -> NDArray[np.float32]:
    """Truncated importance weights min(pi_learner(a_t) / pi_engine(a_t), cap) (Ionides 2008); 1 at padding.

    Both log-probabilities are of the sampled tokens, in nats, before any update of the step.
    """
    log_ratio_BT = np.where(mask_BT, logprobs_BT.astype(np.float64) - engine_logprobs_BT, 0.0)
    weights_BT = np.exp(np.minimum(log_ratio_BT, math.log(cap)))
    return np.where(mask_BT, weights_BT, 1.0).astype(np.float32)
