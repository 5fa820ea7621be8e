"""Learning-rate schedule by training step."""

from __future__ import annotations

import math
from typing import Literal


def lr_multiplier(step: int, total: int, warmup: int, schedule: Literal["constant", "linear", "cosine"]) -> float:
    """Factor in [0, 1] on the learning rate in training step `step`, counted from 0, of `total` steps.

    1. Warm-up, step < warmup: (step + 1) / (warmup + 1); rises from 0, yet no step is without effect.
    2. After it, with x = (step - warmup) / (total - warmup), at most 1:
       constant: 1;  linear: 1 - x;  cosine: (1 + cos(pi x)) / 2 (Loshchilov & Hutter 2017, equation 5).
    The decay reaches 0 when the last step is done, so that the last step still learns.
    """
    assert step >= 0, step
    if step < warmup:
        return (step + 1) / (warmup + 1)
    x = min(1.0, (step - warmup) / max(1, total - warmup))
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - x
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * x))
    raise ValueError(f"optimizer.schedule={schedule!r} must be constant, linear or cosine")
