"""How units are left out: what the model then reads, and what it cannot read any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import reward_bench
import torch
from reward_bench import EOS, respond, shapley
from transformers import AutoModelForSequenceClassification

from scar_ray.config.schema import RewardModelConfig
from scar_ray.records import CreditPlan, Units
from scar_ray.scoring import RewardModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Load = Callable[..., RewardModel]

TEXT = " not a good film at all."
UNITS = Units((2, 3, 6), (0, 1, 2))
MASKINGS = ("delete", "blank", "mask", "pad", "attention")


def with_mask_token(model: RewardModel) -> RewardModel:
    """The tiny tokenizers have no mask token: a rare token stands for it."""
    model.tokenizer.mask_token = model.tokenizer.convert_ids_to_tokens(300)
    return model


def values(model: RewardModel, response, plan: CreditPlan) -> np.ndarray:
    [evaluation], _ = model.evaluate([(response, plan)])
    assert evaluation.values_C is not None
    return evaluation.values_C


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "llama_other"])
def test_all_units_have_the_plain_score_whatever_the_masking(
    name: str, masking: str, load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    model, response = with_mask_token(load_reward(name)), respond(tok, TEXT)
    if masking == "blank" and name == "bert":
        pytest.skip("WordPiece has no token for a blank")
    plan = shapley(response)
    [plain], _ = model.evaluate([(response, CreditPlan())])
    [masked], _ = model.masked(masking).evaluate([(response, plan)])
    assert masked.score == masked.values_C[1] == pytest.approx(plain.score, abs=1e-5)
    assert np.unique(masked.values_C).size == 8, "every coalition is another sequence"


@pytest.mark.parametrize(("masking", "fill"), [("blank", " "), ("mask", 300), ("pad", "pad")])
def test_a_fill_stands_on_every_token_of_the_units_that_are_left_out(
    masking: str, fill: str | int, load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    model, response = with_mask_token(load_reward("llama")).masked(masking), respond(tok, TEXT)
    number = {" ": tok(" ")["input_ids"][0], "pad": tok.pad_token_id}.get(fill, fill)
    plan = shapley(response)
    sequences = model.encoder.sequences(response, plan)
    prompt, content = response.prompt.token_ids, response.token_ids[: response.n_content]
    for present, sequence in zip(plan.game.coalitions_Cn, sequences[1:], strict=True):
        expected = [
            token if here else number
            for start, end, here in zip(plan.units.starts, plan.units.ends, present, strict=True)
            for token in content[start:end]
        ]
        assert sequence.ids == (*prompt, *expected, EOS)
        assert sequence.hidden == ()


def test_a_fill_in_another_tokenizers_text_stands_on_the_tokens_with_most_characters_of_the_unit(
    load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    model, response = load_reward("bert").masked("pad"), respond(tok, TEXT)
    pieces = model.tokenizer
    plan = shapley(response)
    full, *coalitions = model.encoder.sequences(response, plan)
    text = response.prompt.text + response.text
    offsets = pieces(text, return_offsets_mapping=True)["offset_mapping"]
    bounds = [0, *(response.token_spans[end - 1][1] for end in plan.units.ends)]
    for present, sequence in zip(plan.game.coalitions_Cn, coalitions, strict=True):
        assert len(sequence) == len(full)
        for (a, b), before, after in zip(offsets, full.ids, sequence.ids, strict=True):
            middle = (a + b) / 2 - len(response.prompt.text)
            unit = next((i for i in range(3) if bounds[i] <= middle < bounds[i + 1]), None)
            gone = a < b and middle > 0 and unit is not None and not present[unit]
            assert after == (pieces.pad_token_id if gone else before)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "roberta", "llama_other"])
def test_nothing_can_be_read_of_units_that_are_not_attended_to(
    name: str, load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    model = load_reward(name).masked("attention")
    one, other = respond(tok, " was good"), respond(tok, " the good")
    assert one.n_content == other.n_content
    plan = CreditPlan(Units((1, one.n_content), (0, 1)), shapley_of_two())
    first, second = values(model, one, plan), values(model, other, plan)
    without = ~plan.game.coalitions_Cn[:, 0]
    np.testing.assert_allclose(first[without], second[without], rtol=0, atol=1e-6)
    assert np.abs(first[~without] - second[~without]).min() > 1e-5


def shapley_of_two():
    from scar_ray.games import shapley as exact

    return exact(2)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_units_that_are_not_attended_to_keep_their_positions(
    name: str, load_reward: Load, reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    """Against Transformers' own forward pass with a bias on the attention and explicit positions."""
    model, response = load_reward(name).masked("attention"), respond(tok, TEXT)
    plan = CreditPlan(Units((2, response.n_content), (0, 1)), shapley_of_two())
    alone = int(np.flatnonzero(plan.game.coalitions_Cn[:, 1] & ~plan.game.coalitions_Cn[:, 0])[0])
    kept = [*response.prompt.token_ids, *response.token_ids[2:]]
    n_prompt = len(response.prompt.token_ids)
    positions = [*range(n_prompt), *range(n_prompt + 2, n_prompt + response.n_tokens)]
    plain = AutoModelForSequenceClassification.from_pretrained(reward_folders[name]).eval()
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([kept]), position_ids=torch.tensor([positions])).logits[0]
    expected = logits[0] if len(logits) == 1 else logits[1] - logits[0]
    assert values(model, response, plan)[alone] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("masking", MASKINGS)
def test_masked_values_do_not_depend_on_the_batches(
    masking: str, load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    responses = reward_bench.replies(tok)
    jobs = [(response, shapley(response)) for response in responses if response.n_content >= 3]
    together, _ = with_mask_token(load_reward("llama")).masked(masking).evaluate(jobs)
    single = with_mask_token(load_reward("llama", batch_tokens=1)).masked(masking)
    for job, evaluation in zip(jobs, together, strict=True):
        [alone], _ = single.evaluate([job])
        np.testing.assert_allclose(evaluation.values_C, alone.values_C, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "masking", "missing"),
    [("bert", "blank", "single token for a blank"), ("llama", "mask", "mask token")],
)
def test_a_masking_without_its_token_is_refused(name: str, masking: str, missing: str, load_reward: Load) -> None:
    with pytest.raises(ValueError, match=f"^credit.masking={masking}: the tokenizer of .* has no {missing}; use "):
        load_reward(name).masked(masking)


def test_characters_that_the_models_tokenizer_leaves_out_are_counted(
    load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, " good\x00 film")  # BERT's normaliser drops control characters
    assert not response.text.isspace()
    _, work = load_reward("bert").evaluate([(response, CreditPlan())])
    assert work.dropped_chars == 1
    _, work = load_reward("llama").evaluate([(response, CreditPlan())])
    assert work.dropped_chars == 0


def test_without_a_policy_tokenizer_responses_are_read_as_text(
    reward_folders: dict[str, Path], load_reward: Load, tok: PreTrainedTokenizerFast
) -> None:
    model = RewardModel(RewardModelConfig(path=str(reward_folders["llama"])))
    response = respond(tok, TEXT)
    plain = values(load_reward("llama"), response, shapley(response))
    np.testing.assert_allclose(values(model, response, shapley(response)), plain, rtol=0, atol=1e-5)
