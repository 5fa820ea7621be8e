"""A learner without a critic: no value head anywhere, and the plain GRPO of the tests on any ranks."""

from __future__ import annotations

from dataclasses import replace

import learner_bench as bench
import numpy as np
import pytest
import torch

from scar_ray.trainer.protocols import Sequences
from scar_ray.workers.errors import ActorFailed

pytestmark = pytest.mark.stack

ROWS = ([5, 0, 3, 6], [1, 7, 2, 4], [6, 1, 4, 5])
"""Mini-batches of three, three and two counted responses."""


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return bench.sequences()


@pytest.fixture(scope="module")
def trained(learners, models, sequences, tmp_path_factory):
    """Batch, metrics and state of three updates on one rank without ZeRO, by length normalisation."""
    results = {}
    for norm, estimator in (("token", "k3"), ("response", "k2"), ("constant", "k1")):
        algorithm = bench.without_critic(norm, estimator)
        learner = learners(bench.learner_options(models["llama"], algorithm=algorithm))
        view = learner.forward(sequences)
        assert view.values_BT is None
        batch = bench.grpo_batch(sequences, view.logprobs_BT)
        metrics = bench.train(learner, batch, ROWS)
        results[norm] = algorithm, batch, metrics, bench.state(learner, tmp_path_factory.mktemp(norm))
    return results


@pytest.mark.parametrize("norm", ["token", "response", "constant"])
def test_three_updates_reproduce_the_plain_grpo(norm, trained, models, sequences):
    algorithm, batch, metrics, state = trained[norm]
    plain = bench.plain_grpo(models["llama"], algorithm)
    expected = [plain.update(batch, list(rows)) for rows in ROWS]
    final = {f"policy/policy.{name}": p.detach() for name, p in plain.policy.named_parameters()}
    assert bench.distance(bench.parameters(state), final) < bench.NEAR
    for ours, theirs in zip(metrics, expected, strict=True):
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=2e-3, abs=1e-4)
    assert any(m["clip_fraction"] > 0 for m in metrics)
    assert not any("value" in name for name in metrics[0])


@pytest.mark.parametrize(
    ("norm", "changes"),
    [
        ("token", {"ranks": 2, "zero_stage": 2}),
        ("response", {"micro_batch": 1}),
        ("response", {"ranks": 2, "zero_stage": 3, "micro_batch": 1}),
        ("constant", {"ranks": 2, "micro_batch": 1}),
    ],
    ids=str,
)
def test_ranks_stages_and_accumulation_change_nothing(norm, changes, learners, models, trained, tmp_path):
    algorithm, batch, metrics, state = trained[norm]
    learner = learners(bench.learner_options(models["llama"], algorithm=algorithm, **changes))
    other = bench.train(learner, batch, ROWS)
    assert bench.distance(bench.state(learner, tmp_path), state) < bench.NEAR
    for ours, theirs in zip(other, metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-4)


def test_the_length_normalisations_differ(trained):
    states = [bench.parameters(trained[norm][3]) for norm in ("token", "response")]
    assert bench.distance(*states) > 20 * bench.NEAR


def test_what_a_response_that_only_fills_up_holds_changes_not_a_bit(learners, models, sequences, trained, tmp_path):
    algorithm, batch, metrics, state = trained["token"]
    filler = ~batch.counted_B[:, None]
    spoilt = replace(batch, advantages_BT=np.where(filler, np.float32(99), batch.advantages_BT))
    learner = learners(bench.learner_options(models["llama"], algorithm=algorithm))
    assert bench.train(learner, spoilt, ROWS) == metrics
    again = bench.state(learner, tmp_path)
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_a_checkpoint_holds_the_policy_alone_and_goes_on_bit_for_bit(learners, models, trained, tmp_path):
    algorithm, batch, _, state = trained["response"]
    assert not any("value_head" in name or name.startswith("critic/") for name in state)
    options = bench.learner_options(models["llama"], algorithm=algorithm)
    learner = learners(options)
    learner.update(batch, ROWS[0], train_policy=True)
    learner.save(tmp_path / "saved")
    assert [part.name for part in (tmp_path / "saved").iterdir()] == ["policy"]
    resumed = learners(replace(options, seed=1))
    resumed.load(tmp_path / "saved")
    bench.train(resumed, batch, ROWS[1:])
    again = bench.state(resumed, tmp_path / "again")
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_a_checkpoint_of_another_algorithm_is_refused(learners, models, tmp_path):
    learner = learners(bench.learner_options(models["llama"]))
    learner.save(tmp_path)
    without = learners(bench.learner_options(models["llama"], algorithm=bench.without_critic("token", "k3")))
    with pytest.raises(ActorFailed, match=r"value_head\.bias is no part of this learner; it was written with another "):
        without.load(tmp_path)
