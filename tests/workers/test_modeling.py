"""Policy and critic as modules against plain Hugging Face models, one sequence at a time and without padding."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scar_ray.config.schema import LoraConfig, Sampling
from scar_ray.workers.modeling import (
    TokenCritic,
    TokenPolicy,
    add_lora,
    load_policy,
    load_trunk,
    pad,
    without_dropout,
)

EOS, PAD, VOCABULARY, HIDDEN = 0, 1, 40, 32
PROMPTS = ((5, 6, 7), (8,), (9, 10, 11, 12, 13))
RESPONSES = ((20, 21, EOS), (22, 23, 24, 25, 26), (27,))
SAMPLING = Sampling(min_new_tokens=1, max_new_tokens=8, temperature=0.7)

BLOCKS = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2}
ROOM = {"intermediate_size": 48, "max_position_embeddings": 32}
KEY_VALUE = {"num_key_value_heads": 1, "head_dim": 16}
BUILD = {
    "gpt2": lambda s: GPT2LMHeadModel(GPT2Config(**s, n_embd=HIDDEN, n_layer=2, n_head=2, n_positions=32)),
    "neox": lambda s: GPTNeoXForCausalLM(GPTNeoXConfig(**s, **BLOCKS, **ROOM)),
    "opt": lambda s: OPTForCausalLM(
        OPTConfig(**s, **BLOCKS, ffn_dim=48, max_position_embeddings=32, word_embed_proj_dim=16)
    ),
    "gemma2": lambda s: Gemma2ForCausalLM(Gemma2Config(**s, **BLOCKS, **ROOM, **KEY_VALUE, sliding_window=4)),
    "qwen3": lambda s: Qwen3ForCausalLM(Qwen3Config(**s, **BLOCKS, **ROOM, **KEY_VALUE)),
    "bloom": lambda s: BloomForCausalLM(BloomConfig(**s, hidden_size=HIDDEN, n_layer=2, n_head=2)),
}


def model(kind: str, **changes) -> nn.Module:
    """A random tiny model, in evaluation mode."""
    special = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": EOS}
    torch.manual_seed(0)
    lm = BUILD[kind](special | changes)
    tiny_models.perturb(lm, 0, 0.2)
    return lm.eval()


def batch(prompts=PROMPTS, responses=RESPONSES):
    return pad(prompts, responses, PAD, "cpu")


def with_value_head(lm: nn.Module, **sampling) -> TokenPolicy:
    policy = TokenPolicy(lm, SAMPLING.model_copy(update=sampling), EOS, value_head=True)
    tiny_models.perturb(policy.value_head, 1, 0.5)
    return policy


@torch.no_grad()
def plain(lm: nn.Module, prompt: tuple[int, ...], response: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of the tokens of one response."""
    logits = lm(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].double() / 0.7
    logits[: SAMPLING.min_new_tokens, EOS] = -torch.inf
    log_p = logits.log_softmax(-1)
    entropy = -torch.special.xlogy(log_p.exp(), log_p.exp()).sum(-1)
    return log_p[torch.arange(len(response)), torch.tensor(response)], entropy


def test_padding_joins_prompts_and_responses_on_the_left():
    padded = batch(((5, 6), (7,)), ((8,), (9, EOS)))
    assert padded.input_ids_RL.tolist() == [[5, 6, 8], [7, 9, EOS]]
    assert padded.attention_mask_RL.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert padded.response_ids_RT.tolist() == [[8, PAD], [9, EOS]]
    assert padded.source_RT.tolist() == [[1, 1], [0, 1]]
    assert padded.mask_RT.tolist() == [[True, False], [True, True]]
    wider = batch(((5, 6), (7,)), ((8,), (9, EOS, 3)))
    assert wider.input_ids_RL.tolist() == [[5, 6, 8, PAD], [7, 9, EOS, 3]]
    assert wider.attention_mask_RL.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("kind", BUILD)
def test_log_probabilities_and_entropies_equal_those_of_the_plain_model(kind):
    lm = model(kind)
    output = TokenPolicy(lm, SAMPLING, EOS, value_head=False)(batch(), entropy=True)
    assert output.values_RT is None
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        logprobs, entropy = plain(lm, prompt, response)
        n = len(response)
        torch.testing.assert_close(output.logprobs_RT[row, :n].double(), logprobs, rtol=0, atol=2e-5)
        torch.testing.assert_close(output.entropy_RT[row, :n].double(), entropy, rtol=0, atol=2e-5)
    assert output.logprobs_RT[:, 0].std() > 0.01  # a model that knows one token from another


@pytest.mark.parametrize("kind", BUILD)
def test_values_read_the_position_before_each_token(kind):
    policy = with_value_head(model(kind))
    values = policy(batch()).values_RT
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        for t in range(len(response)):
            seen = policy(batch((prompt,), (response[: t + 1],))).values_RT[0, t]
            torch.testing.assert_close(values[row, t], seen, rtol=0, atol=2e-5)
    changed = policy(batch(PROMPTS, (RESPONSES[0], (22, 23, 4, 25, 26), RESPONSES[2]))).values_RT
    torch.testing.assert_close(changed[1, :3], values[1, :3], rtol=0, atol=1e-6)
    assert ((changed[1, 3:5] - values[1, 3:5]).abs() > 1e-4).all()


