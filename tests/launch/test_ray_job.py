"""The README's Ray section on this machine: `ray start`, jobs by launch/ray_job.sh, a second node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_recipe import fill_cache
from ray_nodes import POLL_S, ROOT, Nodes

pytestmark = pytest.mark.stack

SMALL = (
    "algorithm.batch.prompts=8",
    "algorithm.batch.minibatch=8",
    "task.train.limit=400",
    "task.sampling.max_new_tokens=8",
    "eval.prompts=8",
)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of one node with 2 CPUs, and a cache of its own in which the demo's models are."""
    folder = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    cluster = Nodes(folder)
    cluster.environment |= {"XDG_CACHE_HOME": str(folder), "VLLM_CACHE_ROOT": str(Path.home() / ".cache/vllm")}
    try:
        fill_cache(folder)
        cluster.start_head(cpus=2)
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


class Job:
    """`launch/ray_job.sh ARGUMENT ...` under way."""

    def __init__(self, nodes: Nodes, log: Path, *arguments: str) -> None:
        self._nodes, self._log = nodes, log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [str(ROOT / "launch/ray_job.sh"), *arguments],
                cwd=log.parent,
                env=nodes.environment,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str) -> str:
        """The first group of the pattern, once the job has printed it."""
        while (found := re.search(pattern, self.output)) is None:
            assert self.process.poll() is None, self.output
            time.sleep(POLL_S)
        return found.group(1)

    def stop(self) -> None:
        self._ray("job", "stop", self.wait_for(r"(raysubmit_\w+)"))

    def nodes_of_actors(self) -> dict[str, set[str]]:
        """For each class of living actors the nodes that they are on."""
        listed = json.loads(self._ray("list", "actors", "--filter", "state=ALIVE", "--format", "json"))
        found: dict[str, set[str]] = {}
        for actor in listed:
            found.setdefault(actor["class_name"], set()).add(actor["node_id"])
        return found

    def _ray(self, *arguments: str) -> str:
        environment = self._nodes.environment | {"RAY_AUTH_MODE": "token"}
        address = ("--address", environment["RAY_API_SERVER_ADDRESS"])
        done = subprocess.run(["ray", *arguments, *address], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


def record(runs: Path) -> dict[str, object]:
    (folder,) = runs.iterdir()
    return json.loads((folder / "run.json").read_text())


def test_a_submitted_job_trains_on_the_cluster_and_leaves_its_run_folder(nodes: Nodes, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    job = Job(nodes, tmp_path / "log", "train", "task=demo", "trainer.steps=2", *SMALL, f"runs={runs}")
    assert job.process.wait() == 0, job.output
    assert record(runs)["status"] == "done"
    (folder,) = runs.iterdir()
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2]
    assert (folder / "policy/model.safetensors").is_file()
    assert (folder / "report.html").is_file()


def test_a_job_that_asks_for_too_much_waits_saying_what_is_missing_then_fails(nodes: Nodes, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    more = ("cluster.cpus_per_actor=4", "cluster.startup_timeout_s=12", f"runs={runs}")
    job = Job(nodes, tmp_path / "log", "train", "task=demo", *SMALL, *more)
    assert job.process.wait() == 1, job.output
    lacks = "asked are 12 CPUs and 0 GPUs in 3 bundles of at most 4 CPUs; there are 2 CPUs and 0 GPUs on 1 node"
    assert f"waiting for the cluster: {lacks}" in job.output
    assert f"scar-ray: error: the cluster cannot hold the actors: {lacks}" in job.output
    assert "Traceback" not in job.output
    assert record(runs)["status"] == "failed"


def test_a_run_joins_a_cluster_by_its_address_and_token(nodes: Nodes, tmp_path: Path) -> None:
    more = (f"cluster.address=127.0.0.1:{nodes.gcs}", "cluster.cpus_per_actor=4", "cluster.startup_timeout_s=1")
    command = ("scar-ray", "train", "task=demo", *more, f"runs={tmp_path}")
    done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("scar-ray: error: the cluster cannot hold the actors: asked are 12 CPUs"), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_waiting_job_starts_on_two_nodes_and_a_stop_leaves_a_checkpoint(nodes: Nodes, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    more = ("cluster.cpus_per_actor=1", "trainer.steps=100000", f"runs={runs}")
    job = Job(nodes, tmp_path / "log", "train", "task=demo", *SMALL, *more)
    job.wait_for("(waiting for the cluster: asked are 3 CPUs)")
    nodes.start_worker(cpus=2)
    job.wait_for(r"(step +1/100000)")
    where = job.nodes_of_actors()
    assert {"RolloutWorker", "LearnerRank", "RewardWorker"} <= where.keys()
    assert len(where["RolloutWorker"] | where["LearnerRank"] | where["RewardWorker"]) == 2
    job.stop()
    assert job.process.wait() == 0  # so says Ray of a job that was stopped
    assert "continue with --resume" in job.output
    assert record(runs)["status"] == "stopped"
    (folder,) = runs.iterdir()
    assert list((folder / "checkpoints").glob("step-*")), list(folder.rglob("*"))


@pytest.mark.parametrize("arguments", [(), ("boss",), ("worker",), ("worker", "--num-cpus=2")])
def test_a_node_is_started_as_head_or_as_worker_of_an_address(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([ROOT / "launch/start_node.sh", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "head | worker HOST:PORT" in done.stderr


def test_a_job_without_a_command_is_told_what_to_give() -> None:
    done = subprocess.run([ROOT / "launch/ray_job.sh"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "train|sft|rm" in done.stderr
