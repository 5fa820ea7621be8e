"""Whole runs on real Ray, vLLM and DeepSpeed, with tiny random models on the demo's prompts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from scar_ray import cli, credit
from scar_ray.config.errors import UserError
from scar_ray.config.load import load, load_resolved
from scar_ray.config.schema import Config
from scar_ray.run import train
from scar_ray.run_folder import locked
from scar_ray.scoring import SampleFailed
from scar_ray.scoring.measured import Measured
from scar_ray.tasks.prompts import load_prompts
from scar_ray.trainer.completion import new_values
from scar_ray.trainer.loop import Trainer
from scar_ray.workers import cluster

pytestmark = pytest.mark.stack

SMALL = [
    "algorithm.batch.prompts=8",
    "algorithm.batch.minibatch=4",
    "algorithm.epochs=2",
    "algorithm.kl.controller=adaptive",
    "task.sampling.min_new_tokens=3",
    "task.sampling.max_new_tokens=12",
    "task.sampling.temperature=0.8",
    "cluster.learner.micro_batch=4",
    "cluster.reward.responses_per_task=3",
    "cluster.cpus_per_actor=0.25",
    "trainer.tensorboard=false",
    "trainer.samples_kept=3",
    "eval.every=2",
    "eval.prompts=5",
]
METHODS = (
    "sparse",
    "uniform",
    "abc",
    "prefix",
    "prefix_complete",
    "scar_token",
    "scar_span",
    "scar_sentence",
    "ospo",
    "shape_grpo",
)


def overrides(models: dict[str, Path], runs: Path, *more: str) -> list[str]:
    return [
        *SMALL,
        f"model.policy.path={models['llama_tied']}",
        f"model.reward.path={models['llama_reward']}",
        f"runs={runs}",
        *more,
    ]


@pytest.fixture(scope="module")
def finished(ray_cluster: None, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of four steps with checkpoints after two and four."""
    runs = tmp_path_factory.mktemp("runs")
    gold = f"eval.gold.path={models['gpt2_reward']}"
    more = ("trainer.steps=4", "trainer.checkpoint_every=2", "task.train.limit=400", "name=whole", gold)
    return train(load(overrides(models, runs, *more)))


