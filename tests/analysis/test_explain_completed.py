"""`scar_ray.explain` where a policy completes the response: the values are those of its completions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scar_ray import explain
from scar_ray.analysis.completing import LocalPolicy
from scar_ray.analysis.explain import Explainer
from scar_ray.analysis.explanation import Explanation
from scar_ray.cli import main
from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.records import Prompt, Request
from scar_ray.trainer.completion import State

PROMPT, REPLY = "The film is", " not good."
KEYS = [
    "credit.unit=token",
    "credit.completions=3",
    "task.sampling.max_new_tokens=12",
    "task.sampling.min_new_tokens=0",
]


@pytest.fixture
def reward(tmp_path: Path) -> str:
    """The number of characters, and 10 more at a full stop."""
    file = tmp_path / "rewards.py"
    file.write_text(
        "def size(samples):\n    return [len(s.response) + 10.0 * s.response.endswith('.') for s in samples]\n"
    )
    return f"{file}:size"


@pytest.fixture
def found(reward: str, models: dict[str, Path]) -> Explanation:
    [found] = explain(reward, PROMPT, REPLY, "prefix_complete", overrides=KEYS, policy=str(models["gpt2"]))
    return found


def test_values_are_mean_rewards_of_what_the_policy_writes_after_each_beginning(
    found: Explanation, models: dict[str, Path]
) -> None:
    policy = LocalPolicy(str(models["gpt2"]), load(["credit=prefix_complete", *KEYS]), "cpu")
    ids = tuple(policy.tokenizer(REPLY, add_special_tokens=False)["input_ids"])
    prompt = Prompt(0, tuple(policy.tokenizer(PROMPT)["input_ids"]), PROMPT)
    values = []
    for size in range(len(ids)):
        state = State(prompt, (ids[:size], ()), 0)
        requests = [Request(0, prompt, sample, state.seed(0, sample), ids[:size]) for sample in range(3)]
        texts = [response.text for response in policy.generate(requests)]
        assert size == 0 or len(set(texts)) > 1
        values.append(np.mean([len(text) + 10.0 * text.endswith(".") for text in texts]))
    assert found.score == len(REPLY) + 10.0
    assert found.base == pytest.approx(values[0])
    credits = np.diff([*values, found.score])
    np.testing.assert_allclose([unit.credit for unit in found.units], credits, atol=1e-9)
    assert [unit.n_tokens for unit in found.units] == [1] * len(ids)
    assert found.finished
    assert found.estimator == "prefixes"


def test_the_same_seed_gives_the_same_numbers_and_torch_keeps_its_own(
    found: Explanation, reward: str, models: dict[str, Path]
) -> None:
    policy = str(models["gpt2"])
    both = Explainer(reward, ("sparse", "prefix_complete"), overrides=KEYS, policy=policy)
    sparse, again = both.explain(PROMPT, REPLY)
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)
    assert sparse.score == again.score
    assert [token.text for token in sparse.tokens] == [" not", " good", "."], "the reward function's own"


def test_gaps_are_filled_where_the_policy_can_be_asked(reward: str, models: dict[str, Path]) -> None:
    keys = [*KEYS, "credit.value=complete", 'model.policy.infill="{prompt} {before} _ {after} :"']
    [found] = explain(reward, PROMPT, REPLY, "scar_token", overrides=keys, policy=str(models["gpt2"]))
    assert found.estimator == "owen"
    assert found.base + sum(unit.credit for unit in found.units) == pytest.approx(found.score)


def test_a_policy_is_named_where_one_is_asked_and_only_there(
    reward: str,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^policy .*: only credit.value=complete asks a policy; leave it out$"):
        Explainer(reward, "sparse", policy=str(models["gpt2"]))
    with pytest.raises(UserError, match=r"^policy .*nowhere: .*; give a folder, or a name that the hub has$"):
        Explainer(reward, "prefix_complete", policy=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"^device cuda: this machine has no CUDA device that torch can use; use cpu$"):
        LocalPolicy(str(models["gpt2"]), load(["credit=prefix_complete"]), "cuda")
    with pytest.raises(UserError, match=r"^trainer.steps: has no effect"):
        Explainer(reward, "prefix_complete", overrides=["trainer.steps=3"], policy=str(models["gpt2"]))
    short = Explainer(
        reward, "prefix_complete", overrides=["task.sampling.max_new_tokens=3"], policy=str(models["gpt2"])
    )
    with pytest.raises(UserError, match=r"^response ' not good.': has 8 tokens .*max_new_tokens=3, .*; raise that$"):
        short.explain(PROMPT, REPLY)
    words = ["explain", "--reward-model", reward, "--prompt", PROMPT, "--response", REPLY, "credit=prefix_complete"]
    assert main([*words, *KEYS, "--policy", str(models["gpt2"])]) == 0
    assert "prefix_complete" in capsys.readouterr().out
