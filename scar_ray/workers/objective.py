"""What a learner rank minimises over a micro-batch, beside a critic's loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from scar_ray.config.schema import AlgorithmConfig
from scar_ray.objectives.ppo import Metrics, denominators, entropy_bonus, kl_loss, policy_loss
from scar_ray.trainer.protocols import Float32Array, PPOBatch
from scar_ray.workers.modeling import Outputs


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Counted tokens and responses of a mini-batch, over all ranks and micro-batches."""

    tokens: int
    responses: int


def policy_objective(
    output: Outputs,
    mask_RT: Tensor,
    part: PPOBatch,
    here: Callable[[Float32Array], Tensor],
    algorithm: AlgorithmConfig,
    whole: MiniBatch,
    max_new_tokens: int,
) -> tuple[Tensor, Metrics]:
    """The clipped surrogate, minus the entropy bonus, plus the KL penalty where it is part of the loss.

    `here` brings the micro-batch's rows of an array of `part` to the device of `output`.
    """
    denominator = denominators(
        algorithm.length_norm,
        mask_RT,
        tokens=whole.tokens,
        responses=whole.responses,
        max_new_tokens=max_new_tokens,
    )
    old_logprobs_RT = here(part.old_logprobs_BT)
    loss, metrics = policy_loss(
        output.logprobs_RT,
        old_logprobs_RT,
        here(part.advantages_BT),
        mask_RT,
        here(part.weights_BT),
        clip_range=algorithm.clip_range,
        log_ratio_clamp=algorithm.log_ratio_clamp,
        denominator=denominator,
    )
    assert output.entropy_RT is not None
    bonus, entropy = entropy_bonus(output.entropy_RT, mask_RT, denominator=denominator)
    metrics |= entropy
    if algorithm.entropy_coef:  # a term of weight 0 would still cost its backward pass
        loss = loss - algorithm.entropy_coef * bonus
    if part.ref_logprobs_BT is not None:
        penalty, divergence = kl_loss(
            output.logprobs_RT,
            old_logprobs_RT,
            here(part.ref_logprobs_BT),
            mask_RT,
            estimator=algorithm.kl.estimator,
            log_ratio_clamp=algorithm.log_ratio_clamp,
            denominator=denominator,
        )
        loss, metrics = loss + part.kl_coef * penalty, metrics | divergence
    return loss, metrics