def metrics_of(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that training steps wrote."""
    return [row for row in all_metrics_of(run) if row["step"] > 0]


def all_metrics_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_a_user_looks_for(finished: Path) -> None:
    rows = metrics_of(finished)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"step-000002", "step-000004"}
    config = load_resolved(finished / "config.json")
    assert config.name == "whole"
    assert config.cluster.reward.engine in ("trie", "shared_prompt", "plain")  # what auto has become, for --resume
    record = json.loads((finished / "run.json").read_text())
    assert (record["status"], record["credit"]) == ("done", "scar_span")
    assert record["versions"]["ray"].startswith("2.60")
    samples = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [1, 1, 1, 4, 4, 4]
    assert "credit=scar_span" in (finished / "policy" / "README.md").read_text()
    timeline = [json.loads(line) for line in (finished / "timeline.jsonl").read_text().splitlines()]
    assert [record["step"] for record in timeline] == [1, 4]
    assert [lane["name"] for lane in timeline[0]["lanes"]] == ["rollout-0", "learner", "reward-0"]
    page = (finished / "report.html").read_text()
    assert "<svg" in page
    assert "Who did what when" in page


def test_every_step_conserves_the_score_and_agrees_with_the_engine(finished: Path) -> None:
    for row in metrics_of(finished):
        assert row["credit/residual_max"] < 1e-9
        assert row["engine/logprob_gap_max"] < 1e-4
        assert row["credit/evaluations"] >= row["credit/evaluations_unique"] > 8
        assert row["credit/naive_tokens"] >= row["credit/tokens"]
        assert 0 < row["credit/computed_tokens"] - row["credit/padding_tokens"] <= row["credit/tokens"]
        assert row["pool/busy_s/reward-0"] > 0
        assert 0 <= row["pool/overlap_rollout"] + row["pool/overlap_forward"] < 1.001
    assert metrics_of(finished)[0]["kl/k1"] == 0.0


def test_the_policy_is_measured_on_held_out_prompts_before_during_and_after(finished: Path) -> None:
    rows = [row for row in all_metrics_of(finished) if "eval/reward" in row]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert rows[0]["eval/kl_k1"] == rows[0]["eval/kl_k3"] == 0.0, "before the first step it is the reference"
    assert rows[-1]["eval/kl_k3"] > 0.0
    for row in rows:
        responses = [
            json.loads(line) for line in (finished / f"eval/step-{row['step']:06d}.jsonl").read_text().splitlines()
        ]
        assert len(responses) == row["eval/responses"] == 5
        assert row["eval/reward"] == pytest.approx(np.mean([one["reward"] for one in responses]))
        assert row["eval/gold"] == pytest.approx(np.mean([one["gold"] for one in responses]))
        assert row["eval/length"] == np.mean([one["tokens"] for one in responses])
        assert 0.0 < row["eval/distinct_1"] <= 1.0
        assert row["cost/eval"] > 0.0
    assert "cost/total" not in rows[0], "an evaluation is no training"


def test_the_best_policy_is_kept_whole(finished: Path) -> None:
    rewards = {row["step"]: row["eval/reward"] for row in all_metrics_of(finished) if row.get("eval/reward")}
    best = max((2, 4), key=lambda step: rewards[step])
    assert json.loads((finished / "best/best.json").read_text()) == {
        "step": best,
        "value": rewards[best],
        "metric": "eval/reward",
    }
    kept, trained = (
        load_file(finished / name)
        for name in ("best/model.safetensors", f"checkpoints/step-{best:06d}/policy/state-00000.safetensors")
    )
    assert all(torch.equal(tensor, trained[f"policy.{name}"]) for name, tensor in kept.items())


def test_eval_finds_in_the_folder_of_a_run_what_the_run_itself_measured(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other actors, without a trainer: the exported policy against the reference, on the same prompts."""
    out = tmp_path / "out"
    assert cli.main(["eval", str(finished), "--out", str(out)]) == 0
    measured = all_metrics_of(finished)[-1]
    [row] = json.loads((out / "results.json").read_text())
    for name in ("reward", "reward_stderr", "gold", "kl_k1", "kl_k3", "length", "eos_share", "distinct_3"):
        assert row[name] == pytest.approx(measured[f"eval/{name}"], abs=1e-4), name
    ours, its = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (out / "whole.jsonl", finished / "eval/step-000004.jsonl")
    )
    assert [one["response"] for one in ours] == [one["response"] for one in its]
    alpaca = json.loads((out / "whole.alpaca.json").read_text())
    assert [(one["instruction"], one["output"]) for one in alpaca] == [(one["prompt"], one["response"]) for one in its]
    assert {(one["generator"], one["dataset"]) for one in alpaca} == {("whole", "demo")}
    printed = capsys.readouterr().out
    assert f"{row['reward']:.3f} ± {row['reward_stderr']:.3f}" in printed
    assert printed.splitlines()[-1] == str(out / "results.json")


def test_a_run_charges_every_device_second_to_a_role(finished: Path) -> None:
    rows = metrics_of(finished)
    charged = sum(row[f"cost/{role}"] for row in rows for role in ("rollout", "reward", "learner", "idle"))
    assert rows[-1]["cost/total"] == pytest.approx(charged)
    assert min(row["cost/learner"] for row in rows) > 0


