"""What an evaluation took: sequences asked for and distinct, and tokens of the naive way, computed and padded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reward_bench import every_prefix, ids_of, replies, shapley
from transformers import PreTrainedTokenizerFast

from scar_ray.records import CreditPlan
from scar_ray.scoring import RewardModel


@pytest.mark.parametrize("engine", ["plain", "shared_prompt", "trie"])
def test_tokens_are_those_asked_for_the_distinct_ones_and_those_computed(
    engine: str, load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    model = load_reward("llama", engine=engine, batch_tokens=100)
    jobs = [(response, shapley(response)) for response in replies(tok)[:4]]
    sequences = [s for job in jobs for s in model.encoder.sequences(*job)]
    _, work = model.evaluate(jobs)
    assert work.asked == len(sequences) == 4 * (1 + 8)
    assert work.unique == len(set(sequences)) < work.asked
    assert work.asked_tokens == sum(map(len, sequences))
    assert work.tokens == sum(map(len, set(sequences)))
    assert model.evaluate(jobs)[1] == work
    if engine == "plain":
        assert work.padding_tokens == work.computed_tokens - work.tokens > 0
    if engine == "trie":
        assert work.padding_tokens == 0
        assert work.computed_tokens < work.tokens


def test_batches_of_one_length_have_no_padding(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    model = load_reward("llama", engine="plain")
    [one, *_] = replies(tok)
    _, work = model.evaluate([(one, CreditPlan())])
    assert work.computed_tokens == work.tokens == len(ids_of(one))
    assert work.padding_tokens == 0


def test_the_padding_of_what_follows_a_shared_prompt_is_counted(
    load_reward: Callable[..., RewardModel], tok: PreTrainedTokenizerFast
) -> None:
    """The prompt once, then the rest of each prefix padded to the longest one of its batch."""
    model = load_reward("llama", engine="shared_prompt")
    response = replies(tok)[0]
    lengths = [len(sequence) for sequence in set(model.encoder.sequences(response, every_prefix(response)))]
    _, work = model.evaluate([(response, every_prefix(response))])
    shared = len(response.prompt.token_ids)
    assert work.computed_tokens == shared + len(lengths) * (max(lengths) - shared)
    assert work.padding_tokens == sum(max(lengths) - length for length in lengths)
