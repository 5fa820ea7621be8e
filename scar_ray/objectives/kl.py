"""KL divergence from the reference policy: estimators from sampled tokens, controllers of the coefficient.

Estimators of KL(pi || ref) from tokens sampled from pi (Schulman 2020, "Approximating KL divergence"); with
d = log pi(a) - log ref(a), elementwise, on numpy arrays and torch tensors alike, any shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", NDArray[np.floating[Any]], "torch.Tensor")

KLEstimator = Literal["k1", "k2", "k3"]

MAX_ERROR = 0.2
"""Bound on the proportional error of the adaptive controller."""


def k1(logprobs: ArrayT, ref_logprobs: ArrayT) -> ArrayT:
    """d: unbiased, of either sign, high variance."""
    return logprobs - ref_logprobs


def k2(logprobs: ArrayT, ref_logprobs: ArrayT) -> ArrayT:
    """d^2 / 2: biased, never negative, low variance."""
    return 0.5 * (logprobs - ref_logprobs) ** 2


def k3(logprobs: ArrayT, ref_logprobs: ArrayT) -> ArrayT:
    """exp(-d) - 1 + d: unbiased, never negative."""
    d = logprobs - ref_logprobs
    # expm1, because exp(-d) - 1 loses every digit, and its sign, where the policies nearly agree.
    return (np.expm1(-d) if isinstance(d, np.ndarray) else (-d).expm1()) + d


@dataclass(slots=True)
class FixedKL:
    """A constant coefficient."""

    coef: float

    def update(self, kl_sequence_mean: float, n_responses: int) -> None:
        """Leaves the coefficient as it is."""

    def state(self) -> dict[str, float]:
        """JSON-able state for a checkpoint."""
        return {"coef": self.coef}

    def load_state(self, state: Mapping[str, float]) -> None:
        self.coef = float(state["coef"])


@dataclass(slots=True)
class AdaptiveKL:
    """Proportional controller that holds the KL per response near a target (Ziegler et al. 2019, sec. 2.2).

    coef <- coef * (1 + clip(KL / target - 1, -0.2, 0.2) * min(1, n / horizon)) after n responses.
    The share n / horizon is at most 1, so that a batch larger than the horizon cannot turn the coefficient
    negative. ValueError when the first coefficient is not positive: it could never move.
    """

    coef: float
    target: float
    """KL (nats per response) aimed for."""
    horizon: int
    """Responses over which the coefficient adapts."""

    def __post_init__(self) -> None:
        if self.coef <= 0.0:
            raise ValueError(f"algorithm.kl.coef={self.coef} with controller=adaptive never moves; start above 0")

    def update(self, kl_sequence_mean: float, n_responses: int) -> None:
        """Adapts to the KL (k1, nats) summed over the tokens of a response, mean over `n_responses`."""
        assert math.isfinite(kl_sequence_mean), kl_sequence_mean
        error = min(max(kl_sequence_mean / self.target - 1.0, -MAX_ERROR), MAX_ERROR)
        self.coef *= 1.0 + error * min(1.0, n_responses / self.horizon)

    def state(self) -> dict[str, float]:
        """JSON-able state for a checkpoint."""
        return {"coef": self.coef}

    def load_state(self, state: Mapping[str, float]) -> None:
        self.coef = float(state["coef"])