def test_the_final_policy_loads_and_is_the_one_that_was_trained(finished: Path, models: dict[str, Path]) -> None:
    policy = AutoModelForCausalLM.from_pretrained(finished / "policy")
    checkpoint = load_file(finished / "checkpoints/step-000004/policy/state-00000.safetensors")
    before = AutoModelForCausalLM.from_pretrained(models["llama_tied"]).state_dict()
    for name, tensor in policy.state_dict().items():
        if name != "lm_head.weight":
            assert torch.equal(tensor, checkpoint[f"policy.{name}"])
            assert not torch.equal(tensor, before[name])
    assert len(AutoTokenizer.from_pretrained(finished / "policy")) == policy.config.vocab_size


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    resumed = tmp_path / "resumed"
    shutil.copytree(finished, resumed)
    shutil.rmtree(resumed / "checkpoints/step-000004")
    shutil.rmtree(resumed / "policy")
    (resumed / "eval/step-000004.jsonl").write_text("of another past")
    train(load_resolved(resumed / "config.json"), resumed)
    for name in (
        "policy/model.safetensors",
        "best/model.safetensors",
        "checkpoints/step-000004/policy/state-00000.safetensors",
    ):
        whole, again = load_file(finished / name), load_file(resumed / name)
        assert whole.keys() == again.keys()
        for key in whole:
            assert torch.equal(whole[key], again[key]), key
    timed = ("time", "cost", "pool", "tokens/per_s")
    for first, second in zip(all_metrics_of(finished), all_metrics_of(resumed), strict=True):
        for key in first:
            if not key.startswith(timed):
                assert first[key] == second[key], key
    assert (resumed / "samples.jsonl").read_text() == (finished / "samples.jsonl").read_text()
    for name in ("eval/step-000004.jsonl", "best/best.json"):
        assert (resumed / name).read_text() == (finished / name).read_text()
    manifests = [json.loads((run / "checkpoints/step-000004/manifest.json").read_text()) for run in (finished, resumed)]
    assert manifests[0]["state"]["kl"] == manifests[1]["state"]["kl"]
    assert manifests[0]["state"]["best"] == manifests[1]["state"]["best"]


