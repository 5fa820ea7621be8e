import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.objectives import ppo
from scar_ray.objectives.ppo import (
    combine_metrics,
    entropy_bonus,
    forbid_early_eos,
    policy_loss,
    token_entropy,
    token_logprobs,
    value_loss,
)

LOG2 = math.log(2.0)
CLIPPED = {"clip_range": (0.8, 1.2), "log_ratio_clamp": 20.0}


def tensors(seed, *shape, count=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(count)]


def ragged_mask(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def test_token_logprobs_divide_the_logits_by_the_temperature():
    # Temperature 0.5 doubles log 2 and log 3: probabilities 1, 4 and 9 out of 14.
    logits = torch.tensor([[[0.0, LOG2, math.log(3.0)]]]).expand(1, 2, 3)
    result = token_logprobs(logits, torch.tensor([[1, 2]]), 0.5)
    torch.testing.assert_close(result, torch.tensor([[math.log(4 / 14), math.log(9 / 14)]]))


def test_entropy_is_that_of_the_tempered_distribution():
    logits = torch.tensor([[[0.0, 2 * LOG2], [5.0, 5.0]]])
    p = 2 / 3  # temperature 2 leaves log 2
    expected = torch.tensor([[-p * math.log(p) - (1 - p) * math.log(1 - p), LOG2]])
    torch.testing.assert_close(token_entropy(logits, 2.0), expected)


def test_logprobs_and_entropy_of_bfloat16_logits_are_float32():
    logits = tensors(0, 2, 3, 11, dtype=torch.float32)[0].bfloat16()
    ids = torch.zeros(2, 3, dtype=torch.long)
    torch.testing.assert_close(
        token_logprobs(logits, ids, 1.0), token_logprobs(logits.float(), ids, 1.0), rtol=0, atol=0
    )
    assert token_logprobs(logits, ids, 1.0).dtype == token_entropy(logits, 1.0).dtype == torch.float32


def test_gradients_of_logprobs_and_entropy_equal_those_of_plain_log_softmax():
    logits = tensors(1, 3, 4, 7, dtype=torch.float32)[0].requires_grad_()
    ids = torch.arange(12).reshape(3, 4) % 7
    factors, more = tensors(2, 3, 4, count=2, dtype=torch.float32)
    ours = (factors * token_logprobs(logits, ids, 0.7)).sum() + (more * token_entropy(logits, 0.7)).sum()
    (gradient,) = torch.autograd.grad(ours, logits)
    log_p = torch.log_softmax(logits / 0.7, -1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    plain = (factors * log_p.gather(-1, ids[..., None])[..., 0]).sum() + (more * entropy).sum()
    (expected,) = torch.autograd.grad(plain, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_the_parts_that_logits_are_widened_in_change_nothing(monkeypatch):
    logits = tensors(4, 5, 3, 6, dtype=torch.float32)[0].requires_grad_()
    ids = torch.arange(15).reshape(5, 3) % 6
    factors = tensors(5, 5, 3, dtype=torch.float32)[0]

    def computed():
        logprobs, entropy = token_logprobs(logits, ids, 0.7), token_entropy(logits, 0.7)
        return logprobs, entropy, torch.autograd.grad((factors * (logprobs + entropy)).sum(), logits)[0]

    whole = computed()
    for part_logits in (1, 2 * logits[0].numel()):
        monkeypatch.setattr(ppo, "PART_LOGITS", part_logits)
        for expected, found in zip(whole, computed(), strict=True):
            assert torch.equal(expected, found)


def test_an_early_eos_is_impossible_and_the_rest_is_renormalised():
    logits = torch.zeros(1, 3, 4)
    forbidden = forbid_early_eos(logits, eos_id=2, min_new_tokens=2)
    expected = torch.tensor([[math.log(1 / 3), math.log(1 / 3), math.log(1 / 4)]])
    torch.testing.assert_close(token_logprobs(forbidden, torch.tensor([[0, 3, 2]]), 1.0), expected)
    torch.testing.assert_close(token_entropy(forbidden, 1.0), -expected)
    assert token_logprobs(forbidden, torch.tensor([[2, 2, 2]]), 1.0).tolist()[0][:2] == [-math.inf, -math.inf]


def test_gradients_stay_finite_where_the_eos_is_forbidden():
    logits = tensors(3, 2, 4, 5, dtype=torch.float32)[0].requires_grad_()
    forbidden = forbid_early_eos(logits, eos_id=0, min_new_tokens=3)
    total = (
        token_logprobs(forbidden, torch.ones(2, 4, dtype=torch.long), 1.3).sum() + token_entropy(forbidden, 1.3).sum()
    )
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient.isfinite().all()
    assert (gradient[:, :3, 0] == 0).all()
    assert (gradient[:, 3, 0] != 0).all()


def test_no_minimum_length_leaves_the_logits_alone():
    logits = torch.zeros(1, 2, 3)
    assert forbid_early_eos(logits, 0, 0) is logits


def test_the_policy_loss_by_hand():
    # Ratios 2, 1/2, 1, 2 and 1.1 with clip 0.2; the last column is padding.
    ratios = torch.tensor([[2.0, 0.5, 1.0], [2.0, 1.1, 7.0]])
    advantages = torch.tensor([[1.0, -1.0, 3.0], [-1.0, 2.0, 1e9]])
    mask = ragged_mask(3, 2)
    weights = torch.tensor([[1.0, 0.5, 1.0], [1.0, 2.0, 5.0]])
    old = torch.full((2, 3), -3.0)
    loss, metrics = policy_loss(old + ratios.log(), old, advantages, mask, weights, **CLIPPED, denominator=10)
    # min branches: 1.2 (clipped), -0.8 (clipped), 3, -2 (not clipped), 2.2
    assert loss.item() == pytest.approx(-(1.2 - 0.5 * 0.8 + 3.0 - 2.0 + 2.0 * 2.2) / 10, rel=1e-6)
    assert metrics["policy_loss"].item() == pytest.approx(-6.2, rel=1e-6)
    assert metrics["clip_fraction"].item() == 2
    assert metrics["ratio"].item() == pytest.approx(2 + 0.5 + 1 + 2 + 1.1, rel=1e-6)
    assert metrics["ratio_max"].item() == pytest.approx(2.0, rel=1e-6)
    k3 = sum(r - 1 - math.log(r) for r in (2, 0.5, 1, 2, 1.1))
    assert metrics["approx_kl"].item() == pytest.approx(k3, rel=1e-5)
    assert not any(value.requires_grad for value in metrics.values())


def test_at_ratio_one_the_gradient_is_the_policy_gradient():
    logprobs, advantages, weights = tensors(4, 3, 5, count=3)
    logprobs.requires_grad_()
    mask = ragged_mask(5, 2, 4)
    loss, _ = policy_loss(logprobs, logprobs.detach(), advantages, mask, weights, **CLIPPED, denominator=11)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, -weights * advantages * mask / 11)


def test_a_clipped_token_has_no_gradient_and_one_that_moves_back_has():
    logprobs = torch.log(torch.tensor([[1.5, 1.5, 0.5, 0.5]])).requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    ones = torch.ones(1, 4)
    loss, _ = policy_loss(logprobs, torch.zeros(1, 4), advantages, ones.bool(), ones, **CLIPPED, denominator=1)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.5, -0.5, 0.0]]))


