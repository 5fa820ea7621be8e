"""One Ray cluster and one set of tiny models for all tests of the real stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_models
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from scar_ray.workers.learner import LearnerOptions
    from scar_ray.workers.learner_group import RayLearner
    from scar_ray.workers.reward_model import RewardModel

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Threads that wait for each other make models of this size many times slower on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray cluster with more CPUs than the machine has, so that actors of several tests fit."""
    import ray

    ray.init(
        address="local",
        num_cpus=32,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny models by name: policies (`tiny_models.POLICIES`) and reward models, one tokenizer for all."""
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


@pytest.fixture(scope="session")
def learners(request: pytest.FixtureRequest) -> Iterator[Callable[[LearnerOptions], RayLearner]]:
    """Makes learners on processes that are kept for all tests; the next one on as many ranks replaces the last."""
    import learner_bench
    import ray

    from scar_ray.workers.learner_group import RayLearner

    request.getfixturevalue("ray_cluster")
    hosts: dict[int, list[Any]] = {}

    def new_learner(options: LearnerOptions) -> RayLearner:
        ranks = options.learner.ranks
        if ranks not in hosts:
            hosts[ranks] = learner_bench.new_actors(ranks, learner_bench.ReusableRank)
        ray.get([host.restart.remote(options) for host in hosts[ranks]])
        return RayLearner(hosts[ranks], learner_bench.names(ranks))

    yield new_learner
    for host in (host for group in hosts.values() for host in group):
        ray.kill(host)


@pytest.fixture(scope="session")
def vllm_processes(ray_cluster: None) -> Iterator[list[Any]]:
    """Two processes that become vLLM engines, one after the other; kept for all tests."""
    import engine_bench
    import ray

    engines = [engine_bench.new_engine(f"rollout-{i}") for i in range(2)]
    yield engines
    for engine in engines:
        ray.kill(engine)
