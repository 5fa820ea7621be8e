"""Weight sync: an engine whose weights were sent to it is the engine that would have been started with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine_bench as bench
import learner_bench
import pytest
import ray
import tiny_models
import torch
from transformers import AutoTokenizer

from scar_ray.config.schema import Sampling
from scar_ray.trainer.experience import logprob_gaps, sequences_of
from scar_ray.workers.errors import ActorFailed, get_all
from scar_ray.workers.modeling import load_policy
from scar_ray.workers.rollout import RayRolloutPool

pytestmark = pytest.mark.stack

SAMPLING = Sampling(max_new_tokens=12, temperature=0.5)
PROMPTS = bench.random_prompts([3, 5, 8, 12, 130])
"""The last one fills four blocks of the prefix cache."""
EOS = 0


@pytest.fixture(scope="module")
def trainer(ray_cluster: None) -> Iterator[Any]:
    actor = bench.new_actor(bench.SmallTrainer)
    yield actor
    ray.kill(actor)


@pytest.fixture(scope="module")
def changed(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The folder of a policy whose every parameter has changed, biases and norms included."""
    root = tmp_path_factory.mktemp("changed")

    def changed_policy(kind: str, seed: int) -> Path:
        model = load_policy(str(models[kind]), "float32", False)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return tiny_models.save(model, AutoTokenizer.from_pretrained(models[kind]), root / f"{kind}-{seed}")

    return changed_policy


def start(engines: list[Any], model: Path) -> None:
    ray.get([engine.restart.remote(bench.engine_options(model, SAMPLING)) for engine in engines])


def hold_and_send(trainer: Any, folder: Path, engines: list[Any], version: int) -> None:
    """All of the trainer's life: it holds a policy, connects to the engines and sends its weights."""
    ray.get(trainer.hold.remote(folder))
    ray.get(trainer.connect.remote(engines))
    ray.get(trainer.send.remote(version))


def reference_gap(folder: Path, responses: list[Any]) -> float:
    """Largest difference of the engine's log-probabilities from Hugging Face's in float32."""
    model = load_policy(str(folder), "float32", False)
    return bench.gap(bench.logprobs(responses), bench.reference_logprobs(model, responses, SAMPLING, EOS))


@pytest.mark.parametrize("kind", tiny_models.POLICIES)
def test_an_updated_engine_equals_a_fresh_engine_of_the_new_weights(
    kind: str,
    models: dict[str, Path],
    changed: Callable[[str, int], Path],
    vllm_processes: list[Any],
    trainer: Any,
) -> None:
    """Token for token and bit for bit, after two updates, with a prompt whose prefix was cached before each."""
    updated, other = vllm_processes
    asked = bench.requests(PROMPTS, samples=2)
    first, second = changed(kind, 1), changed(kind, 2)
    start([updated], models[kind])
    before = bench.generate([updated], asked)
    assert reference_gap(models[kind], before) < 1e-4
    for version, folder in ((1, first), (2, second)):
        assert ray.get(updated.cached_tokens.remote(PROMPTS[-1])) == 128
        hold_and_send(trainer, folder, [updated], version)
        assert ray.get(updated.cached_tokens.remote(PROMPTS[-1])) == 0
    after = bench.generate([updated], asked)
    assert {response.policy_version for response in after} == {2}
    assert bench.tokens(after) != bench.tokens(before)
    assert reference_gap(second, after) < 1e-4

    start([other], second)
    fresh = bench.generate([other], asked)
    assert bench.tokens(after) == bench.tokens(fresh)
    assert bench.gap(bench.logprobs(after), bench.logprobs(fresh)) == 0.0


def test_all_engines_get_the_same_weights_and_version(
    models: dict[str, Path], changed: Callable[[str, int], Path], vllm_processes: list[Any], trainer: Any
) -> None:
    start(vllm_processes, models["llama_tied"])
    new = changed("llama_tied", 3)
    hold_and_send(trainer, new, vllm_processes, version=7)
    assert ray.get([engine.policy_version.remote() for engine in vllm_processes]) == [7, 7]
    asked = bench.requests(PROMPTS, samples=2)
    answers = [bench.generate([engine], asked) for engine in vllm_processes]
    assert bench.tokens(answers[0]) == bench.tokens(answers[1])
    assert bench.gap(*map(bench.logprobs, answers)) == 0.0
    assert reference_gap(new, answers[0]) < 1e-4


@pytest.mark.parametrize("kind", tiny_models.POLICIES)
def test_adapters_are_sent_merged_into_the_weights_as_peft_merges_them(
    kind: str, models: dict[str, Path], trainer: Any
) -> None:
    ray.get(trainer.hold.remote(models[kind], lora=True))
    declared, sent = ray.get(trainer.call.remote(bench.sent_weights))
    expected = ray.get(trainer.call.remote(bench.merged_copy))
    assert declared == [(name, tuple(tensor.shape)) for name, tensor in sent.items()]
    assert sent.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(sent[name], expected[name], rtol=0, atol=1e-6)
    plain = load_policy(str(models[kind]), "float32", False).state_dict()
    assert sum(not torch.equal(sent[name], plain[name]) for name in sent) >= 4 * tiny_models.LAYERS


