"""Losses of algorithms without a critic: length normalisation, clip-higher, the KL penalty and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference_ppo import ReferencePPO
from test_reference_ppo import EOS, SAMPLING, SEQUENCES, batch_for, padded_tensors, tiny_llama

from scar_ray.config.schema import AlgorithmConfig
from scar_ray.objectives.ppo import (
    combine_metrics,
    denominators,
    entropy_bonus,
    forbid_early_eos,
    kl_loss,
    policy_loss,
    token_entropy,
    token_logprobs,
)

MASK = torch.tensor([[True, True, True, True], [True, False, False, False]])


@pytest.mark.parametrize(
    ("norm", "expected"),
    [("token", [[5.0], [5.0]]), ("response", [[8.0], [2.0]]), ("constant", [[20.0], [20.0]])],
)
def test_what_tokens_are_divided_by(norm, expected):
    """A response of four tokens and one of one token; at most ten are sampled."""
    found = denominators(norm, MASK, tokens=5, responses=2, max_new_tokens=10)
    assert found.tolist() == expected


def test_each_normalisation_by_hand():
    """Losses of 1 a token in the long response and 3 in the short one: 7/5, (1 + 3)/2 and 7/20."""
    advantages = -torch.tensor([[1.0] * 4, [3.0, 0.0, 0.0, 0.0]])
    zeros, ones = torch.zeros(2, 4), torch.ones(2, 4)
    for norm, expected in (("token", 1.4), ("response", 2.0), ("constant", 0.35)):
        denominator = denominators(norm, MASK, tokens=5, responses=2, max_new_tokens=10)
        loss, metrics = policy_loss(
            zeros,
            zeros,
            advantages,
            MASK,
            ones,
            clip_range=(0.8, 1.2),
            log_ratio_clamp=20.0,
            denominator=denominator,
        )
        assert loss.item() == pytest.approx(expected)
        assert metrics["policy_loss"].item() == pytest.approx(7.0)


def test_clip_higher_leaves_good_tokens_more_room_and_bad_ones_none():
    """Ratios 1.25 and 1.5 with clip 0.2 below and 0.28 above."""
    logprobs = torch.log(torch.tensor([[1.25, 1.5, 0.5]])).requires_grad_()
    advantages, ones = torch.tensor([[1.0, 1.0, -1.0]]), torch.ones(1, 3)
    config = AlgorithmConfig.model_validate({"clip": 0.2, "clip_high": 0.28})
    loss, metrics = policy_loss(
        logprobs,
        torch.zeros(1, 3),
        advantages,
        ones.bool(),
        ones,
        clip_range=config.clip_range,
        log_ratio_clamp=20.0,
        denominator=1,
    )
    assert loss.item() == pytest.approx(-(1.25 + 1.28 - 0.8))
    assert metrics["clip_fraction"].item() == 2
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, torch.tensor([[-1.25, 0.0, 0.0]]))


def test_the_kl_loss_by_hand():
    """d is log 2 and -log 2, the first token twice as likely as when it was sampled; the third place is padding."""
    log2 = math.log(2.0)
    mask = torch.tensor([[True, True, False]])
    logprobs, ref = torch.tensor([[-1.0, -2.0, 5.0]]), torch.tensor([[-1.0 - log2, -2.0 + log2, float("nan")]])
    old = torch.tensor([[-1.0 - log2, -2.0, 9.0]])
    for estimator, expected in (("k1", 2 * log2 - log2), ("k2", log2**2), ("k3", 0.5 - 1 + log2 + 2 - 1 - log2)):
        loss, metrics = kl_loss(logprobs, old, ref, mask, estimator=estimator, log_ratio_clamp=20.0, denominator=4)
        assert metrics["kl_loss"].item() == pytest.approx(expected, rel=1e-6)
        assert loss.item() == pytest.approx(expected / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("estimator", "on_policy", "divergence"),
    [
        ("k1", True, "KL(pi || ref)"),
        ("k1", False, "KL(pi || ref)"),
        ("k2", True, "KL(pi || ref)"),
        ("k3", True, "KL(ref || pi)"),
    ],
)
def test_the_expected_gradient_is_that_of_the_divergence(estimator, on_policy, divergence):
    """Exact expectation over a vocabulary of five; off the policy, tokens come from another distribution."""
    generator = torch.Generator().manual_seed(3)
    theta, other, ref = (torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(3))
    theta.requires_grad_()
    log_p, log_ref = theta.log_softmax(0), ref.log_softmax(0)
    log_old = log_p.detach() if on_policy else other.log_softmax(0)
    expected_loss = 0.0
    for token in range(5):
        one, _ = kl_loss(
            log_p[None, None, token],
            log_old[None, None, token],
            log_ref[None, None, token],
            torch.ones(1, 1, dtype=torch.bool),
            estimator=estimator,
            log_ratio_clamp=20.0,
            denominator=1,
        )
        expected_loss = expected_loss + log_old[token].exp() * one
    (gradient,) = torch.autograd.grad(expected_loss, theta, retain_graph=True)
    forward = (log_p.exp() * (log_p - log_ref)).sum()
    backward = (log_ref.exp() * (log_ref - log_p)).sum()
    (exact,) = torch.autograd.grad(forward if divergence == "KL(pi || ref)" else backward, theta)
    torch.testing.assert_close(gradient, exact)


def test_d_alone_would_pull_nowhere():
    """Why k1 carries the ratio: the mean gradient of log pi - log ref over tokens of pi is zero."""
    theta = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    log_p = theta.log_softmax(0)
    (gradient,) = torch.autograd.grad((log_p.detach().exp() * log_p).sum(), theta)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), atol=1e-15, rtol=0)


@pytest.mark.parametrize("norm", ["token", "response", "constant"])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_losses_and_gradients_equal_those_of_the_plain_grpo_in_any_parts(norm, estimator):
    algorithm = AlgorithmConfig.model_validate(
        {
            "name": "grpo",
            "clip_high": 0.3,
            "length_norm": norm,
            "entropy_coef": 0.01,
            "kl": {"place": "loss", "estimator": estimator},
            "batch": {"prompts": 3, "samples": 2, "minibatch": 3},
        }
    )
    plain = ReferencePPO(tiny_llama(0), None, tiny_llama(3), algorithm, SAMPLING, EOS)
    batch = batch_for(plain)
    loss, metrics = plain.loss(batch, [0, 1, 2], True)
    gradients = torch.autograd.grad(loss, list(plain.policy.parameters()))

    mask, (logits, tokens, _) = torch.from_numpy(SEQUENCES.mask_BT), padded_tensors(plain)
    logits = forbid_early_eos(logits, EOS, SAMPLING.min_new_tokens)
    logprobs = token_logprobs(logits, tokens, SAMPLING.temperature)
    entropy = token_entropy(logits, SAMPLING.temperature)
    total, sums = 0.0, []
    for rows in (slice(0, 1), slice(1, 3)):
        old, advantages, weights, ref = (
            torch.from_numpy(x)[rows]
            for x in (batch.old_logprobs_BT, batch.advantages_BT, batch.weights_BT, batch.ref_logprobs_BT)
        )
        denominator = denominators(
            norm, mask[rows], tokens=int(mask.sum()), responses=3, max_new_tokens=SAMPLING.max_new_tokens
        )
        policy, one = policy_loss(
            logprobs[rows],
            old,
            advantages,
            mask[rows],
            weights,
            clip_range=(0.8, 1.3),
            log_ratio_clamp=20.0,
            denominator=denominator,
        )
        bonus, two = entropy_bonus(entropy[rows], mask[rows], denominator=denominator)
        penalty, three = kl_loss(
            logprobs[rows],
            old,
            ref,
            mask[rows],
            estimator=estimator,
            log_ratio_clamp=20.0,
            denominator=denominator,
        )
        total = total + policy - 0.01 * bonus + batch.kl_coef * penalty
        sums.append(one | two | three)
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=1e-6)
    for gradient, other in zip(gradients, torch.autograd.grad(total, list(plain.policy.parameters())), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)
    for name, value in metrics.items():
        assert value == pytest.approx(float(combine_metrics(sums)[name]) / int(mask.sum()), abs=1e-5), name
    assert np.isfinite(loss.item())
