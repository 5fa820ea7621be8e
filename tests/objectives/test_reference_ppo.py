"""The reference PPO against scar_ray.objectives: two independent writings of one algorithm."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_ppo import ReferencePPO

from scar_ray.config.schema import AlgorithmConfig, Sampling
from scar_ray.objectives.ppo import (
    entropy_bonus,
    forbid_early_eos,
    policy_loss,
    token_entropy,
    token_logprobs,
    value_loss,
)
from scar_ray.trainer.protocols import PPOBatch, Sequences

EOS = 1
SEQUENCES = Sequences(
    prompt_ids=((5, 6, 7), (8, 9), (10, 11, 12, 13)),
    response_ids=((20, 21, 22, 23, EOS), (30, 31, 32), (40, 41, 42, EOS)),
)
SAMPLING = Sampling(min_new_tokens=2, max_new_tokens=8, temperature=0.7)


class Critic(torch.nn.Module):
    """(1, L) token ids -> (1, L) values."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.head = trunk, torch.nn.Linear(32, 1)

    def forward(self, ids):
        return self.head(self.trunk(input_ids=ids).last_hidden_state)[..., 0]


def tiny_llama(seed):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.2,  # far from uniform
        attention_dropout=0.5,  # must be off
    )
    return LlamaForCausalLM(config)


def algorithm(**changes):
    base = {"entropy_coef": 0.01, "optimizer": {"lr": 1e-2}, "batch": {"prompts": 3, "minibatch": 3}}
    return AlgorithmConfig.model_validate(base | changes)


def build(kind="shared", **changes):
    policy = tiny_llama(0)
    torch.manual_seed(1)
    critic = torch.nn.Linear(32, 1) if kind == "shared" else Critic(tiny_llama(2).model)
    critic_config = {"kind": kind, "lr": 1e-2, "coef": 0.3, "clip": 0.2}
    settings = algorithm(**{"critic": critic_config} | changes)
    return ReferencePPO(policy, critic, tiny_llama(3), settings, SAMPLING, EOS)


def batch_for(ppo, seed=0):
    """A batch in which old and new policy and critic differ, so that clipping is active."""
    rng = np.random.default_rng(seed)
    forward, mask, in_loss = ppo.forward(SEQUENCES), SEQUENCES.mask_BT, ppo.algorithm.kl.place == "loss"

    def noise(scale):
        return np.where(mask, scale * rng.normal(size=mask.shape), 0).astype(np.float32)

    return PPOBatch(
        sequences=SEQUENCES,
        old_logprobs_BT=forward.logprobs_BT + noise(0.3),
        old_values_BT=None if ppo.critic is None else forward.values_BT + noise(0.3),
        advantages_BT=noise(1.0),
        returns_BT=None if ppo.critic is None else forward.values_BT + noise(1.0),
        weights_BT=np.where(mask, rng.uniform(0.5, 1.5, mask.shape), 1).astype(np.float32),
        lr_scale=1.0,
        counted_B=np.ones(3, dtype=bool),
        ref_logprobs_BT=forward.ref_logprobs_BT if in_loss else None,
        kl_coef=0.2 if in_loss else 0.0,
    )


