"""One reward model: plain scores and coalition values, against Transformers on single sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reward_bench
from hypothesis import given
from hypothesis import strategies as st
from reward_bench import EOS, every_prefix, ids_of, replies, respond, reward_model, shapley
from transformers import PreTrainedTokenizerFast

from scar_ray.games import prefixes
from scar_ray.records import CreditPlan, Response, Units
from scar_ray.scoring import RewardModel
from scar_ray.scoring.engines.plain import batches

CHAT = "Human: {prompt}\nAssistant: {response}"
PLAIN = CreditPlan()
ATTENTION = CreditPlan(attention=True)


def score_of(logits: list[float], label: int = 1) -> float:
    return logits[0] if len(logits) == 1 else logits[label] - logits[1 - label]


def every_prefix_of_tokens(response: Response) -> CreditPlan:
    """Every token a unit, also those that are only a part of a character."""
    n = response.n_content
    return CreditPlan(Units(tuple(range(1, n + 1)), tuple(range(n))), prefixes(n))


# plain scores


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt2_pad_is_eos", "gpt2_no_pad"])
def test_the_score_of_a_causal_model_is_that_of_transformers_on_the_plain_sequence(
    name: str, load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    responses = replies(tok)
    evaluations, _ = load_reward(name).evaluate([(response, PLAIN) for response in responses])
    expected = [score_of(reward_bench.plain_logits(reward_folders[name], ids_of(response))) for response in responses]
    assert [evaluation.score for evaluation in evaluations] == pytest.approx(expected, abs=1e-5)
    assert np.std(expected) > 0.1


@pytest.mark.parametrize("name", ["bert", "roberta", "deberta"])
def test_the_score_of_an_encoder_is_that_of_transformers_on_its_own_tokens(
    name: str, load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    pieces, responses = reward_bench.load_tokenizer(reward_folders[name]), replies(tok)
    evaluations, _ = load_reward(name).evaluate([(response, PLAIN) for response in responses])
    sequences = [pieces(response.prompt.text + response.text)["input_ids"] for response in responses]
    assert all(ids[0] == 2 and ids[-1] == 3 and ids.count(3) == 1 for ids in sequences)  # [CLS] .. [SEP]
    expected = [score_of(reward_bench.plain_logits(reward_folders[name], ids)) for ids in sequences]
    assert [evaluation.score for evaluation in evaluations] == pytest.approx(expected, abs=1e-5)


def test_the_label_chooses_the_class_that_is_rewarded(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, " a film")
    first, second = reward_bench.plain_logits(reward_folders["gpt2"], ids_of(response))
    scores = [load_reward("gpt2", label=label).evaluate([(response, PLAIN)])[0][0].score for label in (0, 1)]
    assert scores == pytest.approx([first - second, second - first], abs=1e-5)
    assert scores[0] == -scores[1]


def test_the_template_surrounds_prompt_and_response(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    """Braces in the texts and newlines are text like any other."""
    response = respond(tok, " no {response}\n\n{prompt} ", "is {response} a {prompt}?\n")
    [evaluation], _ = load_reward("llama", template=CHAT + " <end {0}>").evaluate([(response, PLAIN)])
    text = "Human: is {response} a {prompt}?\n\nAssistant:  no {response}\n\n{prompt}  <end {0}>"
    expected = reward_bench.plain_logits(reward_folders["llama"], [*tok(text)["input_ids"], EOS])
    assert evaluation.score == pytest.approx(expected[0], abs=1e-5)


def test_a_model_with_another_tokenizer_reads_the_text(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    other, response = reward_bench.load_tokenizer(reward_folders["llama_other"]), replies(tok)[1]
    ids = [*other(response.prompt.text + response.text)["input_ids"], EOS]
    assert ids != ids_of(response)
    [evaluation], _ = load_reward("llama_other").evaluate([(response, PLAIN)])
    assert evaluation.score == pytest.approx(reward_bench.plain_logits(reward_folders["llama_other"], ids)[0], abs=1e-5)


def test_token_ids_and_text_give_the_same_answers_where_the_tokens_are_the_same(
    reward_folders: dict[str, Path], models: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    """Another policy's tokenizer makes the model read the text. Finished responses, and cut ones."""
    by_ids, by_text = (
        reward_model(reward_folders["llama"], policy, attention=True)
        for policy in (models["llama"], reward_folders["llama_other"])
    )
    to_the_end: list[float] = []
    for plan in (ATTENTION, None):
        jobs = [(response, plan or every_prefix(response)) for response in replies(tok)]
        for one, other in zip(by_ids.evaluate(jobs)[0], by_text.evaluate(jobs)[0], strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            if plan:
                np.testing.assert_allclose(one.attention_T, other.attention_T, atol=1e-5)
                to_the_end.append(one.attention_T[-1])
            else:
                np.testing.assert_allclose(one.values_C, other.values_C, atol=1e-5)
    assert max(to_the_end) > 0.01


# the EOS


@pytest.mark.parametrize("template", ["{prompt}{response}", "{prompt} {response}"])
def test_a_causal_sequence_ends_with_exactly_one_eos(
    template: str, load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    model = load_reward("llama", template=template)
    for response in replies(tok):
        plan = every_prefix(response)
        for ids in (sequence.ids for sequence in model.encoder.sequences(response, plan)):
            assert ids[-1] == EOS
            assert ids.count(EOS) == 1


def test_without_append_eos_a_response_ends_as_the_policy_ended_it(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    done, cut = respond(tok, " a film"), respond(tok, " a film", finished=False)
    evaluations, _ = load_reward("llama", append_eos=False).evaluate([(done, PLAIN), (cut, every_prefix(cut))])
    ends = [reward_bench.plain_logits(reward_folders["llama"], ids_of(done, eos=eos))[0] for eos in (True, False)]
    assert [evaluation.score for evaluation in evaluations] == pytest.approx(ends, abs=1e-5)
    bare = reward_bench.plain_logits(reward_folders["llama"], list(cut.prompt.token_ids))[0]
    assert evaluations[1].values_C[0] == pytest.approx(bare, abs=1e-5)


def test_a_prompt_that_ends_with_the_eos_keeps_it(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    """As GPT-2's prompts do that are nothing but the token that also ends a text."""
    for name, prompt in (("llama", "A film<eos>"), ("gpt2", "<eos>"), ("gpt2_pad_is_eos", "<eos>")):
        response = respond(tok, "", prompt)
        assert response.prompt.token_ids[-1:] == response.token_ids == (EOS,)
        [evaluation], _ = load_reward(name).evaluate([(response, PLAIN)])
        logits = reward_bench.plain_logits(reward_folders[name], [*response.prompt.token_ids, EOS])
        assert evaluation.score == pytest.approx(score_of(logits), abs=1e-5)


def test_an_empty_response_is_scored_as_the_prompt_alone(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, "")
    prompt = list(response.prompt.token_ids)
    [evaluation], _ = load_reward("llama").evaluate([(response, PLAIN)])
    assert evaluation.score == pytest.approx(
        reward_bench.plain_logits(reward_folders["llama"], [*prompt, EOS])[0], abs=1e-5
    )
    [evaluation], _ = load_reward("bert").evaluate([(response, PLAIN)])
    pieces = reward_bench.load_tokenizer(reward_folders["bert"])(response.prompt.text)["input_ids"]
    assert evaluation.score == pytest.approx(reward_bench.plain_logits(reward_folders["bert"], pieces)[0], abs=1e-5)


# coalitions


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt2_pad_is_eos", "gpt2_no_pad", "bert", "llama_other"])
@pytest.mark.parametrize("plan_of", [every_prefix, shapley])
def test_the_value_of_all_units_is_the_plain_score_bit_for_bit(
    name: str,
    plan_of: Callable[[Response], CreditPlan],
    load_reward: Callable[..., RewardModel],
    tok: PreTrainedTokenizerFast,
) -> None:
    for batch_tokens in (1, 300, 10**6):
        jobs = [(response, plan_of(response)) for response in replies(tok)]
        evaluations, _ = load_reward(name, batch_tokens=batch_tokens).evaluate(jobs)
        assert all(evaluation.values_C[1] == evaluation.score for evaluation in evaluations)


@pytest.mark.parametrize("name", ["llama", "gpt2_pad_is_eos", "gpt2_no_pad"])
def test_a_coalition_has_the_value_of_the_response_without_the_other_units(
    name: str, load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, " not a good film at all, but a good ending.")
    plan = shapley(response)
    [evaluation], _ = load_reward(name).evaluate([(response, plan)])
    for present, value in zip(plan.game.coalitions_Cn, evaluation.values_C, strict=True):
        parts = zip(plan.units.starts, plan.units.ends, present, strict=True)
        content = [token for a, b, here in parts if here for token in response.token_ids[a:b]]
        logits = reward_bench.plain_logits(reward_folders[name], [*response.prompt.token_ids, *content, EOS])
        assert value == pytest.approx(score_of(logits), abs=1e-5)
    assert np.std(evaluation.values_C) > 0.1


@pytest.mark.parametrize("name", ["bert", "llama_other"])
def test_units_are_left_out_of_the_text_where_the_tokenizers_differ(
    name: str, load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, " not a good film at all, but a good ending.")
    plan, own = shapley(response), reward_bench.load_tokenizer(reward_folders[name])
    [evaluation], _ = load_reward(name, template=CHAT).evaluate([(response, plan)])
    spans = response.token_spans
    for present, value in zip(plan.game.coalitions_Cn, evaluation.values_C, strict=True):
        parts = zip(plan.units.starts, plan.units.ends, present, strict=True)
        text = "".join(response.text[spans[a][0] : spans[b - 1][1]] for a, b, here in parts if here)
        ids = own(f"Human: {response.prompt.text}\nAssistant: {text}")["input_ids"]
        expected = reward_bench.plain_logits(reward_folders[name], ids if name == "bert" else [*ids, EOS])
        assert value == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2_pad_is_eos", "gpt2_no_pad", "bert"])
def test_values_do_not_depend_on_the_batches(
    name: str, load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    """One sequence a batch, some, all; alone, and with others in another order."""
    jobs = [(response, every_prefix(response)) for response in replies(tok)]
    single, work = load_reward(name, batch_tokens=1, engine="plain").evaluate(jobs)
    assert work.tokens == work.computed_tokens
    whole, all_work = load_reward(name, batch_tokens=10**6, engine="plain").evaluate(jobs)
    assert all_work.computed_tokens > all_work.tokens == work.tokens
    model = load_reward(name, batch_tokens=500)
    reverse = model.evaluate(jobs[::-1])[0][::-1]
    alone = [model.evaluate([job])[0][0] for job in jobs]
    for others in (whole, reverse, alone):
        for one, other in zip(single, others, strict=True):
            assert other.score == pytest.approx(one.score, abs=1e-5)
            np.testing.assert_allclose(other.values_C, one.values_C, atol=1e-5)


def test_identical_sequences_are_computed_once(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    """All coalitions of two units: empty, full, first, second; the full one is the plain sequence."""
    response = respond(tok, " good", finished=True, cut=1)
    twin = respond(tok, " good", finished=False, row=1, cut=1)  # the same sequence, as the EOS is always added
    plan = every_prefix(response)
    prompt = len(response.prompt.token_ids)
    evaluations, work = load_reward("llama", engine="plain").evaluate(
        [(response, plan), (twin, PLAIN), (twin, plan), (response, PLAIN)]
    )
    assert (work.asked, work.unique, work.tokens) == (8, 2, (prompt + 1) + (prompt + 2))
    assert work.computed_tokens == 2 * (prompt + 2)
    assert len({evaluation.score for evaluation in evaluations}) == 1
    assert [evaluation.values_C is None for evaluation in evaluations] == [False, True, False, True]


def test_characters_of_several_tokens_go_with_the_token_that_completes_them(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, "a 🎬!")
    assert len(response.token_spans) - 1 > len(response.text)  # the emoji is four tokens
    plan = every_prefix_of_tokens(response)
    by_ids, _ = load_reward("llama").evaluate([(response, plan)])
    by_text, _ = load_reward("bert").evaluate([(response, plan)])
    for evaluation in (*by_ids, *by_text):
        assert evaluation.values_C[1] == evaluation.score
    own = reward_bench.load_tokenizer(reward_folders["bert"])
    last = response.n_content - 2  # the emoji's last token; the exclamation mark follows
    for token, text in ((last - 1, "a "), (last, "a 🎬")):
        ids = own(response.prompt.text + text)["input_ids"]
        expected = reward_bench.plain_logits(reward_folders["bert"], ids)[0]
        first = plan.game.coalitions_Cn.sum(1).tolist().index(token + 1)
        assert by_text[0].values_C[first] == pytest.approx(expected, abs=1e-5)


def test_a_response_cut_inside_a_character_is_scored(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, "a 🎬", finished=False, cut=4)
    assert response.text.endswith("�")
    for name in ("llama", "bert", "llama_other"):
        [evaluation], _ = load_reward(name).evaluate([(response, every_prefix_of_tokens(response))])
        assert evaluation.values_C[1] == evaluation.score


# batches


@given(st.lists(st.integers(1, 20), max_size=30), st.integers(1, 60))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = batches(lengths, budget)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[row] for row in group) <= budget


def test_batches_are_sorted_by_length() -> None:
    assert batches([5, 2, 9, 2, 4], 10) == [[1, 3], [4, 0], [2]]
