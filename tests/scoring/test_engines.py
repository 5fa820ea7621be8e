"""The engines give the scores of single sequences, whatever the architecture, the coalitions and the packing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_bench import EOS, every_prefix, replies, shapley
from transformers import PreTrainedTokenizerFast

from scar_ray.credit.scar import ScarCredit
from scar_ray.games import Lengths
from scar_ray.records import Masking
from scar_ray.scoring import RewardModel
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import Classifier, PlainBatches, choose_engine
from scar_ray.scoring.engines.blocks import Block
from scar_ray.scoring.engines.classifier import Engine
from scar_ray.scoring.engines.shared_prompt import SharedPrompt
from scar_ray.scoring.engines.trie import TrieBlocks

GIB = 2**30
VOCABULARY, PAD = 60, 1
WINDOW = 8
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 0,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "bos_token_id": 0, "eos_token_id": 0}
OPT = {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SLIDING: dict[str, Any] = {**LLAMA, "num_key_value_heads": 1, "sliding_window": WINDOW}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**LLAMA, "num_key_value_heads": 1}),
    "gpt2": ("GPT2", {**GPT2, "vocab_size": VOCABULARY}),
    "neox": ("GPTNeoX", LLAMA),
    "opt": ("OPT", {**OPT, "vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 0}),
    "qwen2": ("Qwen2", {**SLIDING, "use_sliding_window": True, "max_window_layers": 1}),
    "mistral": ("Mistral", SLIDING),
    "gemma2": ("Gemma2", {**SLIDING, "head_dim": 16}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2, "vocab_size": VOCABULARY}),
}
"""Absolute, learned and rotary positions, shared key heads, sliding windows in all and in half of the layers, ALiBi."""
TRIE = tuple(name for name in ARCHITECTURES if name != "bloom")


def classifier(name: str, dtype: torch.dtype = torch.float32) -> Classifier:
    """A model with random weights, large enough for scores to differ from token to token."""
    kind, options = ARCHITECTURES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**options, pad_token_id=PAD, num_labels=1)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return Classifier.of(model.to(dtype).eval(), causal=True, label=0)


def plain(loaded: Classifier, batch_tokens: int = 10**5) -> PlainBatches:
    return PlainBatches(loaded, batch_tokens=batch_tokens, memory=GIB)


def trie(loaded: Classifier, block: int, memory: int = GIB, chunk: int = 4) -> TrieBlocks:
    return TrieBlocks(loaded, plain(loaded), memory=memory, block=block, chunk=chunk)


def shared(loaded: Classifier, batch_tokens: int) -> SharedPrompt:
    return SharedPrompt(loaded, plain(loaded), batch_tokens=batch_tokens, memory=GIB)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Classifier]:
    return {name: classifier(name) for name in ARCHITECTURES}


@st.composite
def games(draw: st.DrawFn) -> tuple[list[Encoded], list[list[int]]]:
    """Distinct sequences of one to three responses whose units are cut out, replaced or hidden."""
    index: dict[Encoded, int] = {}
    groups = []
    token = st.integers(0, 9)  # few, so that padding, repetitions and equal prefixes of different responses occur
    for _ in range(draw(st.integers(1, 3))):
        prompt = draw(st.lists(token, max_size=12))
        response = draw(st.lists(token, min_size=1, max_size=8))
        end = draw(st.sampled_from([[], [0], [PAD]]))
        masking = draw(st.sampled_from(["delete", "fill", "hide"]))
        known = len(index)
        for kept in draw(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=6)):
            pairs = list(zip(response, kept, strict=False))
            if masking == "delete":
                sequence = Encoded((*prompt, *(t for t, here in pairs if here), *end))
            elif masking == "fill":
                sequence = Encoded((*prompt, *(t if here else 5 for t, here in pairs), *end))
            else:
                gone = tuple(len(prompt) + i for i, (_, here) in enumerate(pairs) if not here)
                sequence = Encoded((*prompt, *response, *end), gone)
            if len(sequence) > len(sequence.hidden):
                index.setdefault(sequence, len(index))
        groups.append(list(range(known, len(index))))
    return list(index), groups


def limit_tokens(loaded: Classifier, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes forward passes of more tokens run out of memory; the list that the sizes of all passes are added to."""
    backbone = loaded.backbone
    forward, sizes = backbone.forward, []

    def limited(*args: Any, **options: Any) -> Any:
        sizes.append((options["input_ids"] if "input_ids" in options else args[0]).numel())
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("too much")
        return forward(*args, **options)

    monkeypatch.setattr(backbone, "forward", limited)
    return sizes