@pytest.mark.parametrize(("kind", "layer"), [("llama_tied", "lm_head"), ("llama", "model.embed_tokens")])
def test_an_adapter_that_could_get_lost_on_the_way_is_refused(
    kind: str, layer: str, models: dict[str, Path], trainer: Any
) -> None:
    """An embedding's, or one on a head that shares the embedding's weights."""
    targets = ("q_proj", layer.rpartition(".")[2])
    ray.get(trainer.hold.remote(models[kind], lora=True, targets=targets))
    with pytest.raises(ValueError, match=f"target_modules: the adapter of {layer} cannot be merged into an embedding"):
        ray.get(trainer.call.remote(bench.sent_weights))


def test_an_engine_with_merged_adapters_agrees_with_the_merged_policy(
    models: dict[str, Path], vllm_processes: list[Any], trainer: Any
) -> None:
    start(vllm_processes[:1], models["llama_tied"])
    ray.get(trainer.hold.remote(models["llama_tied"], lora=True))
    ray.get(trainer.connect.remote(vllm_processes[:1]))
    ray.get(trainer.send.remote(4))
    responses = bench.generate(vllm_processes[:1], bench.requests(PROMPTS))
    assert {response.policy_version for response in responses} == {4}
    assert reference_gap(models["llama_tied"], responses) > 0.1
    merged = load_policy(str(models["llama_tied"]), "float32", False)
    merged.load_state_dict(ray.get(trainer.call.remote(bench.merged_copy)), strict=False)
    reference = bench.reference_logprobs(merged, responses, SAMPLING, EOS)
    assert bench.gap(bench.logprobs(responses), reference) < 1e-4


def test_every_engine_gets_ranks_of_its_own_in_an_nccl_group(trainer: Any) -> None:
    ray.get(trainer.hold.remote(None))
    update = [("start_weight_update", None), ("update_weights", {"names": []}), ("finish_weight_update", 5)]
    assert ray.get(trainer.call.remote(bench.client_calls)) == [
        [("init_weight_transfer_engine", {"rank_offset": offset, "world_size": 7}), *update] for offset in (1, 3, 5)
    ]


def test_a_tensor_parallel_engine_gets_the_weights_and_leaves_no_shared_memory(
    models: dict[str, Path], changed: Callable[[str, int], Path], vllm_processes: list[Any], trainer: Any
) -> None:
    """Two worker processes that Ray knows nothing of."""
    shared = Path("/dev/shm")
    before = set(shared.glob("psm_*"))
    engine, new = vllm_processes[1], changed("llama_tied", 4)
    ray.get(engine.restart.remote(bench.engine_options(models["llama_tied"], SAMPLING, tensor_parallel=2)))
    assert set(shared.glob("psm_*")) - before
    hold_and_send(trainer, new, [engine], version=1)
    responses = bench.generate([engine], bench.requests(PROMPTS))
    assert {response.policy_version for response in responses} == {1}
    assert reference_gap(new, responses) < 1e-4
    RayRolloutPool([engine], ["rollout-1"]).close(timeout_s=60)
    assert set(shared.glob("psm_*")) <= before


@pytest.mark.parametrize(("ranks", "zero_stage"), [(1, 0), (2, 3)])
def test_what_a_learner_learned_reaches_the_engine(
    ranks: int,
    zero_stage: int,
    learners: Callable[..., Any],
    models: dict[str, Path],
    vllm_processes: list[Any],
) -> None:
    """The learner's own log-probabilities of the engine's tokens, before and after the sync."""
    engine = vllm_processes[:1]
    options = bench.engine_options(models["llama_tied"], learner_bench.SAMPLING)
    ray.get(engine[0].restart.remote(options))
    learner = learners(learner_bench.learner_options(models["llama_tied"], ranks=ranks, zero_stage=zero_stage))
    learner.open_transfer("object_store", engine, 1, ("127.0.0.1", 0))
    sequences = learner_bench.sequences()
    batch = learner_bench.ppo_batch(sequences, learner.forward(sequences).logprobs_BT)
    learner_bench.train(learner, batch)

    def largest_gap() -> float:
        responses = bench.generate(engine, bench.requests(PROMPTS[:4]))
        forward = learner.forward(sequences_of(responses))
        return logprob_gaps(responses, forward.logprobs_BT)["rollout-0"]

    assert largest_gap() > 1e-2
    learner.sync(1)
    assert largest_gap() < 1e-4
    assert ray.get(engine[0].policy_version.remote()) == 1
    assert not ray.get(learner._ranks[0].has_loaded.remote("vllm")), "seconds of each start for nothing"


def test_an_engine_that_cannot_take_its_weights_is_named(
    models: dict[str, Path], vllm_processes: list[Any], trainer: Any
) -> None:
    start(vllm_processes[:1], models["llama"])
    start(vllm_processes[1:], models["gpt2"])
    ray.get(trainer.hold.remote(models["llama"]))
    ray.get(trainer.connect.remote(vllm_processes))
    with pytest.raises(ActorFailed, match=r"^learner-0: rollout-1: ValueError: .* GPT2Model"):
        get_all([trainer.send.remote(1)], ["learner-0"])
