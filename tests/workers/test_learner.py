"""The distributed learner against the plain PPO of the tests, and against itself on other ranks and stages."""

from __future__ import annotations

import json
from dataclasses import replace

import learner_bench as bench
import numpy as np
import pytest
import ray
import torch
from reference_ppo import ReferencePPO

from scar_ray.trainer.protocols import Forward, Sequences
from scar_ray.workers.errors import ActorFailed
from scar_ray.workers.learner_group import RayLearner, select
from scar_ray.workers.objective import MiniBatch

pytestmark = pytest.mark.stack


def plain_state(ppo: ReferencePPO) -> dict[str, torch.Tensor]:
    """Its parameters by the names in the learner's checkpoints."""
    found = {f"policy/policy.{name}": p.detach() for name, p in ppo.policy.named_parameters()}
    prefix = "policy/value_head." if ppo.shared else "critic/"
    return found | {prefix + name: p.detach() for name, p in ppo.critic.named_parameters()}


def assert_same(left: Forward, right: Forward, tolerance: float) -> None:
    for name in ("logprobs_BT", "ref_logprobs_BT", "values_BT"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return bench.sequences()


@pytest.fixture(scope="module")
def trained(learners, models, sequences, tmp_path_factory):
    """Batch, metrics, state and views before and after of three updates on one rank without ZeRO, by critic."""
    results = {}
    for critic in ("shared", "separate"):
        learner = learners(bench.learner_options(models["llama"], critic=critic))
        before = learner.forward(sequences)
        batch = bench.ppo_batch(sequences, before.logprobs_BT)
        metrics = bench.train(learner, batch)
        after = learner.forward(sequences)
        state = bench.state(learner, tmp_path_factory.mktemp(critic))
        results[critic] = batch, metrics, state, before, after
    return results


def test_an_evaluation_may_be_of_any_size_and_sampled_in_another_way(learners, models, sequences, trained):
    """Three rows on two ranks: the numbers are those of one rank, under the temperature that they were sampled with."""
    three = Sequences(sequences.prompt_ids[:3], sequences.response_ids[:3])
    learner = learners(bench.learner_options(models["llama"], ranks=2))
    _, _, _, before, _ = trained["shared"]
    width = max(three.lengths)
    found = learner.forward(three)
    assert_same(
        found,
        Forward(*(array[:3, :width] for array in (before.logprobs_BT, before.ref_logprobs_BT, before.values_BT))),
        1e-5,
    )
    hot = learner.forward(
        three, bench.learner_options(models["llama"]).sampling.model_copy(update={"temperature": 1e4})
    )
    assert hot.logprobs_BT[three.mask_BT] == pytest.approx(-np.log(learner_vocabulary(models)), abs=0.02)


def learner_vocabulary(models) -> int:
    return int(json.loads((models["llama"] / "config.json").read_text())["vocab_size"])


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_three_updates_reproduce_the_plain_ppo(critic, trained, models, sequences):
    batch, metrics, state, before, after = trained[critic]
    ppo = bench.plain_ppo(models["llama"], critic)
    assert_same(before, ppo.forward(sequences), 1e-5)
    start = {name: p.clone() for name, p in plain_state(ppo).items()}
    expected = [ppo.update(batch, list(rows)) for rows in bench.ROWS]
    final = plain_state(ppo)
    assert bench.distance(bench.parameters(state), final) < bench.NEAR
    # The tolerance means something: every tensor moved by far more than that.
    assert min(float((final[name] - start[name]).abs().max()) for name in final) > 20 * bench.NEAR
    for ours, theirs in zip(metrics, expected, strict=True):
        for name in ("policy_loss", "value_loss", "entropy", "clip_fraction", "approx_kl", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-4), name
    assert any(m["clip_fraction"] > 0 for m in metrics)
    assert any(m["value_clip_fraction"] > 0 for m in metrics)
    assert any(m["grad_norm"] > 1 for m in metrics)  # clipped
    assert_same(after, ppo.forward(sequences), 1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_stage": 1},
        {"zero_stage": 2},
        {"zero_stage": 3},
        {"micro_batch": 1},
        {"ranks": 2},
        {"ranks": 2, "zero_stage": 1},
        {"ranks": 2, "zero_stage": 2, "micro_batch": 1},
        {"ranks": 2, "zero_stage": 2, "offload_optimizer": True},
        {"ranks": 2, "zero_stage": 3},
        {"ranks": 2, "zero_stage": 3, "offload_optimizer": True},
        {"ranks": 2, "critic": "separate"},
        {"ranks": 2, "zero_stage": 2, "critic": "separate"},
        {"ranks": 2, "zero_stage": 3, "micro_batch": 1, "critic": "separate"},
    ],
    ids=str,
)
def test_ranks_stages_and_accumulation_change_nothing(changes, learners, models, sequences, trained, tmp_path):
    batch, metrics, state, before, after = trained[changes.get("critic", "shared")]
    learner = learners(bench.learner_options(models["llama"], **changes))
    assert_same(learner.forward(sequences), before, 1e-5)
    other = bench.train(learner, batch)
    assert bench.distance(bench.state(learner, tmp_path), state) < bench.NEAR
    assert_same(learner.forward(sequences), after, 1e-3)
    for ours, theirs in zip(other, metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("kind", ["llama_tied", "gpt2", "neox"])
def test_other_architectures_equal_the_plain_ppo_under_zero_3(kind, learners, models, sequences, tmp_path):
    learner = learners(bench.learner_options(models[kind], ranks=2, zero_stage=3, micro_batch=1))
    forward = learner.forward(sequences)
    ppo = bench.plain_ppo(models[kind], "shared")
    assert_same(forward, ppo.forward(sequences), 2e-5)
    batch = bench.ppo_batch(sequences, forward.logprobs_BT)
    bench.train(learner, batch)
    for rows in bench.ROWS:
        ppo.update(batch, list(rows))
    assert bench.distance(bench.parameters(bench.state(learner, tmp_path)), plain_state(ppo)) < bench.NEAR


@pytest.mark.parametrize("critic", ["shared", "separate"])
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_while_only_the_critic_learns_not_a_bit_of_the_policy_changes(
    critic, zero_stage, learners, models, sequences, tmp_path
):
    learner = learners(bench.learner_options(models["llama"], critic=critic, zero_stage=zero_stage))
    forward = learner.forward(sequences)
    batch = bench.ppo_batch(sequences, forward.logprobs_BT)
    before = bench.parameters(bench.state(learner, tmp_path / "before"))
    metrics = bench.train(learner, batch, train_policy=False)
    after = bench.parameters(bench.state(learner, tmp_path / "after"))
    assert metrics[0]["grad_norm"] > 0
    assert metrics[2]["value_error"] < metrics[0]["value_error"]
    for name in before:
        if name.startswith("policy/policy."):
            assert torch.equal(before[name], after[name]), name
        else:
            assert not torch.equal(before[name], after[name]), name
    assert (learner.forward(sequences).logprobs_BT == forward.logprobs_BT).all()
    # What follows is what the plain PPO does, too.
    ppo = bench.plain_ppo(models["llama"], critic)
    for rows in bench.ROWS:
        ppo.update(batch, list(rows), train_policy=False)
    ppo.update(batch, list(bench.ROWS[0]))
    learner.update(batch, bench.ROWS[0], train_policy=True)
    assert bench.distance(bench.parameters(bench.state(learner, tmp_path / "then")), plain_state(ppo)) < bench.NEAR


def test_bfloat16_learns_close_to_float32(learners, models, sequences, trained, tmp_path):
    batch, _, state, before, _ = trained["shared"]
    options = bench.learner_options(models["llama"], zero_stage=1, dtype="bfloat16")
    start = bench.parameters(bench.state(learners(options), tmp_path / "start"))
    learner = learners(options)
    np.testing.assert_allclose(learner.forward(sequences).logprobs_BT, before.logprobs_BT, rtol=0, atol=0.2)
    metrics = bench.train(learner, batch)
    final = bench.parameters(bench.state(learner, tmp_path / "final"))
    assert {x.dtype for x in final.values()} == {torch.float32}  # the master weights, not their rounding
    assert not any(torch.equal(start[name], final[name]) for name in final)
    ours = torch.cat([(final[name] - start[name]).flatten() for name in start])
    exact = torch.cat([(state[name] - start[name]).flatten() for name in start])
    assert torch.nn.functional.cosine_similarity(ours, exact, dim=0) > 0.7
    assert metrics[0]["grad_norm"] == pytest.approx(trained["shared"][1][0]["grad_norm"], rel=0.1)


def test_gradient_checkpointing_changes_nothing(learners, models, trained, tmp_path):
    batch, _, state, _, _ = trained["shared"]
    learner = learners(bench.learner_options(models["llama"], gradient_checkpointing=True))
    bench.train(learner, batch)
    assert bench.distance(bench.state(learner, tmp_path), state) < bench.NEAR


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
@pytest.mark.parametrize(
    ("advantage", "what"), [(np.nan, "loss is nan"), (-np.inf, "loss is inf"), (1e38, "gradient norm is inf")]
)
def test_an_update_that_is_not_finite_is_an_error_and_changes_no_weight(
    zero_stage, advantage, what, learners, models, trained, tmp_path
):
    batch = trained["shared"][0]
    learner = learners(bench.learner_options(models["llama"], zero_stage=zero_stage, micro_batch=2))
    learner.update(batch, bench.ROWS[0], train_policy=True)
    before = bench.state(learner, tmp_path / "before")
    advantages = batch.advantages_BT.copy()
    advantages[7, 0] = advantage
    with pytest.raises(ActorFailed) as error:
        learner.update(replace(batch, advantages_BT=advantages), bench.ROWS[1], train_policy=True)
    remedy = "resume from the last checkpoint with a lower learning rate"
    assert str(error.value) == f"learner-0: FloatingPointError: update 2: the {what}; {remedy}"
    after = bench.state(learner, tmp_path / "after")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_rank_whose_loss_is_not_a_number_is_named(learners, models, trained):
    batch = trained["shared"][0]
    learner = learners(bench.learner_options(models["llama"], ranks=2))
    advantages = batch.advantages_BT.copy()
    advantages[6, 1] = np.nan  # the last row of mini-batch 0: rank 1 has it
    with pytest.raises(ActorFailed, match=r"^learner-1: FloatingPointError: update 1: the loss is nan;"):
        learner.update(replace(batch, advantages_BT=advantages), bench.ROWS[0], train_policy=True)
    # Rank 0 waits for the gradients of rank 1. It gets them, so that the processes can be used again.
    whole = MiniBatch(sum(batch.sequences.lengths[row] for row in bench.ROWS[0]), 4)
    ray.get(learner._ranks[1].update.remote(select(batch, bench.ROWS[0][2:]), whole, True))


@pytest.mark.usefixtures("ray_cluster")
def test_a_rank_that_dies_is_named_and_nobody_hangs(models, sequences):
    actors = bench.new_actors(2, bench.DoomedRank, bench.learner_options(models["llama"], ranks=2))
    learner = RayLearner(actors, bench.names(2))
    forward = learner.forward(sequences)
    with pytest.raises(ActorFailed, match=r"^learner-1: died: "):
        bench.train(learner, bench.ppo_batch(sequences, forward.logprobs_BT))
    ray.kill(actors[0])
