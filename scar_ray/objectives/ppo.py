"""The PPO losses (Schulman et al. 2017) on (B, T) tensors, right-padded, with boolean masks.

Every loss is a sum over tokens divided by an explicit `denominator`, a number for the whole mini-batch over all its
micro-batches and ranks, or one for each response, (B, 1), as `denominators` gives them. Losses of parts therefore
add up to the loss of the whole, and a token weighs the same however the mini-batch is split. Metrics are detached
sums over tokens, to be added over the parts and divided by the token count at the end, whatever the denominator; a
key that ends in `_max` is a maximum instead. What stands at padding is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scar_ray.objectives.kl import KLEstimator, k1, k2, k3

Metrics = dict[str, Tensor]


def denominators(
    length_norm: Literal["token", "response", "constant"],
    mask_BT: Tensor,
    *,
    tokens: int,
    responses: int,
    max_new_tokens: int,
) -> Tensor:
    """What each response's tokens are divided by, (B, 1), in a mini-batch of so many tokens and responses.

    "token": the mean over all tokens (DAPO); "response": the mean over the responses of the mean over each one's
    tokens (GRPO), so that a token of a long response weighs less; "constant": the sum over tokens divided by
    responses * max_new_tokens (Dr. GRPO), whose weights depend on no length.
    """
    lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1).to(torch.float32)
    if length_norm == "response":
        return lengths_B1 * responses
    return torch.full_like(lengths_B1, tokens if length_norm == "token" else responses * max_new_tokens)


def forbid_early_eos(logits_BTV: Tensor, eos_id: int, min_new_tokens: int) -> Tensor:
    """Logits with the EOS at -inf in the response positions t < min_new_tokens, as the engine samples them.

    Position t = 0 of `logits_BTV` must be the one that the first response token was sampled from.
    """
    if min_new_tokens == 0:
        return logits_BTV
    early_TV = torch.zeros(logits_BTV.shape[1:], dtype=torch.bool, device=logits_BTV.device)
    early_TV[:min_new_tokens, eos_id] = True
    return logits_BTV.masked_fill(early_TV, float("-inf"))


def token_logprobs(logits_BTV: Tensor, token_ids_BT: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) at the given tokens: (B, T), float32, nats.

    logits_BTV[:, t] are those that token t was sampled from. -inf logits have probability 0.
    """

    def part(logits_RTV: Tensor, token_ids_RT: Tensor) -> Tensor:
        tempered_RTV = logits_RTV.float() / temperature
        chosen_RT = tempered_RTV.gather(-1, token_ids_RT.unsqueeze(-1)).squeeze(-1)
        return chosen_RT - tempered_RTV.logsumexp(-1)

    return _in_parts(part, logits_BTV, token_ids_BT)


def token_entropy(logits_BTV: Tensor, temperature: float) -> Tensor:
    """Entropy of softmax(logits / temperature), what tokens are sampled from: (B, T), float32, nats.

    H = logsumexp(x) - sum_v p_v x_v; logits of -inf count 0, in the gradient too.
    """

    def part(logits_RTV: Tensor) -> Tensor:
        tempered_RTV = logits_RTV.float() / temperature
        p_RTV = tempered_RTV.softmax(-1)
        # p x is 0 * -inf = nan at a forbidden token, where its limit is 0.
        finite_RTV = tempered_RTV.masked_fill(tempered_RTV == float("-inf"), 0.0)
        return tempered_RTV.logsumexp(-1) - (p_RTV * finite_RTV).sum(-1)

    return _in_parts(part, logits_BTV)


PART_LOGITS = 2**20
"""Logits of the responses that are widened to float32 at a time, one response at least."""


