"""What a learner writes and reads: its state, on any number of ranks, and the policy; adapters and their reference."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import learner_bench as bench
import numpy as np
import pytest
import torch

from scar_ray.trainer.protocols import Forward, PPOBatch, Sequences
from scar_ray.workers.errors import ActorFailed

pytestmark = pytest.mark.stack

LORA = {"rank": 4, "alpha": 8}
FIRST, *REST = bench.ROWS


def identical(left: Forward, right: Forward) -> bool:
    return all(
        (getattr(left, name) == getattr(right, name)).all() for name in ("logprobs_BT", "ref_logprobs_BT", "values_BT")
    )


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return bench.sequences()


@pytest.fixture(scope="module")
def batch(models, sequences) -> PPOBatch:
    return bench.ppo_batch(sequences, bench.plain_ppo(models["llama"], "shared").forward(sequences).logprobs_BT)


# state


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"zero_stage": 1, "dtype": "bfloat16"},
        {"zero_stage": 3, "critic": "separate"},
        {"lora": LORA},
        {"ranks": 2, "zero_stage": 2},
        {"ranks": 2, "zero_stage": 2, "critic": "separate", "dtype": "bfloat16"},
        {"ranks": 2, "zero_stage": 2, "lora": LORA},
        {"ranks": 2, "zero_stage": 2, "offload_optimizer": True},
        {"ranks": 2, "zero_stage": 3},
        {"ranks": 2, "zero_stage": 3, "offload_optimizer": True},
        {"ranks": 2, "zero_stage": 3, "lora": LORA},
    ],
    ids=str,
)
def test_a_learner_that_reads_its_state_goes_on_bit_for_bit(changes, learners, models, batch, tmp_path):
    options = bench.learner_options(models["llama"], **changes)
    learner = learners(options)
    learner.update(batch, FIRST, train_policy=True)
    learner.save(tmp_path / "saved")
    view = learner.forward(batch.sequences)
    metrics = bench.train(learner, batch, REST)
    final = bench.state(learner, tmp_path / "final")

    resumed = learners(replace(options, seed=1))
    resumed.update(batch, REST[0], train_policy=True)  # whatever it did before is gone
    resumed.load(tmp_path / "saved")
    assert identical(resumed.forward(batch.sequences), view)
    assert bench.train(resumed, batch, REST) == metrics
    again = bench.state(resumed, tmp_path / "again")
    assert again.keys() == final.keys()
    assert all(torch.equal(again[name], final[name]) for name in final)


@pytest.mark.parametrize(
    ("written_by", "read_by"),
    [
        ({"ranks": 2, "zero_stage": 2}, {}),
        ({}, {"ranks": 2, "zero_stage": 3}),
        ({"ranks": 2, "zero_stage": 3, "critic": "separate"}, {"zero_stage": 1, "critic": "separate"}),
        ({"ranks": 2, "zero_stage": 3, "lora": LORA}, {"zero_stage": 2, "lora": LORA}),
    ],
    ids=str,
)
def test_other_ranks_and_stages_go_on_from_the_same_state(written_by, read_by, learners, models, batch, tmp_path):
    learner = learners(bench.learner_options(models["llama"], **written_by))
    learner.update(batch, FIRST, train_policy=True)
    saved = bench.state(learner, tmp_path / "saved")
    bench.train(learner, batch, REST)
    final = bench.state(learner, tmp_path / "final")

    other = learners(bench.learner_options(models["llama"], **read_by))
    other.load(tmp_path / "saved")
    copy = bench.state(other, tmp_path / "copy")
    assert copy.keys() == saved.keys()
    assert all(torch.equal(copy[name], saved[name]) for name in saved)
    bench.train(other, batch, REST)
    assert bench.distance(bench.state(other, tmp_path / "other"), final) < bench.NEAR


def test_a_state_before_the_first_update_of_the_policy_is_read_too(learners, models, batch, tmp_path):
    options = bench.learner_options(models["llama"], critic="separate")
    learner = learners(options)
    learner.update(batch, FIRST, train_policy=False)
    learner.save(tmp_path / "saved")
    metrics = bench.train(learner, batch, REST)
    resumed = learners(options)
    resumed.load(tmp_path / "saved")
    assert bench.train(resumed, batch, REST) == metrics


def test_the_state_is_safetensors_and_json(learners, models, batch, tmp_path):
    learner = learners(bench.learner_options(models["llama"], critic="separate"))
    learner.update(batch, FIRST, train_policy=True)
    learner.save(tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()) == [
        "critic/index.json",
        "critic/state-00000.safetensors",
        "policy/index.json",
        "policy/state-00000.safetensors",
    ]
    assert json.loads((tmp_path / "policy/index.json").read_text()) == {
        "shards": ["state-00000.safetensors"],
        "updates": 1,
    }


def test_a_state_that_does_not_fit_is_refused(learners, models, batch, tmp_path):
    learner = learners(bench.learner_options(models["llama"], lora=LORA))
    learner.save(tmp_path / "lora")
    whose = "it was written with another model, critic or LoRA setting"
    lora_a = "policy.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
    other = learners(bench.learner_options(models["llama"], lora={"rank": 2, "alpha": 8}))
    with pytest.raises(ActorFailed) as error:
        other.load(tmp_path / "lora")
    folder = tmp_path / "lora/policy"
    first = lora_a.replace("self_attn.q_proj", "mlp.down_proj")
    assert str(error.value) == (
        f"learner-0: ValueError: checkpoint {folder}: {first} has shape (4, 128) instead of (2, 128); {whose}"
    )
    full = learners(bench.learner_options(models["llama"]))
    with pytest.raises(ActorFailed, match=r"lora_A\.default\.weight is no part of this learner; it was written with "):
        full.load(tmp_path / "lora")
    full.save(tmp_path / "shared")
    separate = learners(bench.learner_options(models["llama"], critic="separate"))
    with pytest.raises(ActorFailed, match=r"value_head\.bias is no part of this learner; it was written with "):
        separate.load(tmp_path / "shared")
    separate.save(tmp_path / "separate")
    gpt2 = learners(bench.learner_options(models["gpt2"]))
    with pytest.raises(ActorFailed, match=r"policy\.lm_head\.weight is no part of this learner; it was written with "):
        gpt2.load(tmp_path / "separate")


def test_a_damaged_state_is_refused_by_the_name_of_the_file(learners, models, batch, tmp_path):
    learner = learners(bench.learner_options(models["llama"], critic="separate"))
    learner.save(tmp_path)
    file = tmp_path / "critic/state-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ActorFailed, match=rf"^learner-0: ValueError: checkpoint file {file}: cannot be read \("):
        learner.load(tmp_path)
    shutil.rmtree(tmp_path / "critic")
    missing = tmp_path / "critic/index.json"
    with pytest.raises(ActorFailed, match=rf"^learner-0: ValueError: checkpoint file {missing}: cannot be read \("):
        learner.load(tmp_path)


# adapters


@pytest.mark.parametrize(
    "changes",
    [{}, {"ranks": 2, "zero_stage": 2}, {"ranks": 2, "zero_stage": 3}, {"dtype": "bfloat16", "zero_stage": 1}],
    ids=str,
)
def test_the_reference_is_the_policy_without_its_adapters(changes, learners, models, batch, tmp_path):
    learner = learners(bench.learner_options(models["llama"], lora=LORA, **changes))
    before = learner.forward(batch.sequences)
    assert (before.logprobs_BT == before.ref_logprobs_BT).all()
    base = bench.plain_ppo(models["llama"], "shared").forward(batch.sequences).logprobs_BT
    tolerance = 0.2 if "dtype" in changes else 1e-5
    np.testing.assert_allclose(before.ref_logprobs_BT, base, rtol=0, atol=tolerance)
    start = bench.parameters(bench.state(learner, tmp_path / "start"))
    bench.train(learner, batch)
    after = learner.forward(batch.sequences)
    assert (after.ref_logprobs_BT == before.ref_logprobs_BT).all()
    assert np.abs(after.logprobs_BT - before.logprobs_BT).max() > 0.01
    final = bench.parameters(bench.state(learner, tmp_path / "final"))
    adapted = [name for name in final if ".lora_" in name]
    assert len(adapted) == 2 * 2 * 7  # A and B of the seven linear layers of two blocks; not the output head
    assert set(final) - set(adapted) == {"policy/value_head.weight", "policy/value_head.bias"}
    assert not any(torch.equal(start[name], final[name]) for name in final)


def test_adapters_learn_the_same_on_ranks_and_stages_and_start_from_the_seed(learners, models, batch, tmp_path):
    def trained(name: str, **changes) -> dict[str, torch.Tensor]:
        learner = learners(bench.learner_options(models["llama"], lora=LORA, **changes))
        bench.train(learner, batch)
        return bench.state(learner, tmp_path / name)

    one = trained("one")
    for stage in (0, 2, 3):
        assert bench.distance(trained(f"two-{stage}", ranks=2, zero_stage=stage), one) < bench.NEAR
    assert bench.distance(trained("seed", seed=1), one) > 0.01


# export


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"ranks": 2, "zero_stage": 3}),
        ("llama", {"lora": LORA, "ranks": 2, "zero_stage": 3}),
        ("llama_tied", {"lora": LORA}),
        ("llama_tied", {"ranks": 2, "zero_stage": 3}),
        ("gpt2", {"zero_stage": 2}),
        ("gpt2", {"lora": LORA}),
        ("neox", {"lora": LORA, "zero_stage": 1}),
    ],
    ids=str,
)
def test_the_exported_policy_is_the_one_that_was_trained(kind, changes, learners, models, batch, tmp_path):
    from transformers import AutoTokenizer

    learner = learners(bench.learner_options(models[kind], **changes))
    bench.train(learner, batch)
    trained = learner.forward(batch.sequences)
    learner.export(tmp_path)
    exported = bench.plain_ppo(tmp_path, "shared")
    logprobs = exported.forward(batch.sequences).logprobs_BT
    np.testing.assert_allclose(logprobs, trained.logprobs_BT, rtol=0, atol=2e-5)
    assert np.abs(trained.logprobs_BT - trained.ref_logprobs_BT).max() > 0.01
    start = bench.plain_ppo(models[kind], "shared").policy
    assert exported.policy.state_dict().keys() == start.state_dict().keys()
    assert type(exported.policy) is type(start)
    assert exported.policy.dtype == torch.float32
    tokens = [AutoTokenizer.from_pretrained(folder)("a good film").input_ids for folder in (tmp_path, models[kind])]
    assert tokens[0] == tokens[1]
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix in (".safetensors", ".bin", ".pt")) == [
        "model.safetensors"
    ]


def test_a_bfloat16_policy_is_exported_in_bfloat16(learners, models, batch, tmp_path):
    from transformers import AutoModelForCausalLM

    learner = learners(bench.learner_options(models["llama"], dtype="bfloat16", zero_stage=1))
    bench.train(learner, batch)
    learner.export(tmp_path)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert policy.dtype == torch.bfloat16
    learner.save(tmp_path / "state")
    master = bench.state(learner, tmp_path / "state")
    for name, parameter in policy.named_parameters():
        assert torch.equal(parameter, master[f"policy/policy.{name}"].bfloat16()), name
