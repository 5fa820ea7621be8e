"""One Ray cluster and one set of tiny models for all tests of the real stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


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
