"""What a reward model refuses, and how it says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reward_bench
import torch
from reward_bench import EOS, every_prefix, ids_of, replies, respond, reward_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from scar_ray.games import choose
from scar_ray.records import CreditPlan, Response, Units
from scar_ray.scoring import RewardModel, SampleFailed

PLAIN = CreditPlan()


def test_a_response_over_the_models_limit_is_refused_and_named(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    response = respond(tok, " good film" * 5, row=4)
    length = len(ids_of(response))
    load_reward("llama", max_length=length).evaluate([(response, PLAIN)])
    message = rf"^prompt 4, sample 0 \(' ?good .*'\): prompt and response take {length} .* reads {length - 1}; shorten"
    with pytest.raises(SampleFailed, match=message) as caught:
        load_reward("llama", max_length=length - 1).evaluate([(replies(tok)[2], PLAIN), (response, PLAIN)])
    assert "\n" not in str(caught.value)


def good_letter_by_letter(tok: PreTrainedTokenizerFast) -> tuple[Response, CreditPlan]:
    """ "x" + " good" in the units " g", "oo", "d", which without the middle is " gd": one word piece more."""
    tokens = ["Ġ", "g", "o", "o", "d"]
    response = replace(
        respond(tok, " good", "x"),
        token_ids=(*tok.convert_tokens_to_ids(tokens), EOS),
        token_spans=((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5)),
        logprobs_T=np.zeros(6, np.float32),
    )
    units = Units((2, 4, 5), (0, 1, 2))
    return response, CreditPlan(units, choose(units.tree, "shapley", 8))


def test_a_coalition_over_the_limit_is_refused_although_the_whole_response_fits(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    own = reward_bench.load_tokenizer(reward_folders["bert"])
    assert (own.tokenize("x good"), own.tokenize("x gd")) == (["x", "good"], ["x", "g", "##d"])
    with pytest.raises(SampleFailed, match=r"prompt 0, sample 0 \('good'\): coalition \d take 5 .*, the .* reads 4"):
        load_reward("bert", max_length=4).evaluate([good_letter_by_letter(tok)])


def test_roberta_reads_fewer_tokens_than_it_has_positions(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    """Its 40 positions start after that of the padding, which is token 0: 39 are left."""
    with pytest.raises(SampleFailed, match="the reward model reads 39"):
        load_reward("roberta").evaluate([(respond(tok, " good" * 60), PLAIN)])
    model = load_reward("roberta")
    fits = respond(tok, " good" * 33)
    [sequence] = model.encoder.sequences(fits, PLAIN)
    assert len(sequence) == 39
    assert np.isfinite(model.evaluate([(fits, PLAIN)])[0][0].score)


def test_a_limit_above_the_models_own_is_refused(load_reward: Callable[..., RewardModel]) -> None:
    with pytest.raises(ValueError, match=r"^model.reward.max_length=257: the reward model reads 256 tokens; lower it$"):
        load_reward("llama", max_length=257)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (float("inf"), "-?inf|nan")])
def test_a_score_that_is_not_finite_is_refused_and_the_sample_named(
    value: float, word: str, models: dict[str, Path], tok: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shutil.copytree(models["llama_reward"], tmp_path / "broken")
    weights = load_file(tmp_path / "broken/model.safetensors")
    weights["score.weight"][:] = value
    save_file(weights, tmp_path / "broken/model.safetensors", metadata={"format": "pt"})
    model = reward_model(tmp_path / "broken", models["llama"])
    message = rf"^prompt 7, sample 0 \('not good'\): the reward model returned ({word}) as its score$"
    with pytest.raises(SampleFailed, match=message):
        model.evaluate([(respond(tok, " not\ngood", row=7), PLAIN)])


def test_a_coalition_without_a_finite_value_is_refused_and_the_sample_named(
    load_reward: Callable[..., RewardModel], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    (response, plan), model = good_letter_by_letter(tok), load_reward("bert")
    piece = reward_bench.load_tokenizer(reward_folders["bert"]).convert_tokens_to_ids("##d")
    model.model.get_input_embeddings().weight.data[piece] = float("nan")
    assert np.isfinite(model.evaluate([(response, PLAIN)])[0][0].score)
    number = next(i for i, here in enumerate(plan.game.coalitions_Cn.tolist()) if here[1:] == [False, True])
    message = rf"^prompt 0, sample 0 \('good'\): the reward model returned nan as the value of coalition {number}$"
    with pytest.raises(SampleFailed, match=message):
        model.evaluate([(response, plan)])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_model_without_a_classification_head_is_refused(kind: str, models: dict[str, Path]) -> None:
    message = (
        rf"^model.reward.path={models[kind]}: the model has no trained classification head "
        r"\(score.weight is missing\); give a complete sequence-classification model$"
    )
    with pytest.raises(ValueError, match=message):
        reward_model(models[kind], models["llama"])


def test_three_labels_are_refused(models: dict[str, Path], tok: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = reward_bench.folder("llama_reward", tok, tmp_path / "three", labels=3)
    with pytest.raises(ValueError, match=rf"^model.reward.path={path}: .* one label .* or two .*, this one has 3$"):
        reward_model(path, models["llama"])


def test_a_label_that_the_model_does_not_have_is_refused(load_reward: Callable[..., RewardModel]) -> None:
    with pytest.raises(ValueError, match=r"^model.reward.label=2: the reward model has 2 labels; use 0 or 1$"):
        load_reward("gpt2", label=2)


def test_the_dtype_of_the_model_is_the_configured_one(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    half, whole = load_reward("llama", dtype="bfloat16"), load_reward("llama")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    jobs = [(response, every_prefix(response)) for response in replies(tok)]
    for one, other in zip(half.evaluate(jobs)[0], whole.evaluate(jobs)[0], strict=True):
        assert one.score == pytest.approx(other.score, abs=0.5)
        assert one.values_C[1] == one.score
