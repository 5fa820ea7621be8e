"""What the benchmark of query rewriting makes of finished runs; the runs themselves are made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import product_search


def write_run(folder: Path, task: str, method: str, seed: int, end: float) -> Path:
    """A run of two steps whose held-out NDCG goes from 0.5 to `end`, that of the other retriever to half of it."""
    run = folder / f"{task}-{method}-s{seed}"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"status": "done", "seed": seed, "versions": {}, "hardware": {}}))
    common = {"eval/kl_k3": 0.25, "eval/length": 8.0, "eval/distinct_2": 0.5}
    rows = [
        {"step": 0, "eval/reward": 0.5, "eval/gold": 0.4, **common},
        {"step": 1, "reward/mean": 0.1, "credit/evaluations": 64},
        {"step": 2, "reward/mean": 0.3, "credit/evaluations": 64, "eval/reward": end, "eval/gold": end / 2, **common},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_every_seed_is_read_and_drawn_and_the_table_holds_their_spread(tmp_path: Path) -> None:
    runs = [
        product_search.read(write_run(tmp_path, task, method, seed, 0.6 + 0.1 * seed))
        for task, method in product_search.METHODS
        for seed in (0, 1)
    ]
    assert [(run["task"], run["method"], run["seed"]) for run in runs][4] == ("product_rewrites", "grpo", 0)
    base = {part: {"trained": 0.56, "unseen": 0.55} for part in ("train", "test")}
    results = {"baseline": base, "runs": runs}
    lines = product_search.table(results).splitlines()
    assert lines[2] == "| the query as it is | | 0.560 | | 0.560 | | 0.550 | | |"
    assert lines[3] == (
        "| one rewrite | grpo | 0.200 ± 0.000 | 0.200 ± 0.000 | 0.500 ± 0.000 | 0.650 ± 0.071 | 0.400 ± 0.000 | "
        "0.325 ± 0.035 | 0.250 ± 0.000 |"
    )
    assert len(lines) == 3 + len(product_search.METHODS)
    product_search.draw(results, tmp_path / "ndcg.png")
    assert (tmp_path / "ndcg.png").stat().st_size > 10_000
