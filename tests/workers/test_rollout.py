"""Rollout: what the engines sample, and how the pool passes it on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_bench as bench
import numpy as np
import pytest
import ray
import tiny_models
from stand_ins import StandInEngine
from transformers import AutoTokenizer

from scar_ray.config.schema import Sampling
from scar_ray.workers.errors import ActorFailed
from scar_ray.workers.modeling import load_policy
from scar_ray.workers.rollout import RayRolloutPool

pytestmark = pytest.mark.stack

SAMPLING = Sampling(min_new_tokens=3, max_new_tokens=24, temperature=0.7)
PROMPTS = bench.random_prompts([4, 5, 6, 7, 8, 3])
EOS = 0


@pytest.fixture(scope="module")
def policy(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 that ends about one token in eight; its generation config names more stop tokens than the tokenizer has."""
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = AutoTokenizer.from_pretrained(models["gpt2"])
    assert tokenizer.eos_token_id == EOS
    model = load_policy(str(models["gpt2"]), "float32", False)
    row = model.lm_head.weight[EOS].detach()
    model.transformer.ln_f.bias.data = 4.0 * row / row.norm() ** 2
    model.generation_config.eos_token_id = [EOS, *range(100, 200)]
    return tiny_models.save(model, tokenizer, folder)


@pytest.fixture(scope="module")
def engines(vllm_processes: list[Any], policy: Path) -> list[Any]:
    """Two engines with the same policy."""
    ray.get([engine.restart.remote(bench.engine_options(policy, SAMPLING)) for engine in vllm_processes])
    return vllm_processes


@pytest.fixture(scope="module")
def responses(engines: list[Any]) -> list[Any]:
    """Four responses to each of six prompts, in row order, from both engines."""
    return bench.generate(engines, bench.requests(PROMPTS, samples=4))


def test_every_request_is_answered_once_with_what_was_asked(responses: list[Any]) -> None:
    assert [response.row for response in responses] == list(range(24))
    assert [response.prompt.index for response in responses] == [i for i in range(6) for _ in range(4)]
    assert [response.sample for response in responses] == [0, 1, 2, 3] * 6
    assert [response.prompt.token_ids for response in responses[::4]] == PROMPTS
    assert {response.engine for response in responses} == {"rollout-0", "rollout-1"}
    assert {response.policy_version for response in responses} == {0}


def test_a_response_keeps_its_eos_and_says_that_it_is_finished(responses: list[Any]) -> None:
    finished = [response for response in responses if response.finished]
    assert 6 <= len(finished) <= 23
    for response in responses:
        assert (response.token_ids[-1] == EOS) == response.finished
        assert EOS not in response.token_ids[:-1]
        assert response.n_tokens == 24 or response.finished
        assert response.n_content == response.n_tokens - response.finished


def test_only_the_eos_of_the_tokenizer_ends_a_response(responses: list[Any]) -> None:
    assert any(100 <= token < 200 for response in responses for token in response.token_ids[:-1])


def test_a_response_has_its_least_number_of_tokens_before_the_eos(engines: list[Any], responses: list[Any]) -> None:
    assert min(response.n_content for response in responses) >= 3
    free = Sampling(max_new_tokens=24, temperature=0.7)
    ray.get([engine.resample.remote(free) for engine in engines])
    unbound = bench.generate(engines, bench.requests(PROMPTS, samples=4))
    ray.get([engine.resample.remote(SAMPLING) for engine in engines])
    assert min(response.n_content for response in unbound) < 3


def test_behaviour_logprobs_are_those_of_the_learners_tempered_and_masked_distribution(
    policy: Path, responses: list[Any]
) -> None:
    model = load_policy(str(policy), "float32", False)
    reference = bench.reference_logprobs(model, responses, SAMPLING, EOS)
    assert bench.gap(bench.logprobs(responses), reference) < 1e-4
    assert all(response.logprobs_T.dtype == np.float32 for response in responses)
    plain = bench.reference_logprobs(model, responses, Sampling(min_new_tokens=3), EOS)
    unmasked = bench.reference_logprobs(model, responses, Sampling(temperature=0.7), EOS)
    assert bench.gap(reference, plain) > 0.1
    assert bench.gap(reference, unmasked) > 0.1


def test_samples_of_one_prompt_differ(responses: list[Any]) -> None:
    for first in range(0, 24, 4):
        assert len({response.token_ids for response in responses[first : first + 4]}) == 4


