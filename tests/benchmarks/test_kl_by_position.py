"""Where along a response a policy has moved away from its reference."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from kl_by_position import position_kl, summary, table
from reward_bench import EOS, PROMPTS
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from scar_ray.config.sampling import Sampling
from scar_ray.records import Prompt


@pytest.fixture(scope="module")
def prompts(tok: PreTrainedTokenizerFast) -> list[Prompt]:
    """Twelve, of different lengths."""
    return [Prompt(i, tuple(tok(text)["input_ids"]), text) for i, text in enumerate(PROMPTS * 4)]


def test_a_policy_is_nowhere_away_from_itself_and_everywhere_from_another(
    models: dict[str, Path], prompts: list[Prompt]
) -> None:
    policy = AutoModelForCausalLM.from_pretrained(models["llama"]).eval()
    other = copy.deepcopy(policy)
    with torch.no_grad():
        other.lm_head.weight += 0.1 * torch.randn(other.lm_head.weight.shape, generator=torch.manual_seed(1))
    sampling = Sampling(max_new_tokens=6, min_new_tokens=2)
    assert np.abs(position_kl(policy, policy, prompts, sampling, EOS, 0)).max() == 0
    found_T = position_kl(policy, other, prompts, sampling, EOS, 0)
    assert (found_T > 0).all()
    assert np.array_equal(found_T, position_kl(policy, other, prompts, sampling, EOS, 0))
    expected = []
    for prompt in prompts:  # the first token's distribution needs no sample
        with torch.no_grad():
            rows = [model(torch.tensor([prompt.token_ids])).logits[0, -1].double() for model in (policy, other)]
        for row in rows:
            row[EOS] = -torch.inf
        p, q = (torch.softmax(row / sampling.temperature, 0) for row in rows)
        expected.append(float((p * (p / q).log())[p > 0].sum()))
    assert found_T[0] == pytest.approx(np.mean(expected), rel=1e-4)


def test_what_follows_the_end_of_a_response_counts_nothing(models: dict[str, Path], prompts: list[Prompt]) -> None:
    policy = AutoModelForCausalLM.from_pretrained(models["llama"]).eval()
    ends, other = copy.deepcopy(policy), copy.deepcopy(policy)
    with torch.no_grad():
        for model in (ends, other):
            hidden = model.lm_head.weight
            hidden += 0.1 * torch.randn(hidden.shape, generator=torch.manual_seed(1))
    ends.register_forward_hook(_only_eos)
    found_T = position_kl(ends, other, prompts, Sampling(max_new_tokens=5), EOS, 0)
    assert found_T[0] > 0
    assert not found_T[1:].any()


def _only_eos(module: torch.nn.Module, inputs: object, output: object) -> object:
    del module, inputs
    output.logits[..., EOS] += 1e4
    return output


def test_the_table_says_where_the_kl_is() -> None:
    rows = {"sparse": summary([np.array([1.0, 1.0, 1.0, 1.0]), np.array([2.0, 2.0, 2.0, 2.0])])}
    rows["uniform"] = summary([np.array([4.0, 3.0, 2.0, 1.0])])
    lines = table(rows).splitlines()
    assert lines[2] == "| sparse | 2 | 6.00 | 25.0 ± 0.0 % | 25.0 ± 0.0 % | 25.0 ± 0.0 % | 25.0 ± 0.0 % |"
    assert lines[3] == "| uniform | 1 | 10.00 | 40.0 % | 30.0 % | 20.0 % | 10.0 % |"