def padded_tensors(ppo):
    """Logits that predict the response tokens, their ids and their values, from one right-padded forward."""
    sequences = SEQUENCES
    rows = [torch.tensor(p + r) for p, r in zip(sequences.prompt_ids, sequences.response_ids, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=EOS)
    lengths = torch.tensor([len(row) for row in rows])
    attention = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    output = ppo.policy(input_ids=ids, attention_mask=attention, output_hidden_states=True)
    if ppo.critic is None:
        values = torch.zeros(ids.shape)
    else:
        values = ppo.critic(output.hidden_states[-1])[..., 0] if ppo.shared else ppo.critic(ids)
    starts = torch.tensor([len(p) for p in sequences.prompt_ids])
    at = (starts[:, None] - 1 + torch.arange(max(sequences.lengths))).clamp(max=ids.shape[1] - 2)
    b = torch.arange(len(rows))[:, None]
    return output.logits[b, at], ids[b, at + 1], values[b, at]


def objectives_loss(ppo, batch):
    config, mask = ppo.algorithm, torch.from_numpy(SEQUENCES.mask_BT)
    logits, tokens, values = padded_tensors(ppo)
    logits = forbid_early_eos(logits, EOS, SAMPLING.min_new_tokens)
    old, advantages, weights, old_values, returns = (
        torch.from_numpy(x)
        for x in (
            batch.old_logprobs_BT,
            batch.advantages_BT,
            batch.weights_BT,
            batch.old_values_BT,
            batch.returns_BT,
        )
    )
    n = int(mask.sum())
    policy, metrics = policy_loss(
        token_logprobs(logits, tokens, SAMPLING.temperature),
        old,
        advantages,
        mask,
        weights,
        clip_range=config.clip_range,
        log_ratio_clamp=config.log_ratio_clamp,
        denominator=n,
    )
    value, more = value_loss(values, old_values, returns, mask, clip=config.critic.clip, denominator=n)
    bonus, rest = entropy_bonus(token_entropy(logits, SAMPLING.temperature), mask, denominator=n)
    coef = config.critic.coef if ppo.shared else 1.0
    return policy + coef * value - config.entropy_coef * bonus, metrics | more | rest, n


def parameters(ppo):
    return [*ppo.policy.parameters(), *ppo.critic.parameters()]


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_losses_gradients_and_metrics_equal_those_of_the_objectives(kind):
    ppo = build(kind)
    batch = batch_for(ppo)
    loss, metrics = ppo.loss(batch, [0, 1, 2], True)
    gradients = torch.autograd.grad(loss, parameters(ppo))
    expected, sums, n = objectives_loss(ppo, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for gradient, other in zip(gradients, torch.autograd.grad(expected, parameters(ppo)), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-6)
    assert sums["clip_fraction"] >= 2
    assert sums["value_clip_fraction"] >= 2
    for name, value in metrics.items():
        assert value == pytest.approx(float(sums[name]) / n, abs=1e-6), name


def test_forward_equals_the_padded_batch_and_is_zero_at_the_padding():
    ppo = build()
    forward, mask = ppo.forward(SEQUENCES), SEQUENCES.mask_BT
    with torch.no_grad():
        logits, tokens, values = padded_tensors(ppo)
        logits = forbid_early_eos(logits, EOS, SAMPLING.min_new_tokens)
        logprobs = token_logprobs(logits, tokens, SAMPLING.temperature)
    np.testing.assert_allclose(forward.logprobs_BT[mask], logprobs.numpy()[mask], atol=1e-5)
    np.testing.assert_allclose(forward.values_BT[mask], values.numpy()[mask], atol=1e-5)
    for array in (forward.logprobs_BT, forward.ref_logprobs_BT, forward.values_BT):
        assert not array[~mask].any()
    assert abs(forward.ref_logprobs_BT - forward.logprobs_BT).max() > 0.1


def test_updates_fit_the_returns_and_shift_probability_towards_positive_advantages():
    ppo = build()
    forward, mask = ppo.forward(SEQUENCES), SEQUENCES.mask_BT
    advantages = np.where(mask, np.array([[1.0], [-1.0], [1.0]]), 0).astype(np.float32)
    ones = np.ones(mask.shape, dtype=np.float32)
    batch = PPOBatch(
        SEQUENCES,
        forward.logprobs_BT,
        forward.values_BT,
        advantages,
        forward.values_BT + 0.1 * ones,
        ones,
        1.0,
        np.ones(3, dtype=bool),
    )
    first = ppo.update(batch, [0, 1, 2])
    assert first["approx_kl"] == pytest.approx(0.0, abs=1e-9)
    assert first["value_loss"] == pytest.approx(0.005, rel=1e-4)
    after = ppo.forward(SEQUENCES).logprobs_BT.sum(1) - forward.logprobs_BT.sum(1)
    assert (np.sign(after) == [1, -1, 1]).all()


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_the_policy_stays_while_only_the_critic_learns(kind):
    ppo = build(kind, optimizer={"lr": 1e-2, "weight_decay": 0.5})
    batch = batch_for(ppo)
    policy, critic = copy.deepcopy(ppo.policy.state_dict()), copy.deepcopy(ppo.critic.state_dict())
    ppo.update(batch, [0, 1, 2], train_policy=False)
    assert all(torch.equal(policy[name], value) for name, value in ppo.policy.state_dict().items())
    assert not any(torch.equal(critic[name], value) for name, value in ppo.critic.named_parameters())


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_one_step_is_adam_on_the_clipped_gradient_of_the_objectives(kind):
    ppo = build(kind, optimizer={"lr": 1e-2, "max_grad_norm": 0.1, "eps": 1e-2})
    batch = batch_for(ppo)
    loss, _, _ = objectives_loss(ppo, batch)
    models = [parameters(ppo)] if ppo.shared else [list(m.parameters()) for m in (ppo.policy, ppo.critic)]
    expected = []
    for gradients, model in zip(
        [torch.autograd.grad(loss, model, retain_graph=True) for model in models], models, strict=True
    ):
        norm = torch.stack([g.norm() for g in gradients]).norm()
        assert norm > 0.1
        # Adam's first step: moments equal the gradient once their bias is corrected.
        steps = [g * 0.1 / norm / ((g * 0.1 / norm).abs() + 1e-2) for g in gradients]
        expected += [p.detach() - 1e-2 * step for p, step in zip(model, steps, strict=True)]
    metrics = ppo.update(batch, [0, 1, 2])
    assert metrics["grad_norm"] > 0.1
    assert ("critic_grad_norm" in metrics) == (kind == "separate")
    for after, value in zip(parameters(ppo), expected, strict=True):
        torch.testing.assert_close(after.detach(), value, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_scales_with_the_batch():
    ppo = build()
    before = copy.deepcopy(ppo.policy.state_dict())
    ppo.update(replace(batch_for(ppo), lr_scale=0.0), [0, 1, 2])
    assert all(torch.equal(before[name], value) for name, value in ppo.policy.state_dict().items())
