"""Reward models in vLLM give the values of Transformers, on a real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import reward_bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from scar_ray.config.arithmetic import typical_job
from scar_ray.config.load import load
from scar_ray.config.schema import RewardModelConfig
from scar_ray.scoring import RewardModel
from scar_ray.scoring.encoding import Encoded
from scar_ray.workers.reward import RewardOptions

pytestmark = pytest.mark.stack

KINDS = ("llama", "gpt2", "gpt2_pad_is_eos", "bert")
"""One label and two; causal ones whose padding token is their EOS; an encoder with a tokenizer of its own."""


def options(folder: Path, policy: Path, masking: Any = "delete") -> RewardOptions:
    return RewardOptions(
        model=RewardModelConfig(path=str(folder)),
        policy_tokenizer=str(policy),
        masking=masking,
        device="cpu",
        batch_tokens=4096,
        attention=False,
        trust_remote_code=False,
        threads=1,
        engine="vllm",
        memory_gib=0.03,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_values_are_those_of_transformers(
    kind: str,
    vllm_processes: list[Any],
    reward_folders: dict[str, Path],
    models: dict[str, Path],
    tok: PreTrainedTokenizerFast,
) -> None:
    actor = vllm_processes[0]
    limit = ray.get(actor.score_with.remote(options(reward_folders[kind], models["llama"])))
    assert limit == 256
    prompt = " ".join(reward_bench.PROMPTS * 5)
    responses = [*reward_bench.replies(tok), reward_bench.respond(tok, reward_bench.REPLIES[1], prompt, row=9)]
    jobs = [(response, reward_bench.every_prefix(response)) for response in responses]
    expected, plain = reward_bench.reward_model(reward_folders[kind], models["llama"], engine="plain").evaluate(jobs)
    (found, work, _), (again, _, _) = ray.get([actor.evaluate.remote(jobs) for _ in range(2)])
    for one, other, repeated in zip(expected, found, again, strict=True):
        np.testing.assert_allclose(other.score, one.score, rtol=0, atol=1e-5)
        np.testing.assert_allclose(other.values_C, one.values_C, rtol=0, atol=1e-5)
        assert np.array_equal(other.values_C, repeated.values_C)  # the prefix cache leaves no trace
    assert (work.asked, work.unique, work.tokens) == (plain.asked, plain.unique, plain.tokens)
    if kind == "bert":
        assert work.computed_tokens == work.tokens
    else:
        assert work.computed_tokens < 0.8 * work.tokens

    model = RewardModel(RewardModelConfig(path=str(reward_folders[kind])), engine="plain")

    # Few tokens, so that padding, repetitions and common beginnings occur.
    @settings(max_examples=8, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=80), min_size=1, max_size=6))
    def agrees(rows: list[list[int]]) -> None:
        sequences = [Encoded(tuple(row)) for row in rows]
        scores, _ = ray.get(actor.scores.remote(sequences))
        np.testing.assert_allclose(scores, model._plain.scores(sequences, [])[0], rtol=0, atol=1e-5)

    agrees()


def test_vllm_measures_itself_on_the_sequences_of_the_other_engines(
    vllm_processes: list[Any], reward_folders: dict[str, Path], models: dict[str, Path]
) -> None:
    job = typical_job(load(["task.sampling.max_new_tokens=16", "credit=scar_word", "credit.budget=40"]))
    ray.get(vllm_processes[0].score_with.remote(options(reward_folders["llama"], models["llama"])))
    found = ray.get(vllm_processes[0].measure.remote(*job))
    other = reward_bench.reward_model(reward_folders["llama"], models["llama"]).measure_engines(*job)
    assert (found.sequences, found.tokens) == (other.sequences, other.tokens)
    assert list(other.beside(found).seconds) == ["trie", "shared_prompt", "plain", "vllm"]
    assert found.seconds["vllm"] > 0


def test_what_vllm_cannot_score_is_one_line(
    vllm_processes: list[Any], reward_folders: dict[str, Path], models: dict[str, Path]
) -> None:
    actor = vllm_processes[0]
    with pytest.raises(ValueError, match=r"credit.masking=attention: hides tokens, which vLLM cannot; use another"):
        ray.get(actor.score_with.remote(options(reward_folders["llama"], models["llama"], "attention")))
    with pytest.raises(ValueError, match=r"the model has no trained classification head \(LlamaForCausalLM\); give"):
        ray.get(actor.score_with.remote(options(models["llama"], models["llama"])))
