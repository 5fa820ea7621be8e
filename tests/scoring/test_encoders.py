"""Encoders: every distinct sequence once, in batches of like lengths; values that do not depend on the packing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import Classifier, PlainBatches

GIB = 2**30
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": {"max_position_embeddings": 64},
    "Roberta": {"max_position_embeddings": 66},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    "DistilBert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64},
    "ModernBert": {"local_attention": 8, "global_attn_every_n_layers": 2, "max_position_embeddings": 64},
}
"""Absolute positions, positions counted from the padding's, relative ones, and rotary ones with local attention."""


@pytest.fixture(scope="module")
def loaded() -> dict[str, Classifier]:
    return {name: classifier(name) for name in ENCODERS}


def classifier(name: str) -> Classifier:
    torch.manual_seed(0)
    own = {} if name == "DistilBert" else SMALL
    config = getattr(transformers, f"{name}Config")(
        vocab_size=40, pad_token_id=1, num_labels=1, **own, **ENCODERS[name]
    )
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return Classifier.of(model.eval(), causal=False, label=0)


def plain(loaded: Classifier, batch_tokens: int = 10**5, memory: int = GIB) -> PlainBatches:
    return PlainBatches(loaded, batch_tokens=batch_tokens, memory=memory)


@torch.no_grad()
def alone(loaded: Classifier, sequence: Encoded) -> float:
    """Transformers' own forward pass on one sequence, without padding."""
    mask = torch.ones((1, len(sequence)), dtype=torch.long)
    mask[0, list(sequence.hidden)] = 0
    return float(loaded.model(input_ids=torch.tensor([sequence.ids]), attention_mask=mask).logits[0, 0])


sequences = st.lists(st.lists(st.integers(2, 39), min_size=1, max_size=30).map(tuple), min_size=1, max_size=8)


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=10, derandomize=True)
@given(rows=sequences, batch_tokens=st.sampled_from([1, 40, 1000]), memory=st.sampled_from([1, GIB]), data=st.data())
def test_scores_are_those_of_single_sequences_whatever_the_batches(
    name: str,
    rows: list[tuple[int, ...]],
    batch_tokens: int,
    memory: int,
    data: st.DataObject,
    loaded: dict[str, Classifier],
) -> None:
    hides = name != "ModernBert" and data.draw(st.booleans())
    asked = [Encoded((0, *row), (1,) if hides and len(row) > 1 else ()) for row in rows]
    expected = [alone(loaded[name], sequence) for sequence in asked]
    found, computed = plain(loaded[name], batch_tokens, memory).scores(asked, [])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert computed >= sum(map(len, asked))
    if batch_tokens == 1:  # every sequence is a batch of its own, but for none to be padded
        assert computed == sum(map(len, asked))


@pytest.mark.parametrize("name", ENCODERS)
def test_out_of_memory_halves_a_batch_and_leaves_the_values(
    name: str, loaded: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded[name].model
    asked = [Encoded((0, *range(2, 2 + n))) for n in (9, 9, 9, 12, 3)]
    expected = [alone(loaded[name], sequence) for sequence in asked]
    forward, sizes = model.forward, []

    def limited(*args: Any, **options: Any) -> Any:
        sizes.append(tuple(options["input_ids"].shape))
        if options["input_ids"].numel() > 30:
            raise torch.OutOfMemoryError("too much")
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", limited)
    found, computed = plain(loaded[name], batch_tokens=40).scores(asked, [])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # Sorted by length: 4 and three of 10 within 40 tokens, cut into halves as two of 10 and two of 10; then 13.
    assert sizes == [(4, 10), (2, 10), (2, 10), (1, 13)]
    assert computed == 53
