"""The chain of tldr and hh on real text, a few steps of it: policy, reward model on pairs, scores as PPO reads them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_response import make_response

from scar_ray.config.load import load
from scar_ray.config.schema import Config
from scar_ray.records import CreditPlan, Prompt
from scar_ray.run_supervised import train_model
from scar_ray.scoring import RewardModel
from scar_ray.tasks.dialogues import load_demonstrations
from scar_ray.tasks.prompts import load_prompts
from scar_ray.workers.supervised.completions import demonstration_rows

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not DATA.exists(), reason="needs shared/data beside the repository"),
]
LIMITS = {"train": 64, "test": 8, "sft_train": 64, "sft_test": 8, "rm_train": 48, "rm_test": 16}


def config_of(task: str, folder: Path) -> Config:
    parts = [part for part in LIMITS if not (task == "tldr" and part.startswith("sft"))]
    return load(
        [
            f"task={task}",
            f"task.data={DATA}",
            f"model.policy.path={folder / 'policy'}",
            f"model.reward.path={folder / 'reward'}",
            *(f"task.{part}.limit={LIMITS[part]}" for part in parts),
            *(f"model.scratch.{key}={value}" for key, value in SMALL.items()),
            *("sft.epochs=1", "rm.epochs=1", "rm.batch=16", "rm.micro_batch=8", "algorithm.batch.prompts=4"),
            *("algorithm.batch.minibatch=4", "cluster.learner.micro_batch=4", "trainer.tensorboard=false"),
        ]
    )


SMALL = {"vocab_size": 600, "hidden_size": 32, "layers": 1, "heads": 1, "intermediate_size": 32}


@pytest.fixture(scope="module", params=["tldr", "hh"])
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        config = config_of(request.param, folder)
        train_model(config, "sft", Path(config.model.policy.path))
        train_model(config, "rm", Path(config.model.reward.path))
    return config


def test_the_reward_model_is_measured_on_held_out_pairs(chain: Config) -> None:
    summary = json.loads((Path(chain.model.reward.path) / "summary.json").read_text())
    assert 0.0 <= summary["accuracy"] <= 1.0
    assert 0.0 <= summary["calibration_error"] < 0.5
    assert 0.5 < summary["nll"] < 1.0
    assert 0 < summary["test_pairs"] <= 16
    lines = (Path(chain.model.reward.path) / "metrics.jsonl").read_text().splitlines()
    assert {"step", "loss", "accuracy", "margin", "lr", "time_s"} == set(json.loads(lines[0]))


def test_demonstrations_score_zero_on_average(chain: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    reward = RewardModel(chain.model.reward, policy_tokenizer=chain.model.policy.path, engine="plain")
    demonstrations = load_demonstrations(chain.task, "sft_train")
    rows, _ = demonstration_rows(chain.task, reward.tokenizer, demonstrations, chain.rm.max_tokens)
    jobs = []
    for ids, n_prompt in rows:
        response = make_response(["x"] * (len(ids) - n_prompt))
        prompt = Prompt(0, ids[:n_prompt], "")
        whole = (*ids[n_prompt:], reward.tokenizer.eos_token_id)
        jobs.append((replace(response, prompt=prompt, token_ids=whole), CreditPlan()))
    scores = [evaluation.score for evaluation in reward.evaluate(jobs)[0]]
    assert abs(np.mean(scores)) < 1e-4
    assert np.std(scores) > 1e-4


def test_prompts_end_where_the_completion_begins_and_leave_room_for_it(
    chain: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    told: list[str] = []
    tokenizer = AutoTokenizer.from_pretrained(chain.model.policy.path)
    prompts = load_prompts(chain, tokenizer, say=told.append)
    end = {"tldr": "\n\nTL;DR:", "hh": "\n\nAssistant:"}[chain.task.name]
    assert all(prompt.text.endswith(end) for prompt in prompts)
    assert max(len(prompt.token_ids) for prompt in prompts) <= chain.task.prompt_tokens_max
    if chain.task.name == "tldr":
        assert len(prompts) == 64
        assert "posts shortened" in told[0]
