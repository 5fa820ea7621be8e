"""Advantages without a critic, from token rewards and what other responses of the group were paid.

A group is the responses to one prompt (grpo, rloo) or all of a step (reinforce). The baseline b is the mean of the
group, the response's own reward included, for grpo; the mean of the others for rloo and reinforce, which makes the
policy gradient unbiased. R is the final score of a response, sigma the population standard deviation of R in the group;
it is 1 without `algorithm.group.std`, and where all R of the group are equal.

| tokens  | A_t                              | relation to A = (R - b) / sigma                                |
|---------|----------------------------------|----------------------------------------------------------------|
| to_go   | (G_t - b_t) / sigma              | A_1 = A; all A_t = A for the sparse reward                     |
| ordered | (L_t - b) / sigma                | mean_t A_t = A; all A_t = A for the sparse and uniform rewards |
| shared  | L_t / R * A                      | mean_t A_t = A; all A_t = A for the sparse and uniform rewards |

G_t = r_t + ... + r_T is the reward to go and b_t the baseline of the group's G_t; for a response that has ended before
t its last token's reward stands in, so that b_t depends on no later token of the response judged. L_t are
`credit.advantages.levels`, with mean R. "ordered" is the additive variant of OSPO: tokens with higher credits get
higher advantages whatever the sign of A. "shared" is OSPO as published (arXiv 2601.08403): for A < 0 the most useful
token is punished most, and where R is not clearly positive, so that credits are no shares of it, all A_t = A.
The KL penalty, where it is in the reward, is part of r_t for to_go, and so of A; the other two need it in the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.schema import AlgorithmConfig
from scar_ray.credit.advantages import levels, ordered_advantages, shared_advantages, shares
from scar_ray.records import FloatArray, TokenRewards

EQUAL = 1e-9
"""Rewards of a group that differ by no more than this part of their size are equal."""


class GroupAdvantages(NamedTuple):
    """Token advantages of a batch, and which responses take part in the update."""

    advantages_BT: FloatArray
    """Zero at padding."""
    counted_B: NDArray[np.bool_]
    """False for the responses of groups that `algorithm.group.filter` leaves out."""
    metrics: dict[str, float]


def group_advantages(
    credited: Sequence[TokenRewards],
    finals_B: FloatArray,
    rewards_BT: FloatArray,
    mask_BT: NDArray[np.bool_],
    algorithm: AlgorithmConfig,
) -> GroupAdvantages:
    """Advantages of `algorithm.name` from final scores and token rewards, by whole groups of consecutive rows.

    `rewards_BT` holds the token rewards with the KL penalty, where that is paid in the reward.
    """
    size = algorithm.group_size
    equal_B, std_B = spread(finals_B, size)
    scale_B = np.where(equal_B, 1.0, std_B) if algorithm.group.std else np.ones(len(finals_B))
    unshared = 0
    if algorithm.group.tokens == "to_go":
        to_go_BT = rewards_to_go(rewards_BT, mask_BT)
        advantages_BT = (to_go_BT - baseline(to_go_BT, size, others=algorithm.name != "grpo")) / scale_B[:, None]
    else:
        baseline_B = baseline(finals_B[:, None], size, others=algorithm.name != "grpo")[:, 0]
        advantages_BT = np.zeros(mask_BT.shape)
        for b, rewards in enumerate(credited):
            levels_T = levels(rewards)
            row_T = ordered_advantages(levels_T / len(levels_T), float(baseline_B[b]), float(scale_B[b]))
            if algorithm.group.tokens == "shared":
                advantage, shares_T = float((finals_B[b] - baseline_B[b]) / scale_B[b]), shares(levels_T)
                unshared += shares_T is None
                row_T = (
                    np.full(len(levels_T), advantage) if shares_T is None else shared_advantages(shares_T, advantage)
                )
            advantages_BT[b, : len(row_T)] = row_T
    metrics = {
        "group/std_mean": float(std_B.mean()),
        "group/equal_share": float(equal_B.mean()),
        **({"group/unshared_share": unshared / len(finals_B)} if algorithm.group.tokens == "shared" else {}),
    }
    counted_B = ~equal_B if algorithm.group.filter else np.ones(len(finals_B), dtype=np.bool_)
    return GroupAdvantages(np.where(mask_BT, advantages_BT, 0.0), counted_B, metrics)


def rewards_to_go(rewards_BT: FloatArray, mask_BT: NDArray[np.bool_]) -> FloatArray:
    """G_t = r_t + ... + r_T for every response; after its end, its last token's reward.

    Example: rewards 1, 2, 3 and one place of padding give 6, 5, 3, 3.
    """
    rewards_BT = np.where(mask_BT, rewards_BT, 0.0)
    to_go_BT = np.cumsum(rewards_BT[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(len(to_go_BT))
    return np.where(mask_BT, to_go_BT, to_go_BT[rows, mask_BT.sum(1) - 1][:, None])


def baseline(values_BX: FloatArray, size: int, *, others: bool) -> FloatArray:
    """For every row the mean over its group of `size` consecutive rows, or over the `others` of it."""
    groups = values_BX.reshape(-1, size, values_BX.shape[1])
    total = groups.sum(axis=1, keepdims=True)
    mean = (total - groups) / (size - 1) if others else np.broadcast_to(total / size, groups.shape)
    return mean.reshape(values_BX.shape)


def spread(finals_B: FloatArray, size: int) -> tuple[NDArray[np.bool_], FloatArray]:
    """For every row whether its group's rewards are all equal, and their population standard deviation."""
    groups = finals_B.reshape(-1, size)
    equal = np.ptp(groups, axis=1) <= EQUAL * (1.0 + np.abs(groups).max(axis=1))
    return np.repeat(equal, size), np.repeat(groups.std(axis=1), size)