def test_a_damaged_checkpoint_is_refused_and_the_last_good_one_named(finished: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(finished, damaged)
    state = damaged / "checkpoints/step-000004/policy/state-00000.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"step-000004 is damaged \(.*1000 bytes.*the last good one is .*step-000002"):
        train(load_resolved(damaged / "config.json"), damaged)
    assert (damaged / "checkpoints/step-000002").is_dir()


def test_a_run_that_another_process_trains_is_left_alone(finished: Path) -> None:
    record = (finished / "run.json").read_text()
    with locked(finished), pytest.raises(UserError, match=r": another process trains there; wait until it has ended$"):
        train(load_resolved(finished / "config.json"), finished)
    assert (finished / "run.json").read_text() == record


def test_every_credit_method_trains_on_the_same_actors(
    ray_cluster: None, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines, two learner ranks, two reward actors; every method takes a step and only the credit differs.

    The actors have taken the trie at load; as if another engine had been measured as faster, they are started again.
    """
    monkeypatch.setattr(Measured, "fastest", "shared_prompt")
    two = [
        "cluster.rollout.engines=2",
        "cluster.learner.ranks=2",
        "cluster.learner.micro_batch=2",
        "cluster.reward.actors=2",
    ]
    # Attention is computed by the eager reward model, which serves all other requests as well.
    config = load(overrides(models, tmp_path, *two, "credit=abc"))
    actors = cluster.start(config, lambda line: None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model.policy.path)
        prompts = load_prompts(config, tokenizer)
        actors.learner.sync(0)
        assert actors.config.cluster.reward.engine == "shared_prompt"
        rewards = [actor for actor, name in zip(actors.handles, actors.names, strict=True) if name.startswith("reward")]
        assert ray.get([actor.engine.remote() for actor in rewards]) == ["shared_prompt"] * 2
        for step, name in enumerate(METHODS):
            chosen = load(overrides(models, tmp_path, *two, f"credit={name}", "credit.completions=2"))
            method = credit.build(**chosen.credit.method_options())
            values = new_values(chosen, actors.rollout, actors.reward)
            trainer = Trainer(chosen, prompts, method, actors.rollout, values, actors.learner)
            result = trainer.step(step)
            assert result.metrics["credit/residual_max"] < 1e-9, name
            assert {one.response.engine for one in result.scored} == {"rollout-0", "rollout-1"}
            dense = [np.count_nonzero(one.rewards.rewards_T) for one in result.scored]
            if name == "sparse":
                assert max(dense) == 1
            elif name not in (
                "prefix_complete",
                "scar_sentence",
                "shape_grpo",
            ):  # a truncated response of one sentence has a single unit, its last token
                assert max(dense) > 1, (name, dense)
        stale = f"rollout-0 sampled with policy version {len(METHODS)}, the learner is at 99"
        with pytest.raises(RuntimeError, match=stale):
            trainer.step(99)
    finally:
        actors.stop()


def scar_ray(arguments: list[str], **options: object) -> subprocess.Popen[str]:
    """`scar-ray` in a process group of its own, with a Ray of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "scar_ray.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


FUNCTION = """
from pathlib import Path

def vowels(samples, broken):
    if Path(broken).exists() and Path(broken).read_text():
        return [float("nan")] * len(samples)
    return [sum(letter in "aeiou" for letter in sample.response) for sample in samples]
"""


def test_a_python_function_is_the_reward_and_one_that_fails_ends_the_run_and_names_the_sample(
    ray_cluster: None, models: dict[str, Path], tmp_path: Path
) -> None:
    """The function answers in the first step, and with nan as soon as the run has written that step's metrics."""
    (tmp_path / "mine.py").write_text(FUNCTION)
    run = tmp_path / "broken"
    function = [
        "model.reward.path=''",
        f"model.reward.function={tmp_path}/mine.py:vowels",
        f"model.reward.options.broken={run}/metrics.jsonl",
    ]
    more = [
        "task.train.limit=400",
        "cluster.reward.actors=2",
        "credit=scar_word",
        "trainer.steps=2",
        "name=broken",
        "eval.every=0",
    ]
    config = load(overrides(models, tmp_path, *function, *more))
    failed = r"^8 of 8 responses could not be scored: prompt \d+, sample 0 \('.*'\): .*/mine\.py:vowels returned nan; "
    with pytest.raises(SampleFailed, match=failed):
        train(config)
    [row] = metrics_of(run)
    assert row["credit/residual_max"] < 1e-9
    assert row["credit/evaluations"] > row["credit/evaluations_unique"] > 8
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [s["score"] for s in samples] == [sum(map(s["response"].count, "aeiou")) for s in samples]
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


def processes_of(session: int) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "sid,pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines()[1:] if line.split()[0] == str(session)]


def test_ctrl_c_writes_a_checkpoint_and_leaves_no_process_behind(models: dict[str, Path], tmp_path: Path) -> None:
    more = ("trainer.steps=100000", "trainer.checkpoint_every=100000", "task.train.limit=400", "name=stopped")
    arguments = overrides(models, tmp_path, *more)
    process = scar_ray(["train", *arguments])
    run = tmp_path / "stopped"
    deadline = time.monotonic() + 300
    while not ((run / "metrics.jsonl").is_file() and metrics_of(run)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no step was done"
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    done = int(metrics_of(run)[-1]["step"])
    assert stderr.strip().splitlines()[-1] == f"scar-ray: stopped after step {done}; continue with --resume {run}"
    manifest = json.loads((run / f"checkpoints/step-{done:06d}/manifest.json").read_text())
    assert manifest["step"] == done
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    for _ in range(100):
        if not processes_of(process.pid):
            break
        time.sleep(0.1)
    assert processes_of(process.pid) == []


def test_the_config_of_a_run_is_read_back_as_it_was(finished: Path) -> None:
    config = load_resolved(finished / "config.json")
    assert isinstance(config, Config)
    assert json.loads((finished / "config.json").read_text()) == config.model_dump(mode="json")
