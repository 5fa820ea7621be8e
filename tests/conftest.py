"""Settings of all tests, and the tiny models that tests of reward models and of the stack share."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from scar_ray.scoring import RewardModel

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's processes yield to all others by default: beside the rest of the tests they would get hardly any of two cores.
os.environ.setdefault("RAY_worker_niceness", "0")
# Two processes whose threads wait for each other on two cores are several times slower than with one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


STACK = ("tests/runs/", "tests/workers/", "tests/launch/", "tests/supervised/")
"""Folders of the tests that start real Ray, vLLM or DeepSpeed processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The real stack first: what takes longest must not be what is left at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(STACK))


def pytest_collection_finish() -> None:
    """The garbage collector need not look at all modules and tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run side by side, each folder of the real stack in one process with one cluster; others by file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in STACK if nodeid.startswith(folder)), nodeid.partition("::")[0])

    config.option.loadscopereorder = False  # by the number of tests; the order is that of the items above
    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _processes_as_installed() -> None:
    """Actors and commands find what a user's environment has: `as_installed/sitecustomize.py`."""
    paths = [str(Path(__file__).parent / "as_installed"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray cluster: `local_ray.cluster`."""
    import local_ray

    with local_ray.cluster():
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny models by name: policies (`tiny_models.POLICIES`) and reward models, one tokenizer for all."""
    import tiny_models

    root = tmp_path_factory.mktemp("models")
    tok = tiny_models.tokenizer()
    kinds = (*tiny_models.POLICIES, "llama_reward", "gpt2_reward")
    return {
        kind: tiny_models.save(
            tiny_models.new_model(kind, tok, labels=2 if kind == "gpt2_reward" else 1), tok, root / kind
        )
        for kind in kinds
    }


@pytest.fixture(scope="session")
def tok(models: dict[str, Path]) -> PreTrainedTokenizerFast:
    """The tokenizer of the tiny policies."""
    import reward_bench

    return reward_bench.load_tokenizer(models["llama"])


@pytest.fixture(scope="session")
def reward_folders(
    models: dict[str, Path], tok: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders of reward models by name: `reward_bench.folders`."""
    import reward_bench

    return reward_bench.folders(models, tok, tmp_path_factory.mktemp("rewards"))


@pytest.fixture(scope="session")
def load_reward(reward_folders: dict[str, Path], models: dict[str, Path]) -> Callable[..., RewardModel]:
    """Loads a reward model by name, for the policy `llama`."""
    import reward_bench

    def new(name: str, **options: object) -> RewardModel:
        return reward_bench.reward_model(reward_folders[name], models["llama"], **options)

    return new