@pytest.mark.parametrize(
    "chosen", [slice(None, None, -1), slice(5, 18), slice(7, 8)], ids=["reversed", "part", "alone"]
)
def test_a_response_depends_neither_on_the_engine_nor_on_the_batch_or_its_order(
    engines: list[Any], responses: list[Any], chosen: slice
) -> None:
    asked = bench.requests(PROMPTS, samples=4)[chosen]
    for engine in engines:
        again = bench.generate([engine], asked)
        same = sorted(responses[chosen], key=lambda response: response.row)
        assert bench.tokens(again) == bench.tokens(same)
        assert bench.gap(bench.logprobs(again), bench.logprobs(same)) < 1e-5


def test_a_response_goes_on_from_the_tokens_that_are_kept(
    engines: list[Any], policy: Path, responses: list[Any]
) -> None:
    """Half of each response is kept; the length is that of the whole, and so is the least length."""
    asked = [
        replace(request, kept=response.token_ids[: response.n_content // 2], seed=request.seed + 99)
        for request, response in zip(bench.requests(PROMPTS, samples=4), responses, strict=True)
    ]
    completed = bench.generate(engines, asked)
    for request, one in zip(asked, completed, strict=True):
        assert one.kept == len(request.kept)
        assert one.token_ids[: one.kept] == request.kept
        assert one.n_tokens == 24 or (one.finished and one.n_content >= 3)
        assert one.token_spans[-1][1] == len(one.text)
        assert np.isnan(one.logprobs_T[: one.kept]).all()
    reference = bench.reference_logprobs(load_policy(str(policy), "float32", False), completed, SAMPLING, EOS)
    sampled = [one.logprobs_T[one.kept :] for one in completed]
    assert bench.gap(sampled, [row[one.kept :] for row, one in zip(reference, completed, strict=True)]) < 1e-4
    assert bench.tokens(completed) != bench.tokens(responses)
    assert bench.tokens(bench.generate(engines[:1], asked[::-1])) == bench.tokens(completed)
    assert ray.get(engines[0].cached_tokens.remote([*range(5, 75)])) == 0
    assert ray.get(engines[0].cached_tokens.remote([*range(5, 100)])) == 64, "whole blocks of a common beginning"


def test_a_gap_is_filled_as_the_policy_answers_the_infilling_text(
    engines: list[Any], policy: Path, responses: list[Any]
) -> None:
    """The middle third of each response is left out, the EOS kept with the last third."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    text = "fill {before}_{after}|{prompt}:"
    ray.get([engine.infill.remote(text) for engine in engines])
    asked = [
        replace(request, kept=one.token_ids[: one.n_content // 3], after=one.token_ids[2 * one.n_content // 3 :])
        for request, one in zip(bench.requests(PROMPTS, samples=4), responses, strict=True)
    ]
    filled = bench.generate(engines, asked)
    reference = load_policy(str(policy), "float32", False)
    written = []
    for request, one, whole in zip(asked, filled, responses, strict=True):
        middle = one.token_ids[one.kept : one.n_tokens - len(request.after)]
        assert one.token_ids == (*request.kept, *middle, *request.after)
        assert one.n_tokens <= 24
        assert one.finished == whole.finished
        assert one.text == tokenizer.decode(one.token_ids, skip_special_tokens=True)
        read = text.format(
            prompt=request.prompt.text,
            before=tokenizer.decode(request.kept),
            after=tokenizer.decode(request.after, True),
        )
        answer = replace(
            one,
            prompt=replace(one.prompt, token_ids=tuple(tokenizer(read)["input_ids"])),
            token_ids=middle,
            logprobs_T=one.logprobs_T[one.kept : one.n_tokens - len(request.after)],
        )
        assert np.isnan(one.logprobs_T).sum() == len(request.kept) + len(request.after)
        written += [answer] if middle else []
    assert len({one.n_tokens for one in written}) > 3
    plain = Sampling(max_new_tokens=24, temperature=0.7)
    assert bench.gap(bench.logprobs(written), bench.reference_logprobs(reference, written, plain, EOS)) < 1e-4
    assert bench.tokens(bench.generate(engines[:1], asked[::-1])) == bench.tokens(filled)
    full = [replace(asked[0], kept=(5,) * 20, after=(6,) * 4)]
    assert bench.tokens(bench.generate(engines[:1], full)) == [(*full[0].kept, *full[0].after)], "no room is left"


def test_responses_arrive_in_the_order_in_which_they_finish(engines: list[Any]) -> None:
    pool = RayRolloutPool(engines[:1], ["rollout-0"])
    arrived = list(pool.generate(bench.requests(PROMPTS, samples=4)))
    lengths = [response.n_tokens for response in arrived]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 5
    assert [response.row for response in arrived] != sorted(response.row for response in arrived)


def test_token_spans_cut_the_text_into_its_tokens(policy: Path, responses: list[Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    for response in responses:
        assert response.text == tokenizer.decode(response.token_ids, skip_special_tokens=True)
        starts, ends = zip(*response.token_spans, strict=True)
        assert starts == (0, *ends[:-1])
        assert ends[-1] == len(response.text)
        if response.finished:
            assert response.token_spans[-1] == (len(response.text), len(response.text))
        for token, (start, end) in zip(response.token_ids, response.token_spans, strict=True):
            piece = tokenizer.decode([token], skip_special_tokens=True)
            assert response.text[start:end] == piece or "\ufffd" in piece


def test_a_prompt_that_leaves_no_room_names_engine_and_prompt_and_the_engine_goes_on(
    engines: list[Any], responses: list[Any]
) -> None:
    asked = bench.requests([PROMPTS[0], *bench.random_prompts([169])])
    with pytest.raises(ActorFailed) as failure:
        bench.generate(engines, asked)
    assert str(failure.value) == (
        "rollout-1: ValueError: prompt 1 has 169 tokens; with max_new_tokens=24 it exceeds the engine's "
        "context of 192; use shorter prompts or raise cluster.rollout.max_model_len"
    )
    again = bench.generate(engines[1:], bench.requests(PROMPTS, samples=4)[:2])
    assert bench.tokens(again) == bench.tokens(responses[:2])


def test_an_engine_counts_the_seconds_that_it_is_busy(engines: list[Any], responses: list[Any]) -> None:
    assert len(responses) == 24
    assert RayRolloutPool(engines, ["rollout-0", "rollout-1"]).busy_seconds() > 0


@pytest.fixture
def stand_ins(ray_cluster: None) -> Iterator[list[Any]]:
    engines = [bench.new_actor(StandInEngine, name) for name in ("rollout-0", "rollout-1")]
    yield engines
    for engine in engines:
        ray.kill(engine)


def test_a_response_is_passed_on_before_the_next_one_is_done(stand_ins: list[Any], tmp_path: Path) -> None:
    """The engine gives its second response when the first one has arrived, and so on."""
    files = [tmp_path / str(i) for i in range(3)]
    asked = bench.requests([(1,)] * 4, texts=["at once", *(f"wait {file}" for file in files)])
    for response, file in zip(
        RayRolloutPool(stand_ins[:1], ["rollout-0"]).generate(asked), [*files, None], strict=True
    ):
        if file is not None:
            file.touch()
        assert response.engine == "rollout-0"


def test_a_dead_engine_is_named_while_the_other_one_is_still_at_work(stand_ins: list[Any], tmp_path: Path) -> None:
    asked = bench.requests([(1,)] * 2, texts=[f"wait {tmp_path / 'never'}", "die"])
    with pytest.raises(ActorFailed, match=r"^rollout-1: died: its worker process has died"):
        bench.generate(stand_ins, asked)


def test_a_killed_engine_is_named(stand_ins: list[Any], tmp_path: Path) -> None:
    asked = bench.requests(
        [(1,)] * 4, texts=["at once", "at once", f"wait {tmp_path / 'go'}", f"wait {tmp_path / 'never'}"]
    )
    arriving = RayRolloutPool(stand_ins, ["rollout-0", "rollout-1"]).generate(asked)
    assert {next(arriving).engine, next(arriving).engine} == {"rollout-0", "rollout-1"}
    ray.kill(stand_ins[1])
    with pytest.raises(ActorFailed, match=r"^rollout-1: died: it was killed by `ray.kill`"):
        next(arriving)


def test_an_evaluation_may_sample_in_another_way(engines: list[Any], responses: list[Any]) -> None:
    pool = RayRolloutPool(engines, ["rollout-0", "rollout-1"])
    asked = bench.requests(PROMPTS, samples=2)
    short = list(pool.generate(asked, Sampling(min_new_tokens=5, max_new_tokens=5, temperature=0.7)))
    assert {response.n_content for response in short} == {5}
    assert max(response.n_tokens for response in bench.generate(engines, asked)) > 5, "only for that one call"
