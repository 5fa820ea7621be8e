"""Supervised training on the real stack: DeepSpeed in this process, tiny models, grammar reviews."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from scar_ray.config.schema import Config
from scar_ray.workers.supervised.lm import sft
from scar_ray.workers.supervised.reward import rewards, rm

pytestmark = pytest.mark.stack


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
            "sft": {"epochs": 2, "batch": 8, "max_tokens": 64, "lr": 3e-3},
            "rm": {"epochs": 4, "batch": 32, "max_tokens": 63, "lr": 5e-3, "crop": True},
            **sections,
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    before = os.environ.copy(), torch.get_num_threads(), torch.random.get_rng_state()
    sft(config_of(), folder / "policy")
    model = config_of().model.model_copy(
        update={"policy": config_of().model.policy.model_copy(update={"path": str(folder / "policy")})}
    )
    rm(config_of(model=model.model_dump()), folder / "reward")
    assert os.environ.copy() == before[0]
    assert torch.get_num_threads() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert not torch.distributed.is_initialized()
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
    model = AutoModelForSequenceClassification.from_pretrained(trained[1])
    tokenizer = AutoTokenizer.from_pretrained(trained[1])
    end = [tokenizer.eos_token_id]
    texts = ["The plot was superb.", "The plot was awful."]
    good, bad = rewards(model, [tokenizer(text)["input_ids"] + end for text in texts])
    assert good > bad


def test_the_reward_model_shares_the_tokenizer_of_the_policy(trained: tuple[Path, Path]) -> None:
    policy, reward = (AutoTokenizer.from_pretrained(path) for path in trained)
    assert policy.get_vocab() == reward.get_vocab()


def test_training_again_gives_the_same_weights(trained: tuple[Path, Path], tmp_path: Path) -> None:
    sft(config_of(), tmp_path / "again")
    first, again = (path / "model.safetensors" for path in (trained[0], tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()


def test_training_can_start_from_a_model(trained: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_of(
        model={"policy": {"path": str(trained[0])}, "reward": {"path": str(trained[0])}},
        rm={"epochs": 1, "batch": 16, "max_tokens": 32},
    )
    summary = rm(config, tmp_path / "reward")
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
    rm(config, tmp_path / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    ids = [*tokenizer("The plot was superb.")["input_ids"], tokenizer.eos_token_id]
    assert rewards(model, [ids], 0)[0] > 0 > rewards(model, [ids], 1)[0]


@pytest.mark.parametrize("train", [sft, rm])
def test_sequences_longer_than_the_context_are_refused(train, tmp_path: Path) -> None:
    sections = {name: {"epochs": 1, "batch": 8, "max_tokens": 65} for name in ("sft", "rm")}
    rule = r"^(sft|rm).max_tokens: sequences of 6[56] tokens exceed the model's context of 64; lower it$"
    with pytest.raises(ValueError, match=rule):
        train(config_of(**sections), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("train", "role"), [(sft, "policy"), (rm, "reward")])
def test_a_missing_model_is_named(train, role: str, tmp_path: Path) -> None:
    config = config_of(model={role: {"path": str(tmp_path / "none")}})
    with pytest.raises(ValueError, match=rf"^model.{role}.path: ") as raised:
        train(config, tmp_path / "out")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=rf"^model.{role}.path is empty; name the model to start from"):
        train(config_of(model={}), tmp_path / "out")