def test_the_value_is_the_head_of_what_the_output_embedding_reads():
    lm = model("gpt2")
    policy = with_value_head(lm)
    ids = torch.tensor([[*PROMPTS[0], *RESPONSES[0]]])
    hidden = lm(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    expected = policy.value_head(hidden)[2:5, 0]
    torch.testing.assert_close(policy(batch()).values_RT[0, :3], expected, rtol=0, atol=1e-5)


def test_values_start_at_zero():
    policy = TokenPolicy(model("opt"), SAMPLING, EOS, value_head=True)
    assert (policy(batch()).values_RT == 0).all()
    assert policy.value_head.in_features == 16  # what OPT's output embedding reads, not its hidden size


@pytest.mark.parametrize("kind", ["gpt2", "neox"])
def test_a_separate_critic_sees_the_tokens_before_each_token(kind, tmp_path):
    model(kind).save_pretrained(tmp_path)
    critic = TokenCritic(load_trunk(str(tmp_path), "float32", False))
    assert (critic(batch()) == 0).all()
    tiny_models.perturb(critic.value_head, 1, 0.5)
    values = critic(batch())
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        hidden = critic.trunk(input_ids=torch.tensor([[*prompt, *response]])).last_hidden_state[0]
        expected = critic.value_head(hidden)[len(prompt) - 1 : -1, 0]
        torch.testing.assert_close(values[row, : len(response)], expected, rtol=0, atol=1e-5)


def test_a_detached_trunk_gets_no_gradient_from_the_value():
    policy = with_value_head(model("gpt2"))
    policy(batch(), detach_trunk=True).values_RT.sum().backward()
    assert policy.value_head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in policy.policy.parameters())
    policy(batch()).values_RT.sum().backward()
    assert policy.policy.transformer.wte.weight.grad.abs().sum() > 0


def test_a_forbidden_early_eos_is_impossible_and_takes_no_gradient():
    policy = TokenPolicy(model("gpt2"), SAMPLING.model_copy(update={"min_new_tokens": 2}), EOS, value_head=False)
    output = policy(batch(((5, 6),), ((7, EOS, EOS),)), entropy=True)
    assert output.logprobs_RT[0, 1] == -torch.inf
    assert output.logprobs_RT[0, 2] > -20
    output = policy(batch(((5, 6),), ((7, 8, EOS),)), entropy=True)
    (output.logprobs_RT.sum() + output.entropy_RT.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}),
        ("neox", {"hidden_dropout": 0.5, "attention_dropout": 0.5}),
        ("opt", {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5}),
        ("bloom", {"hidden_dropout": 0.5, "attention_dropout": 0.5}),
    ],
)
def test_without_dropout_training_sees_what_evaluation_sees(kind, changes):
    lm = model(kind, **changes)
    ids = torch.arange(2, 12).unsqueeze(0)
    expected = lm(input_ids=ids).logits
    lm.train()
    assert not torch.allclose(lm(input_ids=ids).logits, expected)
    without_dropout(lm)
    assert lm.training
    torch.testing.assert_close(lm(input_ids=ids).logits, expected, rtol=0, atol=1e-5)


def test_models_load_without_dropout_in_the_type_asked_for(tmp_path):
    model("gpt2", resid_pdrop=0.5).save_pretrained(tmp_path)
    lm = load_policy(str(tmp_path), "bfloat16", False)
    assert lm.dtype == torch.bfloat16
    assert {m.p for m in lm.modules() if isinstance(m, nn.Dropout)} == {0.0}
    assert lm.config.resid_pdrop == 0.5  # the model's own settings are exported as they were


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_fresh_adapters_change_nothing_and_switch_off(kind):
    lm = model(kind)
    before = TokenPolicy(lm, SAMPLING, EOS, value_head=False)(batch()).logprobs_RT
    adapted = add_lora(lm, LoraConfig(rank=2, alpha=4))
    policy = with_value_head(adapted)
    assert torch.equal(policy(batch()).logprobs_RT, before)
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == (".lora_" in name), name
        if ".lora_B" in name:
            nn.init.normal_(parameter)
    assert not torch.equal(policy(batch()).logprobs_RT, before)
    with adapted.disable_adapter():
        assert torch.equal(policy(batch()).logprobs_RT, before)
    assert policy(batch()).values_RT.abs().sum() > 0


def test_adapters_go_where_they_are_asked_to():
    adapted = add_lora(model("qwen3"), LoraConfig(rank=2, alpha=4, target_modules=("q_proj", "v_proj")))
    names = {name.split(".")[-4] for name, p in adapted.named_parameters() if p.requires_grad}
    assert names == {"q_proj", "v_proj"}
