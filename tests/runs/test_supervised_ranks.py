"""Supervised training on several ranks gives the model that one rank gives; real Ray and DeepSpeed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scar_ray.config.schema import Config
from scar_ray.run import Stopped
from scar_ray.run_supervised import ModelLog, train_model

pytestmark = pytest.mark.stack

TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "layers": 1,
    "heads": 1,
    "intermediate_size": 64,
    "max_positions": 64,
}


def config_of(ranks: int, zero_stage: int = 0, rows: int = 160) -> Config:
    return Config.model_validate(
        {
            "task": {"train": {"limit": rows}, "test": {"limit": 40}},
            "model": {"scratch": TINY},
            "cluster": {"learner": {"ranks": ranks, "zero_stage": zero_stage}},
            "sft": {"epochs": 1, "batch": 8, "micro_batch": 2, "max_tokens": 32, "lr": 3e-3, "checkpoint_every": 100},
            "rm": {"epochs": 1, "batch": 16, "max_tokens": 40, "lr": 3e-3},
        }
    )


def agree(one: Path, other: Path, atol: float) -> None:
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], rtol=0, atol=atol)
    steps, other_steps = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (one, other)
    )
    assert [row["step"] for row in steps] == [row["step"] for row in other_steps]
    for row, same in zip(steps, other_steps, strict=True):
        assert row["loss"] == pytest.approx(same["loss"], abs=1e-4)
        assert row["lr"] == same["lr"]


def test_two_ranks_that_were_stopped_and_go_on_give_the_policy_of_one(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = ModelLog.step

    def interrupted(self: ModelLog, number: int, steps: int, metrics: dict[str, float]) -> None:
        step(self, number, steps, metrics)
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    one, two = config_of(1, rows=600), config_of(2, zero_stage=2, rows=600)
    train_model(one, "sft", tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr("scar_ray.workers.supervised.ranks.NEWS_S", 0.05)
        patch.setattr(ModelLog, "step", interrupted)
        with pytest.raises(Stopped, match=r"^stopped after step \d+; the same command goes on from there$"):
            train_model(two, "sft", tmp_path / "two")
    assert not (tmp_path / "two").exists()
    train_model(two, "sft", tmp_path / "two")
    assert "sft: going on after step " in capsys.readouterr().out
    agree(tmp_path / "one", tmp_path / "two", atol=2e-4)
    found, expected = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("two", "one"))
    assert found["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-3)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )


def test_two_ranks_give_the_reward_model_of_one(ray_cluster: None, tmp_path: Path) -> None:
    train_model(config_of(1), "rm", tmp_path / "one")
    train_model(config_of(2), "rm", tmp_path / "two")
    agree(tmp_path / "one", tmp_path / "two", atol=2e-4)