def test_the_log_ratio_is_clamped_before_it_is_exponentiated():
    ones = torch.ones(1, 1)
    loss, metrics = policy_loss(
        torch.zeros(1, 1), torch.full((1, 1), -500.0), -ones, ones.bool(), ones, **CLIPPED, denominator=1
    )
    assert loss.item() == pytest.approx(math.exp(20.0), rel=1e-5)
    assert metrics["ratio_max"].item() == pytest.approx(math.exp(20.0), rel=1e-5)


def test_the_value_loss_by_hand():
    values, old = torch.tensor([[1.0, 2.0, 0.0, 9.0]]), torch.tensor([[0.0, 2.1, 0.5, 0.0]])
    returns, mask = torch.tensor([[1.0, 3.0, -1.0, 0.0]]), ragged_mask(3, 4)[:1]
    # Clipped values 0.2, 2, 0.3: errors max(0, 0.64), max(1, 1), max(1, 1.69).
    loss, metrics = value_loss(values, old, returns, mask, clip=0.2, denominator=4)
    assert loss.item() == pytest.approx(0.5 * (0.64 + 1.0 + 1.69) / 4, rel=1e-6)
    assert metrics["value_loss"].item() == pytest.approx(0.5 * 3.33, rel=1e-6)
    assert metrics["value_error"].item() == pytest.approx(2.0, rel=1e-6)
    assert metrics["value_clip_fraction"].item() == 2
    plain, metrics = value_loss(values, old, returns, mask, clip=None, denominator=4)
    assert plain.item() == pytest.approx(0.25, rel=1e-6)
    assert metrics["value_clip_fraction"].item() == 0


