"""The reward model's last-layer attention on the policy's tokens, against Transformers on single sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reward_bench
from hypothesis import given
from hypothesis import strategies as st
from reward_bench import every_prefix, ids_of, replies, respond
from transformers import PreTrainedTokenizerFast

from scar_ray.credit import METHODS
from scar_ray.records import CreditPlan, Response
from scar_ray.scoring import RewardModel

CHAT = "Human: {prompt}\nAssistant: {response}"
PLAIN = CreditPlan()
ATTENTION = CreditPlan(attention=True)


def expected_attention(path: Path, response: Response, position: int) -> np.ndarray:
    """The row of `position` on the response's tokens, normalised."""
    row = reward_bench.plain_attention(path, ids_of(response), position)
    start = len(response.prompt.token_ids)
    part = row[start : start + response.n_tokens]
    return part / part.sum()


@pytest.mark.parametrize(("name", "back"), [("llama", 1), ("gpt2", 1), ("gpt2_no_pad", 1), ("gpt2_pad_is_eos", 2)])
def test_attention_is_that_of_the_position_which_the_head_reads(
    name: str,
    back: int,
    load_reward: Callable[..., RewardModel],
    reward_folders: dict[str, Path],
    tok: PreTrainedTokenizerFast,
) -> None:
    """The EOS; the token before it where padding and EOS are the same, whose attention to the EOS is 0."""
    responses = replies(tok)
    evaluations, _ = load_reward(name, attention=True).evaluate([(response, ATTENTION) for response in responses])
    for response, evaluation in zip(responses, evaluations, strict=True):
        expected = expected_attention(reward_folders[name], response, len(ids_of(response)) - back)
        np.testing.assert_allclose(evaluation.attention_T, expected, atol=1e-5)
        assert evaluation.attention_T.shape == (response.n_tokens,)
        assert evaluation.attention_T.sum() == pytest.approx(1, abs=1e-12)
        assert (evaluation.attention_T[-1] == 0) == (name == "gpt2_pad_is_eos" and response.finished)


def test_attention_does_not_depend_on_the_padding(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    jobs = [(response, ATTENTION) for response in replies(tok)]
    for name in ("llama", "gpt2_pad_is_eos", "bert"):
        single, _ = load_reward(name, attention=True, batch_tokens=1).evaluate(jobs)
        whole, _ = load_reward(name, attention=True, batch_tokens=10**6).evaluate(jobs[::-1])
        for one, other in zip(single, whole[::-1], strict=True):
            np.testing.assert_allclose(one.attention_T, other.attention_T, atol=1e-5)


def test_attention_over_other_tokens_is_shared_by_characters(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    """BERT's row of [CLS], a word piece's weight in equal parts on its characters, summed over the policy's tokens."""
    response, pieces = respond(tok, " a dull\nstory, good!"), reward_bench.load_tokenizer(reward_folders["bert"])
    [evaluation], _ = load_reward("bert", attention=True, template=CHAT).evaluate([(response, ATTENTION)])
    head = f"Human: {response.prompt.text}\nAssistant: "
    encoding = pieces(head + response.text, return_offsets_mapping=True)
    row = reward_bench.plain_attention(reward_folders["bert"], encoding["input_ids"], 0)
    by_character = np.zeros(len(head + response.text))
    for weight, (a, b) in zip(row, encoding["offset_mapping"], strict=True):
        by_character[a:b] += weight / max(b - a, 1)
    weights = np.array([by_character[len(head) + a : len(head) + b].sum() for a, b in response.token_spans])
    np.testing.assert_allclose(evaluation.attention_T, weights / weights.sum(), atol=1e-6)
    assert evaluation.attention_T.sum() == pytest.approx(1, abs=1e-12)
    assert evaluation.attention_T[-1] == 0  # an encoder reads no EOS


def test_attention_of_a_token_across_the_border_counts_by_its_characters_in_the_response(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    """ "go" + "od film" reads as one word: half of the piece "good" belongs to the response."""
    response, pieces = respond(tok, "od film", "go"), reward_bench.load_tokenizer(reward_folders["bert"])
    encoding = pieces("good film", return_offsets_mapping=True)
    assert encoding["offset_mapping"] == [(0, 0), (0, 4), (5, 9), (0, 0)]
    row = reward_bench.plain_attention(reward_folders["bert"], encoding["input_ids"], 0)
    [evaluation], _ = load_reward("bert", attention=True).evaluate([(response, ATTENTION)])
    word = [end <= 2 for _, end in response.token_spans]
    assert evaluation.attention_T[word].sum() == pytest.approx(0.5 * row[1] / (0.5 * row[1] + row[2]), abs=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2_pad_is_eos", "bert", "llama_other"])
def test_an_empty_response_pays_all_attention_to_its_eos(
    name: str, load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    [evaluation], _ = load_reward(name, attention=True).evaluate([(respond(tok, ""), ATTENTION)])
    assert evaluation.attention_T.tolist() == [1.0]


def test_white_space_that_the_model_does_not_read_leaves_all_attention_to_the_last_token(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, " \n \n")
    [evaluation], _ = load_reward("bert", attention=True).evaluate([(response, ATTENTION)])
    assert evaluation.attention_T.tolist() == [0.0] * response.n_content + [1.0]


@given(text=st.text(alphabet="ab {}\n\0🎬é<.", min_size=1, max_size=12), prompt=st.text("a {}\n\0🎬", max_size=6))
def test_attention_over_any_text_is_a_distribution(
    text: str, prompt: str, any_text: tuple[RewardModel, ...], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, text, "x" + prompt)
    for model in any_text:
        [evaluation], _ = model.evaluate([(response, ATTENTION)])
        assert evaluation.attention_T.shape == (response.n_tokens,)
        assert evaluation.attention_T.min() >= 0
        assert evaluation.attention_T.sum() == pytest.approx(1, abs=1e-9)


@pytest.fixture(scope="module")
def any_text(load_reward: Callable[..., RewardModel]) -> tuple[RewardModel, ...]:
    return tuple(load_reward(name, attention=True, template=CHAT) for name in ("bert", "llama_other", "llama"))


def test_a_model_loaded_for_attention_scores_as_any_other(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    """Attention, coalitions and plain scores in the same batches."""
    responses = replies(tok)
    plans = [(ATTENTION, every_prefix(response), PLAIN)[i % 3] for i, response in enumerate(responses)]
    jobs = list(zip(responses, plans, strict=True))
    eager, work = load_reward("llama", attention=True).evaluate(jobs)
    fused, same = load_reward("llama").evaluate([(r, PLAIN if plan.attention else plan) for r, plan in jobs])
    assert (work.asked, work.unique, work.tokens) == (same.asked, same.unique, same.tokens)
    assert [e.score for e in eager] == pytest.approx([e.score for e in fused], abs=1e-5)
    assert [e.attention_T is not None for e in eager] == [True, False, False] * 3
    for one, other in zip(eager, fused, strict=True):
        if one.values_C is not None:
            np.testing.assert_allclose(one.values_C, other.values_C, atol=1e-5)


def test_every_credit_method_gets_what_it_asks_for(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    responses, model = replies(tok), load_reward("llama", attention=True)
    for method in METHODS.values():
        jobs = [(response, method().plan(response)) for response in responses]
        for (_, plan), evaluation in zip(jobs, model.evaluate(jobs)[0], strict=True):
            assert (evaluation.attention_T is not None) == plan.attention
            assert (evaluation.values_C is not None) == (plan.game is not None)
