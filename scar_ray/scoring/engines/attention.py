"""Attention with its log-sum-exp: parts of the keys can be attended to apart and put together afterwards.

With l = logsumexp of a query's scores over one set of keys and o the attention to them, the attention to the union of
two disjoint sets is o1 + (o2 - o1) * sigmoid(l2 - l1), l = logaddexp(l1, l2).

Shapes: B batch, G key heads, M queries (of all query heads that share a key head, one head after the other), K keys,
D size of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

Attended = tuple[torch.Tensor, torch.Tensor]
"""Attention (..., M, D) and its log-sum-exp (..., M)."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How a layer's attention scores are made of queries and keys: softcap * tanh(scale * q.k / softcap)."""

    scale: float
    softcap: float | None = None


def attend(
    query_BGMD: torch.Tensor,
    key_BGKD: torch.Tensor,
    value_BGKD: torch.Tensor,
    bias_B1MK: torch.Tensor | None,
    how: Scores,
    *,
    causal: bool = False,
) -> Attended:
    """Attention (B, G, M, D) and its log-sum-exp (B, G, M); `bias` is added to the scores.

    `causal` is for M = K: query m attends to the keys up to its own. Fused kernels of the device where it has them.
    """
    if how.softcap is not None:
        return _plain(query_BGMD, key_BGKD, value_BGKD, bias_B1MK, how, causal=causal)
    inputs = (query_BGMD, key_BGKD, value_BGKD)
    if query_BGMD.device.type == "cpu":
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            *inputs, 0.0, causal, attn_mask=bias_B1MK, scale=how.scale
        )
        return found[0], found[1]
    if bias_B1MK is None and query_BGMD.element_size() == 2:
        found = torch.ops.aten._scaled_dot_product_flash_attention(*inputs, 0.0, causal, False, scale=how.scale)
        return found[0], found[1]
    batch, heads, queries, _ = query_BGMD.shape
    bias = None if bias_B1MK is None else bias_B1MK.expand(batch, heads, -1, -1)
    found = torch.ops.aten._scaled_dot_product_efficient_attention(*inputs, bias, True, 0.0, causal, scale=how.scale)
    return found[0], found[1][:, :, :queries]


def _plain(
    query_BGMD: torch.Tensor,
    key_BGKD: torch.Tensor,
    value_BGKD: torch.Tensor,
    bias_B1MK: torch.Tensor | None,
    how: Scores,
    *,
    causal: bool,
) -> Attended:
    """The same from its definition, for what no fused kernel computes."""
    scores_BGMK = (query_BGMD @ key_BGKD.transpose(-1, -2)).float() * how.scale
    if how.softcap is not None:
        scores_BGMK = how.softcap * torch.tanh(scores_BGMK / how.softcap)
    if bias_B1MK is not None:
        scores_BGMK += bias_B1MK
    if causal:
        later_MK = torch.ones(scores_BGMK.shape[-2:], dtype=torch.bool, device=scores_BGMK.device).triu(1)
        scores_BGMK.masked_fill_(later_MK, float("-inf"))
    logsumexp_BGM = torch.logsumexp(scores_BGMK, -1)
    weights_BGMK = torch.exp(scores_BGMK - logsumexp_BGM[..., None]).to(value_BGKD.dtype)
    return weights_BGMK @ value_BGKD, logsumexp_BGM


def merged(first: Attended, second: Attended) -> Attended:
    """Attention to the union of two disjoint sets of keys, from the attention to each."""
    (one, logsumexp_one), (two, logsumexp_two) = first, second
    share = torch.sigmoid(logsumexp_two.float() - logsumexp_one.float())[..., None]
    return torch.lerp(one.float(), two.float(), share).to(one.dtype), torch.logaddexp(logsumexp_one, logsumexp_two)