def _in_parts(function: Callable[..., Tensor], logits_BTV: Tensor, *arrays_B: Tensor) -> Tensor:
    """Joins function(rows) over parts of the responses.

    Float32 copies of the logits exist for one part at a time only: they are made again in the backward
    pass, where keeping them would hold several (B, T, V) tensors.
    """
    rows = max(1, PART_LOGITS // logits_BTV[0].numel())
    parts = zip(*(torch.split(array, rows) for array in (logits_BTV, *arrays_B)), strict=True)
    if not (torch.is_grad_enabled() and logits_BTV.requires_grad):
        return torch.cat([function(*part) for part in parts])
    return torch.cat([checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    weights_BT: Tensor,
    *,
    clip_range: tuple[float, float],
    log_ratio_clamp: float,
    denominator: float | Tensor,
) -> tuple[Tensor, Metrics]:
    """Clipped surrogate (Schulman et al. 2017, equation 7):

        loss = -sum_t w_t * min(ratio_t A_t, clip(ratio_t, low, high) A_t) / denominator
        ratio_t = exp(clamp(log pi(a_t) - log pi_old(a_t), -log_ratio_clamp, log_ratio_clamp))

    clip_range is (low, high), 1 -+ clip in PPO; a larger high than that ("clip-higher", DAPO, arXiv 2503.14476) leaves
    unlikely tokens more room to grow.

    w are importance weights, ones without the correction. At ratio 1 the gradient is the policy gradient,
    -sum_t w_t A_t grad log pi(a_t) / denominator.

    Metrics: policy_loss (the sum above, undivided); clip_fraction, tokens whose clipped branch is the smaller
    one; approx_kl, k3 = ratio - 1 - log ratio, an estimate of KL(pi_old || pi) (nats); ratio; ratio_max.
    """
    log_ratio_BT = _log_ratio(logprobs_BT, old_logprobs_BT, mask_BT, log_ratio_clamp)
    ratio_BT = log_ratio_BT.exp()
    advantages_BT = advantages_BT.masked_fill(~mask_BT, 0.0)
    plain_BT = ratio_BT * advantages_BT
    clipped_BT = ratio_BT.clamp(*clip_range) * advantages_BT
    losses_BT = -weights_BT.masked_fill(~mask_BT, 0.0) * torch.minimum(plain_BT, clipped_BT)
    with torch.no_grad():
        metrics = {
            "policy_loss": losses_BT.sum(),
            "clip_fraction": (clipped_BT < plain_BT).sum().float(),
            "approx_kl": (log_ratio_BT.expm1() - log_ratio_BT).sum(),
            "ratio": ratio_BT[mask_BT].sum(),
            "ratio_max": ratio_BT.masked_fill(~mask_BT, 0.0).max(),
        }
    return (losses_BT / denominator).sum(), metrics


def _log_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor, clamp: float) -> Tensor:
    return (logprobs_BT - old_logprobs_BT).masked_fill(~mask_BT, 0.0).clamp(-clamp, clamp)


def kl_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    mask_BT: Tensor,
    *,
    estimator: KLEstimator,
    log_ratio_clamp: float,
    denominator: float | Tensor,
) -> tuple[Tensor, Metrics]:
    """sum_t k_t / denominator, an estimate of the divergence from the reference that is differentiated itself.

    With d = log pi(a) - log ref(a), tokens sampled from pi_old and ratio = pi / pi_old, at ratio 1 the expected
    gradients are (for one token, and its state held fixed)

    | estimator | k_t              | gradient            | which is that of            |
    |-----------|------------------|---------------------|-----------------------------|
    | k1        | ratio * d        | (d + 1) grad log pi | KL(pi || ref), exactly      |
    | k2        | d^2 / 2          | d grad log pi       | KL(pi || ref), exactly      |
    | k3        | exp(-d) - 1 + d  | (1 - exp(-d)) grad log pi | KL(ref || pi) (GRPO's choice) |

    k1 carries the ratio because the gradient of d alone is grad log pi, whose mean is zero: it would pull nowhere.
    With it k1 stays right away from ratio 1 too, as far as `log_ratio_clamp`; k2 and k3 then speak of tokens of pi_old.

    Metrics: kl_loss (the sum, undivided).
    """
    logprobs_BT = logprobs_BT.masked_fill(~mask_BT, 0.0)
    ref_logprobs_BT = ref_logprobs_BT.masked_fill(~mask_BT, 0.0)
    if estimator == "k1":
        ratio_BT = _log_ratio(logprobs_BT, old_logprobs_BT, mask_BT, log_ratio_clamp).exp()
        losses_BT = ratio_BT * k1(logprobs_BT, ref_logprobs_BT)
    else:
        losses_BT = (k2 if estimator == "k2" else k3)(logprobs_BT, ref_logprobs_BT)
    return (losses_BT / denominator).sum(), {"kl_loss": losses_BT.detach().sum()}


def value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float | None,
    denominator: float,
) -> tuple[Tensor, Metrics]:
    """Clipped squared error of the critic:

        loss = sum_t 0.5 * max((V_t - R_t)^2, (V_clip_t - R_t)^2) / denominator
        V_clip_t = clip(V_t, V_old_t - clip, V_old_t + clip)

    Without `clip`: sum_t 0.5 * (V_t - R_t)^2 / denominator.

    Metrics: value_loss (the sum above, undivided); value_error, squared errors before clipping;
    value_clip_fraction, tokens whose clipped error is the larger one.
    """
    values_BT = values_BT.masked_fill(~mask_BT, 0.0)
    old_values_BT = old_values_BT.masked_fill(~mask_BT, 0.0)
    returns_BT = returns_BT.masked_fill(~mask_BT, 0.0)
    error_BT = worst_BT = (values_BT - returns_BT) ** 2
    if clip is not None:
        near_BT = torch.clamp(values_BT, old_values_BT - clip, old_values_BT + clip)
        worst_BT = torch.maximum(error_BT, ((near_BT - returns_BT) ** 2).masked_fill(~mask_BT, 0.0))
    total = 0.5 * worst_BT.sum()
    with torch.no_grad():
        metrics = {
            "value_loss": total.detach(),
            "value_error": error_BT.sum(),
            "value_clip_fraction": (worst_BT > error_BT).sum().float(),
        }
    return total / denominator, metrics


def entropy_bonus(entropy_BT: Tensor, mask_BT: Tensor, *, denominator: float | Tensor) -> tuple[Tensor, Metrics]:
    """sum_t H_t / denominator, subtracted from the loss with a coefficient. Metrics: entropy (undivided)."""
    entropy_BT = entropy_BT.masked_fill(~mask_BT, 0.0)
    return (entropy_BT / denominator).sum(), {"entropy": entropy_BT.detach().sum()}


def combine_metrics(parts: Sequence[Metrics]) -> Metrics:
    """Metrics of a mini-batch from those of its micro-batches or ranks: sums added, `_max` by maximum."""
    stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    return {name: x.max() if name.endswith("_max") else x.sum() for name, x in stacked.items()}
