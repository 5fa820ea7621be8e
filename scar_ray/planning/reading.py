"""What a credit method asks of the reward model for one response, in sequences and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.arithmetic import sample_responses
from scar_ray.config.schema import Config
from scar_ray.credit import build
from scar_ray.records import CreditPlan


@dataclass(frozen=True, slots=True)
class Reading:
    """Means over responses of one length to one prompt."""

    units: float
    """Players; 0 for methods without any."""
    evaluations: float
    """Sequences asked for, the response itself included."""
    tokens: float
    """Tokens of all of them."""
    computed: float
    """Tokens that go through the reward model: nodes of their prefix tree, where it has one."""


def reading(config: Config, prompt: int, new: int) -> Reading:
    """The mean over stretches of English prose of `new` tokens, each a word or a mark, behind a prompt of `prompt`."""
    method = build(**config.credit.method_options())
    plans = [method.plan(response) for response in sample_responses(new)]
    found = [_of_plan(config, plan, prompt, new) for plan in plans]
    return Reading(*(fmean(column) for column in zip(*found, strict=True)))


def _of_plan(config: Config, plan: CreditPlan, prompt: int, new: int) -> tuple[float, float, float, float]:
    end = int(config.model.reward.append_eos)
    whole = float(prompt + new + end)
    if plan.game is None or plan.units is None:
        return 0.0, 1.0, whole, whole
    lengths_n = np.subtract(plan.units.ends, plan.units.starts)
    coalitions_Cn, cut = plan.game.coalitions_Cn, config.credit.masking in ("delete", "attention")
    C = len(coalitions_Cn)
    kept = float((coalitions_Cn @ lengths_n).sum()) if config.credit.masking == "delete" else float(C * new)
    tokens = C * (prompt + end) + kept
    computed = {
        "plain": tokens,
        "shared_prompt": tokens - (C - 1) * prompt,
    }.get(config.cluster.reward.engine, prompt + tree_tokens(coalitions_Cn, lengths_n, cut) + end * C)
    return float(plan.game.n_players), float(C), tokens, float(computed)


def tree_tokens(coalitions_Cn: NDArray[np.bool_], lengths_n: NDArray[np.int_], cut: bool) -> int:
    """Nodes of the prefix tree of the coalitions' texts; n units of `lengths_n` tokens, no two tokens equal.

    With `cut` absent units are left out, else they are filled with as many blanks. Example: of two units of one token
    the four coalitions have the texts "", "a", "b", "ab", so 3 nodes; filled "--", "a-", "-b", "ab", so 6.
    """
    if coalitions_Cn.shape[1] == 0:
        return 0
    if cut:
        rows = np.arange(1, 1 + len(lengths_n)) * coalitions_Cn
        rows = np.take_along_axis(rows, np.argsort(~coalitions_Cn, axis=1, kind="stable"), axis=1)
    else:
        rows = coalitions_Cn + 1
    rows = np.unique(rows, axis=0)
    new = rows > 0
    new[1:] &= ~np.logical_and.accumulate(rows[1:] == rows[:-1], axis=1)
    lengths = lengths_n[np.maximum(rows, 1) - 1] if cut else np.broadcast_to(lengths_n, rows.shape)
    return int(lengths[new].sum())
