"""The training loop on fakes: the order of events, and the decisions that the loop takes itself."""

from __future__ import annotations

import re

import fakes
import numpy as np
import pytest
from fakes import Broken, bench, config

from scar_ray.credit.uniform import UniformCredit
from scar_ray.trainer.agreement import StaleEngine

PHASES = ("rollout", "forward", "reward", "update", "sync")


def test_a_step_happens_in_this_order() -> None:
    """Every response is on its way to the reward pool before the next one is finished; the sync comes last."""
    it = bench(config({"credit": {"audit_every": 0}}))
    it.trainer.step(0)
    assert it.events == [
        "begin 4",
        *("finished 3", "submit 3", "finished 2", "submit 2", "finished 1", "submit 1", "finished 0", "submit 0"),
        "forward",
        "results",
        *("update", "update", "update", "update"),
        "sync 1",
    ]
    it.trainer.step(1)
    assert it.events[-1] == "sync 2"


def test_an_audit_is_one_more_evaluation_of_a_response_of_its_step() -> None:
    it = bench(config({"credit": {"audit_every": 2}}))
    metrics = [it.trainer.step(step).metrics for step in range(3)]
    assert [event for event in it.events if event.startswith("begin")] == ["begin 5", "begin 4", "begin 5"]
    assert it.events.index("submit 4") < it.events.index("forward")
    audited = [{name for name in step if "audit" in name} for step in metrics]
    names = {"credit/audit_error", "credit/audit_hindsight", "credit/audit_reused"}
    assert audited == [names, set(), names]
    assert metrics[0]["credit/audit_error"] == pytest.approx(0.0, abs=1e-12), "few units are solved exactly anyway"
    assert metrics[0]["credit/audit_hindsight"] >= 0.0


class SlowParsing:
    """Has the first text it was given last."""

    def __init__(self, events: list[str]) -> None:
        self.events, self.texts = events, []

    def prefetch(self, texts) -> None:
        self.events.append("prefetch")
        self.texts += texts

    def ready(self, text: str) -> bool:
        return len(self.texts) >= 3 and text != self.texts[-1]


def test_responses_whose_parse_is_not_there_wait_while_others_are_sampled() -> None:
    events: list[str] = []
    it = bench(config({"credit": {"audit_every": 0}}), parsing=SlowParsing(events))
    it.trainer.step(0)
    assert events == ["prefetch"] * 4
    submitted = [event for event in it.events if event.startswith(("finished", "submit"))]
    assert submitted == [
        *("finished 3", "finished 2", "finished 1", "submit 3", "submit 2"),
        *("finished 0", "submit 1", "submit 0"),
    ]


def test_methods_without_coalitions_are_not_audited() -> None:
    it = bench(method=UniformCredit())
    assert not any("audit" in name for name in it.trainer.step(0).metrics)
    assert it.events[0] == "begin 4"


def test_what_was_sampled_reaches_the_learner_in_row_order() -> None:
    it = bench()
    result = it.trainer.step(0)
    requests = it.rollout.asked
    assert [one.response.row for one in result.scored] == [0, 1, 2, 3]
    assert [one.response.prompt for one in result.scored] == [request.prompt for request in requests]
    assert it.learner.batches[0].sequences.prompt_ids == tuple(request.prompt.token_ids for request in requests)
    lengths = [len(fakes.text_of(request).split()) + 1 for request in requests]
    assert it.learner.batches[0].sequences.lengths == tuple(lengths)
    assert [one.score.raw for one in result.scored] == lengths
    assert [one.rewards.rewards_T.sum() for one in result.scored] == pytest.approx(lengths)


def test_the_metrics_of_a_step() -> None:
    result = bench().trainer.step(0)
    metrics = result.metrics
    tokens = sum(one.response.n_tokens for one in result.scored)
    assert metrics["tokens/generated"] == tokens
    assert metrics["reward/mean"] == tokens / 4
    assert metrics["kl/k1"] == pytest.approx(0.5 * tokens / 4)
    assert metrics["kl/coef"] == 0.05
    assert metrics["engine/logprob_gap_max"] == 0.0
    assert metrics["ppo/policy_loss"] == 2.5  # the mean of 1, 2, 3 and 4
    assert metrics["ppo/ratio_max"] == 5.0  # the largest of 2, 3, 4 and 5
    assert metrics["ppo/epochs"] == 2.0
    assert metrics["tokens/per_s"] == pytest.approx(tokens / sum(metrics[f"time/{phase}"] for phase in PHASES))
    assert {name for name in metrics if name.startswith("time/")} == {f"time/{phase}" for phase in PHASES}
    assert all(type(value) is float for value in metrics.values())


# mini-batches