def one_by_one(loaded: Classifier, sequences: list[Encoded]) -> np.ndarray:
    return np.array([plain(loaded).scores([sequence], [[0]])[0][0] for sequence in sequences])


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=12, derandomize=True)
@given(
    game=games(),
    block=st.integers(1, 40),
    chunk=st.sampled_from([1, 3, 8]),
    batch_tokens=st.sampled_from([1, 60, 1000]),
)
def test_every_engine_gives_the_scores_of_single_sequences(
    name: str,
    game: tuple[list[Encoded], list[list[int]]],
    block: int,
    chunk: int,
    batch_tokens: int,
    loaded: dict[str, Classifier],
) -> None:
    sequences, groups = game
    if name == "bloom":  # takes its positions from the mask: nothing can be hidden
        sequences = [Encoded(sequence.ids) for sequence in sequences]
    expected = one_by_one(loaded[name], sequences)
    engines: list[Engine] = [plain(loaded[name], batch_tokens), shared(loaded[name], batch_tokens)]
    if name in TRIE:
        engines.append(trie(loaded[name], block, chunk=chunk))
    for engine in engines:
        np.testing.assert_allclose(engine.scores(sequences, groups)[0], expected, rtol=1e-5, atol=1e-5)


def test_the_windows_of_sliding_attention_make_a_difference(
    loaded: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the window and more: a trie that took all attention for full would be off."""
    sequences = [Encoded(tuple(range(2, 2 + 3 * WINDOW))), Encoded(tuple(range(2, 2 + 2 * WINDOW)))]
    names = ("qwen2", "mistral", "gemma2")
    expected = {name: one_by_one(loaded[name], sequences) for name in names}
    for name in names:
        np.testing.assert_allclose(trie(loaded[name], 64).scores(sequences, [[0, 1]])[0], expected[name], atol=1e-5)
    monkeypatch.setattr(Block, "window_matters", False)
    for name in names:
        assert np.abs(trie(loaded[name], 64).scores(sequences, [[0, 1]])[0] - expected[name]).max() > 0.01


def test_half_precision_differs_by_no_more_than_its_rounding() -> None:
    half, whole = classifier("llama", torch.bfloat16), classifier("llama")
    sequences = [Encoded((*range(2, 12), *range(20, 20 + n))) for n in range(12)]
    expected = one_by_one(whole, sequences)
    found = trie(half, 5).scores(sequences, [list(range(12))])[0]
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


def test_nodes_are_computed_once(loaded: dict[str, Classifier]) -> None:
    """Two responses of one prompt; a sequence that continues another one costs its own end only."""
    prompt = (7, 8, 9)
    sequences = [Encoded((*prompt, *rest)) for rest in [(), (2,), (2, 3), (2, 3, 4), (2, 4), (5,)]]
    _, computed = trie(loaded["llama"], 64).scores(sequences, [[0, 1, 2, 3, 4], [5]])
    assert computed == 3 + 3 + 1 + 1
    _, computed = shared(loaded["llama"], 10**5).scores(sequences[1:5], [[0, 1, 2, 3]])
    assert computed == 3 + 4 * 3


def test_running_out_of_memory_halves_the_work_and_goes_on(
    loaded: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that holds 32 tokens: two sequences of 29 that differ from their 9th token on, 50 nodes."""
    model = loaded["llama"]
    sequences = [Encoded((*range(2, 10), first, *range(20, 40))) for first in (3, 4)]
    expected, groups = one_by_one(model, sequences), [[0, 1]]
    sizes = limit_tokens(model, 32, monkeypatch)
    engine = trie(model, 64)
    np.testing.assert_allclose(engine.scores(sequences, groups)[0], expected, atol=1e-5)
    assert sizes == [8, 42, 21, 21]  # what the two have in common, then both ends
    engine.scores(sequences, groups)  # remembers what did not fit
    assert sizes[4:] == [8, 21, 21]
    np.testing.assert_allclose(plain(model).scores(sequences, groups)[0], expected, atol=1e-5)
    assert sizes[7:] == [58, 29, 29]
    np.testing.assert_allclose(shared(model, 1000).scores(sequences, groups)[0], expected, atol=1e-5)
    assert sizes[10:] == [8, 42, 21, 21]
    assert [record.getMessage() for record in caplog.records] == [
        "out of device memory: blocks of 21 nodes from here on",
        "out of device memory: a batch of 2 sequences is scored in halves",
        "out of device memory: a batch of 2 sequences is scored in halves",
    ]


def test_a_single_sequence_that_does_not_fit_is_an_error(
    loaded: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tokens(loaded["llama"], 0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        plain(loaded["llama"]).scores([Encoded((2, 3))], [[0]])
    with pytest.raises(torch.OutOfMemoryError):
        trie(loaded["llama"], 4).scores([Encoded((2, 3))], [[0]])


def test_blocks_shrink_with_the_memory_budget(loaded: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch) -> None:
    """28 nodes in common and 55 behind them."""
    sizes = limit_tokens(loaded["llama"], 1000, monkeypatch)
    sequences = [Encoded((*range(2, 30), *range(first, 40))) for first in range(30, 40)]
    found, passes = [], []
    for memory in (GIB, 10**5, 1):
        sizes.clear()
        found.append(trie(loaded["llama"], 64, memory).scores(sequences, [list(range(10))])[0])
        passes.append(list(sizes))
    assert passes[0] == [28, 55]
    assert sum(passes[1]) == 83
    assert 10 < max(passes[1]) < 30
    assert passes[2] == [1] * 83
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_auto_takes_the_first_engine_that_suits_the_model_and_says_so(
    loaded: dict[str, Classifier], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in TRIE:
        assert choose_engine(loaded[name], plain(loaded[name]), "auto", 1000, GIB).name == "trie"
        assert caplog.records[-1].getMessage().endswith("ForSequenceClassification: coalitions are scored by trie")
    assert choose_engine(loaded["bloom"], plain(loaded["bloom"]), "auto", 1000, GIB).name == "shared_prompt"
    assert "by shared_prompt (trie: ValueError: " in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelname == "WARNING"


def test_an_engine_that_does_not_suit_the_model_is_refused_by_name(loaded: dict[str, Classifier]) -> None:
    message = r"^cluster.reward.engine=trie: does not suit BloomForSequenceClassification \(ValueError: .*\); use auto"
    with pytest.raises(ValueError, match=message):
        choose_engine(loaded["bloom"], plain(loaded["bloom"]), "trie", 1000, GIB)


def test_a_model_that_scores_otherwise_with_masks_of_ours_is_scored_plainly(
    loaded: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = loaded["gpt2"].backbone
    forward = backbone.forward

    def ignores_positions(*args: Any, **options: Any) -> Any:
        if options.get("use_cache") is not None:  # as trie and shared_prompt do, and plain batches do not
            options["position_ids"] = torch.zeros_like(options["input_ids"])
        return forward(*args, **options)

    monkeypatch.setattr(backbone, "forward", ignores_positions)
    assert choose_engine(loaded["gpt2"], plain(loaded["gpt2"]), "auto", 1000, GIB).name == "plain"
    message = caplog.records[-1].getMessage()
    assert "by plain (trie: its scores differ by" in message
    assert "shared_prompt: its scores differ by" in message


@pytest.mark.parametrize("name", ["llama", "gpt2_pad_is_eos", "gpt2_no_pad"])
def test_values_do_not_depend_on_the_engine(
    name: str, load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    responses = replies(tok)
    jobs = [(response, every_prefix(response)) for response in responses] + [
        (response, shapley(response)) for response in responses if response.n_content >= 3
    ]
    expected, work = load_reward(name, engine="plain").evaluate(jobs)
    for engine in ("trie", "shared_prompt"):
        found, other = load_reward(name, engine=engine).evaluate(jobs)
        assert (other.asked, other.unique, other.tokens) == (work.asked, work.unique, work.tokens)
        assert other.computed_tokens < work.tokens
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.values_C, two.values_C, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masking", ["delete", "blank", "attention"])
def test_the_trie_computes_as_many_tokens_as_the_cost_says(
    masking: Masking, load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    response = replies(tok)[1]
    response = replace(response, token_ids=(*range(40, 40 + response.n_content), EOS))  # no token twice
    plan = ScarCredit(unit="token", budget=40, masking=masking).plan(response)
    assert plan.units is not None
    assert plan.game is not None
    _, work = load_reward("llama", engine="trie").masked(masking).evaluate([(response, plan)])
    unit_tokens = tuple(np.subtract(plan.units.ends, plan.units.starts).tolist())
    lengths = Lengths(len(response.prompt.token_ids), unit_tokens, filled=masking == "blank")
    assert work.computed_tokens == lengths.trie_tokens(plan.game.coalitions_Cn)


def test_encoders_have_the_plain_engine(load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast) -> None:
    jobs = [(response, every_prefix(response)) for response in replies(tok)]
    _, work = load_reward("bert").evaluate(jobs)
    assert work.computed_tokens >= work.tokens
    with pytest.raises(ValueError, match=r"engine=trie: does not suit BertForSequenceClassification \(an encoder "):
        load_reward("bert", engine="trie")
