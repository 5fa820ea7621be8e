"""Product search on the real stack: two steps with a tiny random policy, measured by two retrievers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from catalogue_files import write_files

from scar_ray.config.load import load
from scar_ray.run import train

pytestmark = pytest.mark.stack

SMALL = [
    "algorithm.batch.prompts=2",
    "algorithm.batch.samples=4",
    "algorithm.batch.minibatch=8",
    "task.prompt_tokens_min=1",
    "task.prompt_tokens_max=40",
    "task.sampling.max_new_tokens=16",
    "cluster.cpus_per_actor=0.25",
    "trainer.tensorboard=false",
    "eval.prompts=2",
]


@pytest.fixture(scope="module")
def run(ray_cluster: None, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of ShapE-GRPO on lists of rewrites."""
    folder = tmp_path_factory.mktemp("search")
    products, judged = write_files(folder)
    files = [f"task.{part}.source={judged}" for part in ("train", "test")]
    settings = [f"task.products.source={products}", "task.products.text=text", *files, f"runs={folder}", "name=run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        policy = f"model.policy.path={models['llama_tied']}"
        return train(load(["task=product_rewrites", *SMALL, *settings, policy, "trainer.steps=2"]))


def test_rewrites_are_scored_by_the_retriever_and_measured_by_another_one(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    for row in rows:
        if row["step"]:
            assert row["credit/residual_max"] < 1e-9
            assert 0.0 <= row["reward/mean"] <= 1.0
    for row in (rows[0], rows[-1]):
        assert 0.0 <= row["eval/reward"] <= 1.0
        assert 0.0 <= row["eval/gold"] <= 1.0
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert {sample["prompt"] for sample in samples} <= {
        "Query: towel\nRewrites:",
        "Query: shoes for running\nRewrites:",
    }
    assert "Held-out" in (run / "report.html").read_text()