def test_each_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    it = bench(config(batch={"prompts": 4, "samples": 3, "minibatch": 4}, epochs=3))
    it.trainer.step(0)
    rows = [rows for rows, _ in it.learner.updates]
    assert [len(some) for some in rows] == [4] * 9
    epochs = [[row for some in rows[i : i + 3] for row in some] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_mini_batches_depend_on_seed_step_and_epoch_alone() -> None:
    """A resumed run, whose trainer starts at a later step, cuts the same ones."""
    it = bench()
    for step in range(3):
        it.trainer.step(step)
    later = bench()
    later.rollout.versions = [2, 2]
    later.trainer.step(2)
    assert it.learner.updates[-4:] == later.learner.updates
    assert [request.seed for request in it.rollout.asked] == [request.seed for request in later.rollout.asked]
    other = bench(config({"seed": 1}))
    other.trainer.step(0)
    assert it.learner.updates[:4] != other.learner.updates


# decisions


@pytest.mark.parametrize(
    ("reported", "epochs"),
    [
        ([0.0], 4),
        ([0.1, 0.1, 0.1, 0.1], 4),  # just at the target
        ([0.0, 0.1, 0.1, 0.2, 9.0], 2),  # the mean of an epoch counts
        ([0.3], 1),
    ],
)
def test_epochs_stop_when_the_policy_has_moved_far_enough(reported: list[float], epochs: int) -> None:
    it = bench(config(epochs=4, target_kl=0.1))
    it.learner.approx_kl = reported
    metrics = it.trainer.step(0).metrics
    assert metrics["ppo/epochs"] == epochs
    assert len(it.learner.updates) == 2 * epochs
    assert it.events[-1] == "sync 1"


def test_without_a_target_all_epochs_are_done() -> None:
    it = bench(config(epochs=3))
    it.learner.approx_kl = [99.0]
    assert it.trainer.step(0).metrics["ppo/epochs"] == 3


def test_only_the_critic_learns_while_it_warms_up() -> None:
    it = bench(config(critic={"warmup_steps": 2}))
    for step in range(3):
        it.trainer.step(step)
    assert [train_policy for _, train_policy in it.learner.updates] == [False] * 8 + [True] * 4


def test_the_adaptive_coefficient_follows_the_divergence() -> None:
    """Twice the target, at most a fifth of it counts, and 4 of 8 responses: 0.1, then a tenth more each step."""
    texts = [len(text.split()) + 1 for text in fakes.TEXTS]
    kl = {"controller": "adaptive", "coef": 0.1, "target": 0.5 * sum(texts) / 4 / 2, "horizon": 8}
    it = bench(config(kl=kl), n_prompts=4)
    coefs = [it.trainer.step(step).metrics["kl/coef"] for step in range(3)]
    assert coefs == pytest.approx([0.1, 0.11, 0.121])
    assert it.trainer.kl.coef == pytest.approx(0.1331)


def test_the_coefficient_of_a_step_is_the_one_of_its_rewards() -> None:
    """The divergence is half a nat a token; with a critic of 1/4 throughout and lambda 0, delta = r - c / 2 + dV."""
    kl = {"controller": "fixed", "coef": 0.4}
    it = bench(config(kl=kl, lam=0.0, whiten_advantages=False), UniformCredit())
    it.trainer.step(0)
    batch = it.learner.batches[0]
    first = batch.advantages_BT[:, 0][np.array(batch.sequences.lengths) > 1]
    np.testing.assert_allclose(first, 1.0 - 0.4 * 0.5, atol=1e-6)


def test_the_learning_rate_follows_its_schedule() -> None:
    it = bench(config(optimizer={"schedule": "linear", "warmup_steps": 0}))
    for step in range(4):
        it.trainer.step(step)
    assert [batch.lr_scale for batch in it.learner.batches] == [1.0, 0.75, 0.5, 0.25]
    warm = bench(config(optimizer={"schedule": "constant", "warmup_steps": 3}))
    for step in range(4):
        warm.trainer.step(step)
    assert [batch.lr_scale for batch in warm.learner.batches] == [0.25, 0.5, 0.75, 1.0]


# engines


def test_an_engine_with_an_older_policy_is_named() -> None:
    it = bench()
    it.trainer.step(0)
    it.rollout.versions = [1, 0]
    with pytest.raises(StaleEngine, match=r"^rollout-1 sampled with policy version 0, the learner is at 1: [^\n]*$"):
        it.trainer.step(1)
    assert "update" not in it.events[it.events.index("sync 1") :]


@pytest.mark.parametrize("error", [0.011, float("inf"), float("nan")])
def test_an_engine_that_disagrees_with_the_learner_is_named(error: float) -> None:
    it = bench()
    it.rollout.error = error
    message = rf"^rollout-1 and the learner disagree by {re.escape(f'{error:.3g}')} nats .*max_logprob_gap=0\.01\): "
    with pytest.raises(StaleEngine, match=message):
        it.trainer.step(0)
    assert "update" not in it.events


def test_a_small_disagreement_is_a_metric() -> None:
    it = bench()
    it.rollout.error = 0.009
    assert it.trainer.step(0).metrics["engine/logprob_gap_max"] == pytest.approx(0.009, rel=1e-3)


def test_the_limit_of_the_disagreement_is_configured_or_follows_the_type() -> None:
    for sections, error in (
        ({"cluster": {"rollout": {"max_logprob_gap": 0.5}, "learner": {"micro_batch": 1}}}, 0.4),
        (
            {"model": {"policy": {"dtype": "bfloat16"}}, "cluster": {"learner": {"micro_batch": 1, "zero_stage": 1}}},
            1.9,
        ),
    ):
        it = bench(config(sections))
        it.rollout.error = error
        it.trainer.step(0)
        it.rollout.error = error + 0.2
        with pytest.raises(StaleEngine, match="rollout-1"):
            it.trainer.step(1)


def test_nucleus_sampling_widens_the_limit_by_what_it_renormalises() -> None:
    """With top_p = 0.5 the engine's log-probabilities may be larger by ln 2."""
    chosen = config({"task": {"sampling": {"top_p": 0.5}}})
    it = bench(chosen)
    it.rollout.error = float(np.log(2))
    it.trainer.step(0)
    it.rollout.error = float(np.log(2)) + 0.02
    with pytest.raises(StaleEngine, match="rollout-1"):
        it.trainer.step(1)


def test_a_credit_method_that_makes_up_reward_stops_the_step() -> None:
    it = bench(method=Broken())
    with pytest.raises(ValueError, match=r"^credit method Broken: "):
        it.trainer.step(0)
    assert "update" not in it.events
