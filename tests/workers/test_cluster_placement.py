"""Ray: what happens when a cluster cannot hold the plan, where actors go, and what a failed start leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group_table

from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.config.placement import placement
from scar_ray.workers import cluster
from scar_ray.workers.errors import ActorFailed

pytestmark = pytest.mark.stack

HUGE = ["cluster.cpus_per_actor=500", "cluster.rollout.engines=2"]


def silent(line: str) -> None:
    pytest.fail(f"nothing to say, but said: {line}")


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PlacementGroup]]:
    """The placement groups that the code under test makes."""
    made: list[PlacementGroup] = []
    real = cluster.placement_group

    def recorded(*arguments: Any, **options: Any) -> PlacementGroup:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(cluster, "placement_group", recorded)
    return made


def removed(group: PlacementGroup) -> bool:
    """True once Ray has given the group's resources back, which takes a moment."""
    for _ in range(100):
        if placement_group_table(group)["state"] == "REMOVED":
            return True
        time.sleep(0.1)
    return False


def test_a_local_cluster_that_is_too_small_is_told_so_at_once(
    ray_cluster: None, groups: list[PlacementGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = load(HUGE).cluster
    with pytest.raises(UserError) as refusal:
        cluster.reserve(placement(config), config, silent)
    line = str(refusal.value)
    assert line.startswith(
        "the cluster cannot hold the actors: asked are 2000 CPUs and 0 GPUs in 4 bundles of at most 500 CPUs; there "
        "are 32 CPUs and 0 GPUs on 1 node, of which "
    )
    assert line.endswith(" are free; use a smaller cluster= choice")
    assert "\n" not in line
    assert removed(groups[0])


def test_gpus_that_are_missing_are_named_too(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = load(["cluster.device=cuda", "cluster.reward.gpus_per_actor=0.5"]).cluster
    with pytest.raises(
        UserError, match=r"asked are 3 CPUs and 2\.5 GPUs in 3 bundles of at most 1 CPU and 1 GPU; there"
    ):
        cluster.reserve(placement(config), config, silent)


def test_a_cluster_that_may_grow_gets_its_time_and_the_log_says_what_is_missing(
    ray_cluster: None, groups: list[PlacementGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "POLL_S", 0.2)
    config = load([*HUGE, "cluster.address=auto", "cluster.startup_timeout_s=1"]).cluster
    said: list[str] = []
    with pytest.raises(UserError, match=r"^the cluster cannot hold the actors: asked are 2000 CPUs"):
        cluster.reserve(placement(config), config, said.append)
    assert said[0].startswith("waiting for the cluster: asked are 2000 CPUs and 0 GPUs in 4 bundles")
    assert removed(groups[0])


def test_a_plan_that_fits_is_reserved(ray_cluster: None) -> None:
    config = load(["cluster.cpus_per_actor=0.25", "cluster.rollout.engines=2"]).cluster
    plan = placement(config)
    group = cluster.reserve(plan, config, silent)
    assert [dict(bundle) for bundle in group.bundle_specs] == [{"CPU": 0.25}] * 4
    assert cluster.bundle_order(plan, group) == [0, 1, 2, 3]
    cluster.remove_placement_group(group)


def test_the_bundles_of_an_engine_are_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines of two GPUs, a learner, and a reward actor with half a GPU, on nodes that Ray mixed up."""
    nodes = {0: "b", 1: "a", 2: "b", 3: "a", 4: "c", 5: "a"}
    monkeypatch.setattr(cluster, "placement_group_table", lambda group: {"bundles_to_node_id": nodes})
    plan = placement(
        load(
            [
                "cluster.device=cuda",
                "cluster.rollout.engines=2",
                "cluster.rollout.tensor_parallel=2",
                "cluster.reward.gpus_per_actor=0.5",
            ]
        ).cluster
    )
    assert cluster.bundle_order(plan, None) == [1, 3, 0, 2, 4, 5]


@pytest.mark.parametrize(
    ("choice", "backend"),
    [
        ([], "object_store"),
        (["cluster.device=cuda"], "nccl"),
        (["cluster.device=cuda", "cluster.placement=shared", "cluster.reward.gpus_per_actor=0.2"], "ipc"),
    ],
)
def test_the_weight_transfer_follows_from_where_the_actors_live(choice: list[str], backend: str) -> None:
    assert cluster.transfer_backend(load(choice).cluster) == backend


def never_loads() -> type:
    """An actor whose model never finishes loading; a local class, so that Ray sends its code to the actor."""

    class Loading:
        def __init__(self, *arguments: Any) -> None:
            del arguments

        def ready(self) -> None:
            time.sleep(600)

    return Loading


def test_a_failed_start_names_the_actor_and_leaves_nothing_behind(
    ray_cluster: None,
    models: dict[str, Path],
    tmp_path: Path,
    groups: list[PlacementGroup],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reward actor fails while engine and learner are still loading."""
    started: dict[str, Any] = {}
    real = cluster.wait_ready
    monkeypatch.setattr(cluster, "wait_ready", lambda handles: (started.update(handles), real(handles)))
    monkeypatch.setattr(cluster, "RolloutWorker", never_loads())
    monkeypatch.setattr(cluster, "LearnerRank", never_loads())
    nowhere = tmp_path / "nowhere"
    config = load(
        [f"model.policy.path={models['llama']}", f"model.reward.path={nowhere}", "cluster.cpus_per_actor=0.25"]
    )
    with pytest.raises(ActorFailed) as failure:
        cluster.start(config, silent)
    line = str(failure.value)
    assert line.startswith("reward-0: ")
    assert str(nowhere) in line
    assert "\n" not in line
    assert len(line) < 300
    assert list(started) == ["rollout-0", "learner-0", "reward-0"]
    for handle in started.values():
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(handle.ready.remote(), timeout=60)
    assert removed(groups[0])


def test_a_ray_that_does_not_start_in_its_time_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives up with an Exception of no type of its own; others pass as they are."""
    told = "The current node timed out during startup. This could happen because some of the raylet failed to startup."

    def init(**_options: Any) -> None:
        raise Exception(told)

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=r"^Ray did not start on this machine in the 30 s .*; try again when .*=auto$"):
        cluster.session(load([]).cluster).__enter__()
    told = "something else"
    with pytest.raises(Exception, match=r"^something else$"):
        cluster.session(load([]).cluster).__enter__()