def test_the_entropy_bonus_is_the_masked_sum_over_the_denominator():
    bonus, metrics = entropy_bonus(torch.tensor([[1.0, 2.0], [4.0, 8.0]]), ragged_mask(2, 1), denominator=14)
    assert (bonus.item(), metrics["entropy"].item()) == (0.5, 7.0)


def all_losses(seed, lengths, denominator, rows=slice(None)):
    """Loss, gradients for log-probs, values and entropy, and metrics, of some rows of a random batch."""
    logprobs, old, advantages, weights, values, old_values, returns, entropy = tensors(
        seed, len(lengths), max(lengths), count=8
    )
    mask = ragged_mask(*lengths)[rows]
    leaves = [x[rows].clone().requires_grad_() for x in (logprobs, values, entropy)]
    policy, policy_metrics = policy_loss(
        leaves[0], old[rows], advantages[rows], mask, weights.abs()[rows], **CLIPPED, denominator=denominator
    )
    value, value_metrics = value_loss(
        leaves[1], old_values[rows], returns[rows], mask, clip=0.2, denominator=denominator
    )
    bonus, bonus_metrics = entropy_bonus(leaves[2], mask, denominator=denominator)
    loss = policy + 0.1 * value - 0.01 * bonus
    return loss, torch.autograd.grad(loss, leaves), policy_metrics | value_metrics | bonus_metrics


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 6), min_size=2, max_size=6), st.data())
def test_micro_batches_add_up_to_the_whole_mini_batch(seed, lengths, data):
    cut = data.draw(st.integers(1, len(lengths) - 1))
    loss, gradients, metrics = all_losses(seed, lengths, sum(lengths))
    parts = [all_losses(seed, lengths, sum(lengths), rows) for rows in (slice(0, cut), slice(cut, None))]
    torch.testing.assert_close(parts[0][0] + parts[1][0], loss)
    for name, whole in combine_metrics([part[2] for part in parts]).items():
        torch.testing.assert_close(whole, metrics[name], msg=name)
    for i, gradient in enumerate(gradients):
        torch.testing.assert_close(torch.cat([part[1][i] for part in parts]), gradient)


def test_what_stands_at_the_padding_changes_neither_losses_nor_gradients():
    mask = ragged_mask(2, 4)
    clean = tensors(6, 2, 4, count=7)
    dirty = [x.masked_fill(~mask, math.nan) for x in clean]
    results = []
    for logprobs, old, advantages, values, old_values, returns, entropy in (clean, dirty):
        leaves = [x.clone().requires_grad_() for x in (logprobs, values, entropy)]
        policy, first = policy_loss(leaves[0], old, advantages, mask, torch.ones(2, 4), **CLIPPED, denominator=6)
        value, second = value_loss(leaves[1], old_values, returns, mask, clip=0.2, denominator=6)
        bonus, third = entropy_bonus(leaves[2], mask, denominator=6)
        gradients = torch.autograd.grad(policy + value + bonus, leaves)
        assert all((gradient[~mask] == 0).all() for gradient in gradients)
        results.append([policy, value, bonus, *gradients, *(first | second | third).values()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_metrics_of_parts_are_added_and_maxima_maximised():
    parts = [{"ratio": torch.tensor(r), "ratio_max": torch.tensor(m)} for r, m in ((2.0, 1.5), (3.0, 1.25))]
    assert {k: v.item() for k, v in combine_metrics(parts).items()} == {"ratio": 5.0, "ratio_max": 1.5}
