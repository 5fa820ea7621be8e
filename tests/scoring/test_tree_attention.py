"""Attention in parts, put together by log-sum-exps, is attention to all of the parts."""

from __future__ import annotations

import pytest
import torch

from scar_ray.scoring.engines.attention import Attended, Scores, attend, merged

PLAIN, CAPPED = Scores(0.3), Scores(0.3, softcap=2.0)


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, how: Scores) -> Attended:
    """From the definition, in float64."""
    scores = query.double() @ key.double().transpose(-1, -2) * how.scale
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    scores = scores + bias.double()
    return torch.softmax(scores, -1) @ value.double(), torch.logsumexp(scores, -1)


def tensors(keys: int, queries: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, size, 8) * 2 for size in (queries, keys, keys))
    bias = torch.zeros(2, 1, queries, keys).masked_fill_(torch.rand(2, 1, queries, keys) < 0.4, -1e30)
    bias[..., -1] = 0.0
    return query, key, value, bias


def assert_same(found: Attended, expected: Attended) -> None:
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", [PLAIN, CAPPED])
def test_attention_and_its_logsumexp(how: Scores) -> None:
    query, key, value, bias = tensors(9)
    assert_same(attend(query, key, value, bias, how), reference(query, key, value, bias, how))
    assert_same(attend(query, key, value, None, how), reference(query, key, value, torch.zeros(()), how))


@pytest.mark.parametrize("how", [PLAIN, CAPPED])
def test_causal_attention(how: Scores) -> None:
    query, key, value, _ = tensors(6)
    later = torch.full((6, 6), float("-inf")).triu(1)
    assert_same(attend(query, key, value, None, how, causal=True), reference(query, key, value, later, how))


@pytest.mark.parametrize("how", [PLAIN, CAPPED])
def test_parts_put_together_are_the_whole(how: Scores) -> None:
    query, key, value, bias = tensors(12)
    first = attend(query, key[:, :, :5], value[:, :, :5], None, how)
    second = attend(query, key[:, :, 5:], value[:, :, 5:], bias[..., 5:], how)
    bias[..., :5] = 0.0
    assert_same(merged(first, second), reference(query, key, value, bias, how))
