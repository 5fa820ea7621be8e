"""The placement plan of each kind of cluster, in literal bundles."""

from scar_ray.config.load import load
from scar_ray.config.placement import Placement, Role, placement


def plan(*overrides: str) -> Placement:
    return placement(load(overrides).cluster)


def test_on_cpu_every_actor_has_a_bundle_of_its_own() -> None:
    assert plan("cluster.rollout.engines=2", "cluster.learner.ranks=2") == Placement(
        roles=(
            Role("rollout", 2, ((0,), (1,)), cpus=0.5, gpus=0.0),
            Role("learner", 2, ((2,), (3,)), cpus=0.5, gpus=0.0),
            Role("reward", 1, ((4,),), cpus=0.5, gpus=0.0),
        ),
        bundles=({"CPU": 0.5},) * 5,
    )


def test_a_tensor_parallel_engine_on_cpu_is_still_one_actor_in_one_bundle() -> None:
    assert plan("cluster.rollout.tensor_parallel=2").roles[0] == Role("rollout", 1, ((0,),), cpus=0.5, gpus=0.0)


def test_separate_gpus_give_a_bundle_to_each_gpu_of_an_engine() -> None:
    result = plan(
        "cluster.device=cuda",
        "cluster.rollout.engines=2",
        "cluster.rollout.tensor_parallel=2",
        "cluster.reward.actors=2",
        "cluster.reward.gpus_per_actor=0.5",
    )
    assert result.roles == (
        Role("rollout", 2, ((0, 1), (2, 3)), cpus=1.0, gpus=1.0),
        Role("learner", 1, ((4,),), cpus=1.0, gpus=1.0),
        Role("reward", 2, ((5,), (6,)), cpus=1.0, gpus=0.5),
    )
    assert result.bundles == ({"CPU": 1.0, "GPU": 1.0},) * 5 + ({"CPU": 1.0, "GPU": 0.5},) * 2
    assert (result.cpus, result.gpus) == (7.0, 6.0)


def test_shared_gpus_hold_a_share_of_every_role() -> None:
    result = plan("cluster=gpu_shared")
    assert result.bundles == ({"CPU": 3.0, "GPU": 1.0},)
    assert result.roles == (
        Role("rollout", 1, ((0,),), cpus=1.0, gpus=0.4),
        Role("learner", 1, ((0,),), cpus=1.0, gpus=0.4),
        Role("reward", 1, ((0,),), cpus=1.0, gpus=0.2),
    )


def test_shared_gpus_spread_the_reward_actors_and_span_tensor_parallel_engines() -> None:
    result = plan(
        "cluster=gpu_shared",
        "cluster.rollout.engines=2",
        "cluster.rollout.tensor_parallel=2",
        "cluster.learner.ranks=4",
        "cluster.reward.actors=6",
    )
    assert [role.bundles for role in result.roles] == [
        ((0, 1), (2, 3)),
        ((0,), (1,), (2,), (3,)),
        ((0,), (1,), (2,), (3,), (0,), (1,)),
    ]
    assert result.bundles == ({"CPU": 4.0, "GPU": 1.0},) * 4


def test_a_tensor_parallel_reward_actor_has_a_gpu_in_each_of_its_bundles() -> None:
    two = ("cluster.reward.actors=2", "cluster.reward.tensor_parallel=2")
    separate = plan("cluster.device=cuda", *two)
    assert separate.roles[2] == Role("reward", 2, ((2, 3), (4, 5)), cpus=1.0, gpus=1.0)
    assert separate.gpus == 6.0
    shared = plan("cluster=gpu_shared", "cluster.rollout.engines=2", "cluster.learner.ranks=2", *two)
    assert shared.roles[2] == Role("reward", 2, ((0, 1), (0, 1)), cpus=1.0, gpus=0.2)
    assert shared.bundles == ({"CPU": 4.0, "GPU": 1.0},) * 2
    assert plan(*two).roles[2].bundles == ((2,), (3,))  # on CPU its processes live in the actor's bundle


def test_no_bundle_is_asked_for_more_than_it_has() -> None:
    for overrides in (
        ["cluster=gpu_shared", "cluster.reward.actors=3", "cluster.reward.gpus_per_actor=0.3"],
        ["cluster=gpu_shared", "cluster.reward.gpus_per_actor=0.33333"],
        ["cluster=gpu8"],
        ["cluster=nodes2x8"],
        ["cluster=cpu", "cluster.reward.actors=3"],
    ):
        result = plan(*overrides)
        for number, bundle in enumerate(result.bundles):
            uses = [(role.cpus, role.gpus) for role in result.roles for owned in role.bundles if number in owned]
            assert sum(cpus for cpus, _ in uses) <= bundle["CPU"]
            assert sum(gpus for _, gpus in uses) <= bundle.get("GPU", 0.0) + 1e-9


def test_the_gpu_groups_ask_for_as_many_gpus_as_their_nodes_have() -> None:
    assert plan("cluster=gpu_shared").gpus == 1
    assert plan("cluster=gpu8").gpus == 8
    assert plan("cluster=nodes2x8").gpus == 16
