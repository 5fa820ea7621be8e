"""Warm processes on one Ray cluster for all tests of the actors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from scar_ray.workers.learner import LearnerOptions
    from scar_ray.workers.learner_group import RayLearner


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
