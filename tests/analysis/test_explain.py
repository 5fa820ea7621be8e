"""`scar_ray.explain`: the same credits as in training, on a response given as text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import reward_bench
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from scar_ray import explain, explain_many
from scar_ray.analysis.explain import Explainer, token_ranges
from scar_ray.analysis.explanation import Explanation
from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.config.schema import RewardModelConfig
from scar_ray.credit import build
from scar_ray.records import SequenceScore
from scar_ray.scoring import RewardModel

PROMPT, REPLY = "The film is", " not a good film at all."
WORDS = ("sparse", "uniform", "abc", "prefix", "scar_token", "scar_span", "scar_sentence", "ospo")


@pytest.fixture(scope="module")
def explained(reward_folders: dict[str, Path]) -> list[Explanation]:
    """REPLY under every method, by the causal reward model."""
    return explain(reward_folders["llama"], PROMPT, REPLY, WORDS)


@pytest.fixture(scope="module")
def by_text(reward_folders: dict[str, Path]) -> RewardModel:
    """The same model, loaded by hand for responses without a policy."""
    return RewardModel(RewardModelConfig(path=str(reward_folders["llama"])), attention=True)


def without_time(found: Explanation) -> Explanation:
    return replace(found, seconds=0.0)


def test_credits_and_rewards_are_those_of_the_credit_library_on_the_same_response(
    explained: list[Explanation], by_text: RewardModel, tok: PreTrainedTokenizerFast
) -> None:
    response, model = reward_bench.respond(tok, REPLY, PROMPT), by_text
    for found in explained:
        method = build(**load([f"credit={found.credit}"]).credit.method_options())
        plan = method.plan(response)
        [evaluation], work = model.evaluate([(response, plan)])
        rewards = method.assign(response, plan, evaluation, SequenceScore(evaluation.score, 1.0, 0.0))
        assert [unit.credit for unit in found.units] == rewards.credits_n.tolist()
        assert [token.reward for token in found.tokens] == rewards.rewards_T.tolist()
        assert found.tree == rewards.units.tree
        assert (found.asked, found.evaluated, found.reward_tokens) == (work.asked, work.unique, work.tokens)
        if plan.game is not None:
            assert (found.base, found.residual) == (rewards.base, rewards.efficiency_residual)
            assert found.estimator == plan.game.estimator


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_token_rewards_of_every_method_add_up_to_the_plain_score(
    name: str, explained: list[Explanation], reward_folders: dict[str, Path]
) -> None:
    for found in explained if name == "llama" else explain(reward_folders[name], PROMPT, REPLY, ["abc", "scar_span"]):
        assert sum(token.reward for token in found.tokens) == pytest.approx(found.score, abs=1e-9)
        assert found.rest + sum(unit.credit for unit in found.units) == pytest.approx(found.score, abs=1e-12)


def test_the_score_is_what_the_model_gives_prompt_response_and_eos(
    explained: list[Explanation], reward_folders: dict[str, Path], tok: PreTrainedTokenizerFast
) -> None:
    ids = [*tok(PROMPT + REPLY)["input_ids"], tok.eos_token_id]
    [logit] = reward_bench.plain_logits(reward_folders["llama"], ids)
    assert explained[0].score == pytest.approx(logit, abs=1e-5)


def test_units_cover_the_response_and_tokens_end_with_the_eos(explained: list[Explanation]) -> None:
    for found in explained:
        assert "".join(unit.text for unit in found.units) == REPLY
        assert all(unit.text == REPLY[unit.start : unit.end] for unit in found.units)
        assert "".join(token.text for token in found.tokens[:-1]) == REPLY
        assert found.tokens[-1].text == "<eos>"
        assert found.finished
    n_tokens = len(explained[0].tokens)
    assert {found.credit: sum(unit.n_tokens for unit in found.units) for found in explained} == {
        **dict.fromkeys(("sparse", "uniform", "abc"), n_tokens),  # the EOS is a unit like the others
        **dict.fromkeys(("prefix", "scar_token", "scar_span", "scar_sentence", "ospo"), n_tokens - 1),
    }


def test_encoders_read_no_eos(reward_folders: dict[str, Path]) -> None:
    [found] = explain(reward_folders["bert"], PROMPT, " Not GOOD", "sparse")
    assert [token.text for token in found.tokens] == [" Not", " GOOD"]
    assert not found.finished


def test_a_response_that_ends_with_the_eos_gets_no_second_one(reward_folders: dict[str, Path]) -> None:
    [bare], [ended] = (explain(reward_folders["llama"], PROMPT, text, "sparse") for text in (REPLY, REPLY + "<eos>"))
    assert [token.text for token in ended.tokens] == [token.text for token in bare.tokens]
    assert ended.score == bare.score


def test_many_responses_have_the_numbers_of_single_ones_and_come_one_by_one(reward_folders: dict[str, Path]) -> None:
    asked = []

    def pairs():
        for reply in (REPLY, " great", " dull, and the ending is bad. I liked the music!"):
            asked.append(reply)
            yield PROMPT, reply

    many = explain_many(reward_folders["llama"], pairs(), ["sparse", "scar_span"])
    first = next(many)
    assert asked == [REPLY]
    assert [without_time(found) for found in first] == [
        without_time(found) for found in explain(reward_folders["llama"], PROMPT, REPLY, ["sparse", "scar_span"])
    ]
    assert [found[1].response for found in many] == [" great", " dull, and the ending is bad. I liked the music!"]


def test_a_loaded_model_gives_the_same(explained: list[Explanation], by_text: RewardModel) -> None:
    found = explain(by_text, PROMPT, REPLY, ["abc", "scar_token"])
    assert list(map(without_time, found)) == [
        without_time(explained[WORDS.index(word)]) for word in ("abc", "scar_token")
    ]


def test_a_model_loaded_for_a_policy_with_its_tokenizer_cuts_token_ids_as_training_does(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    response, model = reward_bench.respond(tok, REPLY, PROMPT), load_reward("llama")
    method = build(**load(["credit=scar_token"]).credit.method_options())
    plan = method.plan(response)
    [evaluation], _ = model.evaluate([(response, plan)])
    rewards = method.assign(response, plan, evaluation, SequenceScore(evaluation.score, 1.0, 0.0))
    [found] = explain(model, PROMPT, REPLY, "scar_token")
    assert [token.reward for token in found.tokens] == rewards.rewards_T.tolist()


def test_candidates_are_scored_as_responses_of_their_own(reward_folders: dict[str, Path]) -> None:
    folder, listed = reward_folders["llama"], " 1. good film 2. bad music"
    [found] = explain(folder, PROMPT, listed, "shape_grpo", overrides=["credit.candidates.floor=-99"])
    alone = [explain(folder, PROMPT, text, "sparse")[0].score for text in (" good film", " bad music")]
    assert [unit.text for unit in found.units] == [" 1.", " good film", " 2.", " bad music"]
    assert found.score == pytest.approx(max(alone), abs=1e-5)
    assert found.estimator == "shapley"
    assert found.dropped == ("1 of 3 missing",)
    [two] = explain(folder, PROMPT, listed, "shape_grpo", overrides=["credit.candidates.count=2"])
    assert two.score == pytest.approx(max(alone), abs=1e-5)
    low, high = sorted(alone)
    expected = [low / 2, high - low / 2]
    assert sorted(unit.credit for unit in two.units if unit.credit) == pytest.approx(expected, abs=1e-5)
    assert two.dropped == ()


def test_overrides_reach_method_masking_and_model(reward_folders: dict[str, Path]) -> None:
    folder, keys = reward_folders["llama"], ["credit.estimator=paired_tree", "credit.masking=attention"]
    [plain], [changed] = (explain(folder, PROMPT, REPLY, "scar_token", overrides=given) for given in ([], keys))
    assert changed.estimator == "paired_tree"
    assert changed.score == pytest.approx(plain.score, abs=1e-6)
    assert changed.base != pytest.approx(plain.base, abs=1e-3)
    [asked] = explain(folder, PROMPT, REPLY, "sparse", overrides=["model.reward.template='Q: {prompt} A:{response}'"])
    assert asked.score != pytest.approx(plain.score, abs=1e-3)


def test_the_explanation_as_json_is_plain(explained: list[Explanation]) -> None:
    found = explained[WORDS.index("scar_span")]
    read = json.loads(json.dumps(found.to_json()))
    assert read["credit"] == "scar_span"
    assert read["units"][0] == {
        "text": found.units[0].text,
        "start": 0,
        "end": found.units[0].end,
        "n_tokens": found.units[0].n_tokens,
        "credit": found.units[0].credit,
    }
    assert read["tokens"][-1] == {"text": "<eos>", "reward": found.tokens[-1].reward}
    assert read["score"] == found.score


def test_a_character_of_several_tokens_belongs_to_the_last_of_them() -> None:
    # "é" in two tokens, a blank that no token claims, "x", a blank at the end
    assert token_ranges([(0, 1), (0, 1), (2, 3)], 4) == ((0, 0), (0, 1), (1, 4))
    assert token_ranges([], 0) == ()


@settings(max_examples=50)
@given(st.text("aé 😀\n漢", max_size=12))
def test_ranges_cover_any_text_whatever_the_tokens(tok_text: str) -> None:
    offsets = _byte_level(tok_text)
    ranges = token_ranges(offsets, len(tok_text))
    assert "".join(tok_text[start:end] for start, end in ranges) == tok_text
    assert len(ranges) == len(offsets)


def _byte_level(text: str) -> list[tuple[int, int]]:
    """Offsets of a tokenizer with one token for each byte."""
    return [(at, at + 1) for at, char in enumerate(text) for _ in char.encode()]


def test_nothing_of_ray_is_imported_and_the_package_itself_stays_light(reward_folders: dict[str, Path]) -> None:
    program = (
        "import sys\nimport scar_ray\nlight = 'torch' in sys.modules or 'numpy' in sys.modules\n"
        "from scar_ray import explain\n"
        f"explain({str(reward_folders['llama'])!r}, 'The film is', ' good', ['abc', 'scar_span'])\n"
        "print(light, 'ray' in sys.modules, any(name.startswith('ray.') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False False"


@pytest.mark.parametrize(
    ("credit", "overrides", "line"),
    [
        ("scar_spam", [], 'credit: must be one of .*, got "scar_spam"; did you mean scar_span\\?'),
        ("scar_span", ["credit.alhpa=1"], "unknown key credit.alhpa; did you mean credit.alpha\\?"),
        ("scar_span", ["credit.alpha=2"], "credit.alpha: must be a number from 0 to 1, got 2"),
        ("scar_span", ["trainer.steps=3"], "trainer.steps: has no effect on an explanation, .*; leave it out"),
        (
            "prefix_complete",
            [],
            "credit.value=complete: a policy must complete the response; name it with --policy",
        ),
        ("scar_span", ["model.reward.path=x"], "model.reward.path: has no effect .*; leave it out"),
        ("scar_span", ["credit.masking=mask"], "credit.masking=mask: the tokenizer of .* has no mask token; use .*"),
    ],
)
def test_a_wrong_setting_is_one_line(
    credit: str, overrides: list[str], line: str, reward_folders: dict[str, Path]
) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        Explainer(reward_folders["llama"], credit, overrides=overrides)


def test_the_parser_of_the_phrases_is_that_of_the_configuration(
    reward_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no parser has been built there
    with pytest.raises(ValueError, match="scar-ray parser build"):
        Explainer(reward_folders["llama"], overrides=["credit.parser=treebank"])


def test_keys_of_the_model_need_a_model_that_is_not_loaded_yet(load_reward: Callable[..., RewardModel]) -> None:
    with pytest.raises(
        UserError, match=r"^model.reward.label: has no effect on an explanation, which takes credit.KEY;"
    ):
        Explainer(load_reward("llama"), overrides=["model.reward.label=0"])


def test_abc_needs_a_model_that_gives_attention(load_reward: Callable[..., RewardModel]) -> None:
    with pytest.raises(ValueError, match=r"^credit=abc: the reward model was loaded without attention; load it with "):
        Explainer(load_reward("llama"), "abc")


def test_abc_is_refused_for_a_model_without_any_attention(tmp_path: Path) -> None:
    from transformers import FNetConfig, FNetForSequenceClassification

    pieces = reward_bench.word_piece()
    config = FNetConfig(vocab_size=len(pieces), hidden_size=8, num_hidden_layers=1, intermediate_size=8, num_labels=1)
    FNetForSequenceClassification(config).save_pretrained(tmp_path)
    pieces.save_pretrained(tmp_path)
    line = "credit=abc needs attention, FNetForSequenceClassification has none; use another credit$"
    with pytest.raises(ValueError, match=line):
        Explainer(tmp_path, "abc")


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^reward model {tmp_path / 'nowhere'}: no such model folder$"):
        Explainer(tmp_path / "nowhere")


def test_responses_that_cannot_be_explained_are_one_line(reward_folders: dict[str, Path]) -> None:
    explainer = Explainer(reward_folders["llama"], overrides=["model.reward.max_length=20"])
    with pytest.raises(UserError, match=r"^response '': the reward model's tokenizer finds no token in it; it must "):
        explainer.explain(PROMPT, "")
    long = (
        r"^response '( good){11} goo…': prompt and response take \d+ reward-model tokens, the reward model reads 20; "
    )
    with pytest.raises(UserError, match=long + "shorten the prompt or the response$"):
        explainer.explain(PROMPT, " good" * 30)
    with pytest.raises(UserError, match=r"^prompt: character 2 is half of a surrogate pair; remove it$"):
        explainer.explain("ab\ud800", " good")


def test_a_score_that_is_not_finite_is_one_line(reward_folders: dict[str, Path], tmp_path: Path) -> None:
    for file in reward_folders["llama"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["score.weight"] = torch.full_like(weights["score.weight"], float("nan"))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"^response ' good': the reward model returned nan as its score$"):
        explain(tmp_path, PROMPT, " good", "sparse")


RULES = f"{Path(__file__).resolve().parents[2] / 'examples/rewards.py'}:praise"


def test_a_python_function_is_explained_in_words() -> None:
    """Four words are free, the fifth costs 0.1, shared by the two phrases; one praises, one blames."""
    words, spans = explain(
        RULES,
        "It is",
        " great, but far too dull.",
        ["scar_word", "scar_span"],
        overrides=["model.reward.options.length=4"],
    )
    assert words.score == pytest.approx(-0.1)
    assert [token.text for token in words.tokens] == [" great", ",", " but", " far", " too", " dull", "."]
    assert [unit.text for unit in spans.units] == [" great,", " but far too dull."]
    assert [unit.credit for unit in spans.units] == pytest.approx([0.95, -1.05])
    with pytest.raises(UserError, match=r"^credit=abc needs a model's attention, .*:praise has none; use another"):
        explain(RULES, "It is", " great", "abc")
