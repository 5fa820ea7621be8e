"""The demo's models, with a recipe that trains in seconds."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from demo_recipe import SMALL

from scar_ray.config.load import load
from scar_ray.run import with_models
from scar_ray.workers.supervised import demo
from scar_ray.workers.supervised.demo import Recipe, ensure_demo_models

pytestmark = pytest.mark.stack


def test_models_are_trained_once_and_then_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ensure_demo_models(tmp_path, SMALL)
    assert (models.policy / "model.safetensors").exists()
    assert json.loads((models.reward / "summary.json").read_text())["correlation"] > 0.1
    monkeypatch.setattr(demo, "_train", None)
    assert ensure_demo_models(tmp_path, SMALL) == models


def test_two_first_runs_at_once_train_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def slowly(recipe: Recipe, folder: Path) -> None:
        time.sleep(0.2)
        trained.append(recipe)
        (folder / "policy").mkdir()

    monkeypatch.setattr(demo, "_train", slowly)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(ensure_demo_models, tmp_path, SMALL) for _ in range(2)]
        assert runs[0].result() == runs[1].result()
    assert trained == [SMALL]
    assert runs[0].result().policy.is_dir()


def test_a_stopped_first_run_leaves_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "train_reward_model", stopped)
        with pytest.raises(KeyboardInterrupt):
            ensure_demo_models(tmp_path, SMALL)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_the_cache_follows_xdg_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(demo, "_train", lambda _, folder: (folder / "policy").mkdir())
    assert ensure_demo_models(recipe=SMALL).policy == tmp_path / "scar_ray" / f"demo-{SMALL.key()}" / "policy"


@pytest.mark.parametrize(
    ("given", "policy", "reward"),
    [
        ([], "CACHE/policy", "CACHE/reward"),
        (["model.policy.path=mine"], "mine", "CACHE/reward"),
        (["model.reward.path=mine"], "CACHE/policy", "mine"),
        (["model.reward.function=mine.py:score"], "CACHE/policy", ""),
    ],
)
def test_the_demo_takes_its_own_models_for_those_that_are_not_given(
    given: list[str], policy: str, reward: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(demo, "_train", lambda *_: None)
    model = with_models(load(["task=demo", *given])).model
    cache = str(tmp_path / "scar_ray" / f"demo-{Recipe().key()}")
    assert (model.policy.path, model.reward.path) == (policy.replace("CACHE", cache), reward.replace("CACHE", cache))


@pytest.mark.parametrize("reward", ["model.reward.path=other", "model.reward.function=mine.py:score"])
def test_a_demo_with_both_models_given_trains_none(reward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ensure_demo_models", lambda: pytest.fail("trained"))
    config = load(["task=demo", "model.policy.path=mine", reward])
    assert with_models(config) == config


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rule = r"^cache folder .*file/x cannot be written \(Not a directory\); point XDG_CACHE_HOME to one that can$"
    with pytest.raises(ValueError, match=rule):
        ensure_demo_models(tmp_path / "file" / "x", SMALL)


def test_another_recipe_has_another_key() -> None:
    assert SMALL.key() != Recipe().key()
    assert Recipe().key() == Recipe().key()
