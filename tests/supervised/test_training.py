"""Supervised training on the real stack: DeepSpeed in this process, tiny models, grammar reviews."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from scar_ray.config.schema import Config
from scar_ray.run import Stopped
from scar_ray.run_supervised import ModelLog, train_model
from scar_ray.workers.supervised.scores import rewards

pytestmark = pytest.mark.stack
SFT = {"epochs": 2, "batch": 8, "max_tokens": 64, "lr": 3e-3}


def config_of(**sections: object) -> Config:
    return Config.model_validate(
        {
            "task": {"train": {"limit": 2000}, "test": {"limit": 200}},
            "model": {
                "scratch": {
                    "vocab_size": 400,
                    "hidden_size": 32,
                    "layers": 1,
                    "heads": 1,
                    "intermediate_size": 64,
                    "max_positions": 64,
                }
            },
            "sft": SFT,
            "rm": {"epochs": 4, "batch": 32, "max_tokens": 63, "lr": 5e-3, "crop": True},
            **sections,
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    before = os.environ.copy(), torch.get_num_threads(), torch.random.get_rng_state()
    train_model(config_of(), "sft", folder / "policy")
    model = config_of().model.model_copy(
        update={"policy": config_of().model.policy.model_copy(update={"path": str(folder / "policy")})}
    )
    train_model(config_of(model=model.model_dump()), "rm", folder / "reward")
    assert os.environ.copy() == before[0]
    assert torch.get_num_threads() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert not torch.distributed.is_initialized()
    assert sorted(path.name for path in folder.iterdir()) == ["policy", "reward"]
    return folder / "policy", folder / "reward"


def test_sft_lowers_the_perplexity_far_below_the_uniform_one(trained: tuple[Path, Path]) -> None:
    summary = json.loads((trained[0] / "summary.json").read_text())
    assert 1.0 < summary["perplexity"] < 40.0
    losses = [json.loads(line)["loss"] for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert losses[0] > 5.5
    assert losses[-1] < 4.0


def test_the_policy_loads_and_generates(trained: tuple[Path, Path]) -> None:
    policy = AutoModelForCausalLM.from_pretrained(trained[0])
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    ids = tokenizer("The plot", return_tensors="pt")["input_ids"]
    out = policy.generate(input_ids=ids, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert out.shape == (1, ids.shape[1] + 5)
    assert (trained[0] / "model.safetensors").exists()


def test_the_reward_model_tells_praise_from_blame(trained: tuple[Path, Path]) -> None:
    summary = json.loads((trained[1] / "summary.json").read_text())
    assert summary["accuracy"] > 0.6
    assert summary["nll"] < 0.69
    assert 0.0 < summary["calibration_error"] < 0.4
    model = AutoModelForSequenceClassification.from_pretrained(trained[1])
    tokenizer = AutoTokenizer.from_pretrained(trained[1])
    end = [tokenizer.eos_token_id]
    texts = ["The plot was superb.", "The plot was awful."]
    good, bad = rewards(model, [tokenizer(text)["input_ids"] + end for text in texts])
    assert good > bad


def test_the_reward_model_shares_the_tokenizer_of_the_policy(trained: tuple[Path, Path]) -> None:
    policy, reward = (AutoTokenizer.from_pretrained(path) for path in trained)
    assert policy.get_vocab() == reward.get_vocab()


def test_training_again_gives_the_same_weights_also_when_it_was_stopped_and_goes_on(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = ModelLog.step

    def interrupted(self: ModelLog, number: int, steps: int, metrics: dict[str, float]) -> None:
        step(self, number, steps, metrics)
        if number == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ModelLog, "step", interrupted)
        with pytest.raises(Stopped, match=r"^stopped after step 7; the same command goes on from there$"):
            train_model(config_of(), "sft", tmp_path / "policy")
    assert not (tmp_path / "policy").exists()
    with pytest.raises(ValueError, match=r"unfinished: holds an unfinished sft with another sft.lr; set it as it was"):
        train_model(config_of(sft={**SFT, "lr": 1e-3}), "sft", tmp_path / "policy")
    elsewhere = {"algorithm": {"batch": {"prompts": 8, "minibatch": 8}}, "eval": {"prompts": 4}}
    train_model(config_of(**elsewhere), "sft", tmp_path / "policy")
    assert "sft: going on after step 7 of " in capsys.readouterr().out
    whole, resumed = (path / "model.safetensors" for path in (trained[0], tmp_path / "policy"))
    assert whole.read_bytes() == resumed.read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "policy/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_micro_batches_change_rounding_only(tmp_path: Path) -> None:
    short = {"epochs": 1, "batch": 8, "max_tokens": 64, "lr": 3e-3}
    task = {"train": {"limit": 100}, "test": {"limit": 20}}
    train_model(config_of(sft=short, task=task), "sft", tmp_path / "whole")
    train_model(config_of(sft={**short, "micro_batch": 3}, task=task), "sft", tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-4) for name in whole)
    assert any(not torch.equal(whole[name], parts[name]) for name in whole)


def test_training_can_start_from_a_model(trained: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_of(
        model={"policy": {"path": str(trained[0])}, "reward": {"path": str(trained[0])}},
        rm={"epochs": 1, "batch": 16, "max_tokens": 32},
    )
    summary = json.loads((train_model(config, "rm", tmp_path / "reward") / "summary.json").read_text())
    assert summary["accuracy"] > 0.5
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    assert model.config.num_labels == 1


def test_two_label_models_are_trained_on_the_difference_of_their_logits(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    two = AutoModelForSequenceClassification.from_pretrained(trained[0], num_labels=2)
    two.save_pretrained(tmp_path / "two")
    AutoTokenizer.from_pretrained(trained[0]).save_pretrained(tmp_path / "two")
    settings = {"epochs": 2, "batch": 16, "max_tokens": 32, "lr": 3e-3}
    config = config_of(model={"reward": {"path": str(tmp_path / "two"), "label": 0}}, rm=settings)
    train_model(config, "rm", tmp_path / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    ids = [*tokenizer("The plot was superb.")["input_ids"], tokenizer.eos_token_id]
    assert rewards(model, [ids], 0)[0] > 0 > rewards(model, [ids], 1)[0]


@pytest.mark.parametrize("command", ["sft", "rm"])
def test_sequences_longer_than_the_context_are_refused(command, tmp_path: Path) -> None:
    sections = {name: {"epochs": 1, "batch": 8, "max_tokens": 65} for name in ("sft", "rm")}
    rule = r"^(sft|rm).max_tokens: sequences of 6[56] tokens exceed the model's context of 64; lower it$"
    with pytest.raises(ValueError, match=rule):
        train_model(config_of(**sections), command, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "role"), [("sft", "policy"), ("rm", "reward")])
def test_a_missing_model_is_named(command, role: str, tmp_path: Path) -> None:
    config = config_of(model={role: {"path": str(tmp_path / "none")}})
    with pytest.raises(ValueError, match=rf"^model.{role}.path: ") as raised:
        train_model(config, command, tmp_path / "out")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=rf"^model.{role}.path is empty; name the model to start from"):
        train_model(config_of(model={}), command, tmp_path / "out")
