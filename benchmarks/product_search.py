"""Query rewriting with human judgements: GRPO and OSPO on one rewrite, GRPO and ShapE-GRPO on lists of three.

    python benchmarks/product_search.py --data FOLDER --out runs/product_search

FOLDER holds the files that `configs/task/product_search.yaml` names. Policies are trained from scratch, at a size that
two CPU cores manage; every part is a `scar-ray` command, printed before it runs. What is there already is not run
again, so the program goes on where it was stopped. It writes `results.json`, `table.md` and `ndcg.png` into the output
folder. The reward is NDCG@10 with BM25; held-out queries are also searched by a retriever that no policy was trained
with, BM25 on pieces of words. The baseline is the query as it is.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from train_runs import exit_status, scar_ray, train_words

TASKS = {"product_search": "one rewrite", "product_rewrites": "best of a list of 3"}
METHODS = {
    ("product_search", "grpo"): ["algorithm=grpo", "credit=sparse"],
    ("product_search", "ospo"): ["algorithm=ospo"],
    ("product_rewrites", "grpo"): ["algorithm=grpo", "credit=sparse"],
    ("product_rewrites", "shape_grpo"): ["algorithm=shape_grpo"],
}
SAME = [
    "algorithm.group.std=true",
    "algorithm.kl.coef=0.01",
    "algorithm.batch.prompts=16",
    "algorithm.batch.samples=8",
    "algorithm.batch.minibatch=64",
    "cluster.learner.micro_batch=32",
    "eval.samples=4",
    "trainer.tensorboard=false",
]
"""What all runs have in common, whatever the method."""
LAST = 5
"""Steps at the beginning and at the end of a run over which the training reward is the mean."""
RETRIEVERS = {"trained": "bm25", "unseen": "ngrams"}
MEASURES = {"trained": "eval/reward", "unseen": "eval/gold"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder with catalogue and judgements")
    parser.add_argument("--out", required=True, type=Path, help="folder for models, runs and results")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--run-with", default="", help="command that is put before each, such as that of a queue")
    arguments = parser.parse_args()
    for task in TASKS:
        if not (arguments.out / task).is_dir():
            scar_ray("sft", *common(arguments, task), before=shlex.split(arguments.run_with))
    runs = [train(arguments, task, method, seed) for seed in range(arguments.seeds) for task, method in METHODS]
    results = {
        "settings": [*SAME, f"algorithm.optimizer.lr={arguments.lr:g}", f"trainer.steps={arguments.steps}"],
        "baseline": baseline(arguments.data),
        "models": {task: json.loads((arguments.out / task / "summary.json").read_text()) for task in TASKS},
        "runs": [read(run) for run in runs],
    }
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    (arguments.out / "table.md").write_text(text)
    print(text)
    draw(results, arguments.out / "ndcg.png")


def common(arguments: argparse.Namespace, task: str) -> list[str]:
    data, policy = arguments.data.absolute(), arguments.out.absolute() / task
    return [f"task={task}", f"task.data={data}", f"model.policy.path={policy}"]


def train(arguments: argparse.Namespace, task: str, method: str, seed: int) -> Path:
    """The folder of a finished run."""
    run: Path = arguments.out.absolute() / "runs" / f"{task}-{method}-s{seed}"
    settings = [
        f"seed={seed}",
        f"algorithm.optimizer.lr={arguments.lr:g}",
        f"trainer.steps={arguments.steps}",
        f"trainer.checkpoint_every={max(arguments.steps // 2, 1)}",
        f"eval.every={max(arguments.steps // 4, 1)}",
    ]
    if words := train_words(run, [*common(arguments, task), *METHODS[task, method], *SAME, *settings]):
        scar_ray("train", *words, before=shlex.split(arguments.run_with))
    return run


def read(run: Path) -> dict[str, Any]:
    """What one run came to: training rewards by step, held-out NDCG by step, the unfinished share."""
    record = json.loads((run / "run.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    task, method, _ = run.name.rsplit("-", 2)
    steps = [row for row in rows if row["step"] > 0]
    measured = [row for row in rows if "eval/reward" in row]
    return {
        "task": task,
        "method": method,
        "seed": record["seed"],
        "train": [row["reward/mean"] for row in steps],
        "held_out": {name: [[row["step"], row[key]] for row in measured] for name, key in MEASURES.items()},
        "kl_k3": measured[-1]["eval/kl_k3"],
        "length": [measured[0]["eval/length"], measured[-1]["eval/length"]],
        "distinct_2": [measured[0]["eval/distinct_2"], measured[-1]["eval/distinct_2"]],
        "evaluations_per_step": fmean(row["credit/evaluations"] for row in steps),
        "versions": record["versions"],
        "hardware": record["hardware"],
    }


def baseline(data: Path) -> dict[str, dict[str, float]]:
    """Mean NDCG of the queries as they are, by part and retriever."""
    from scar_ray.config.load import load
    from scar_ray.records import Sample
    from scar_ray.search import SearchReward
    from scar_ray.tasks.catalogue import load_products, load_queries

    config = load(["task=product_search", f"task.data={data}"])
    known = frozenset(load_products(config.task.source("products")[1]).ids)
    found: dict[str, dict[str, float]] = {"train": {}, "test": {}}
    for name, retriever in RETRIEVERS.items():
        reward = SearchReward(**{**config.model.reward.options, "retriever": retriever})
        for part in ("train", "test"):
            queries = load_queries(config.task, part, known)
            found[part][name] = fmean(
                reward([Sample("", query.text, {"query": query.text, "gains": query.gains}) for query in queries])
            )
    return found


def table(results: dict[str, Any]) -> str:
    """Means and standard deviations over the seeds."""
    base = results["baseline"]
    lines = [
        "| response | method | training queries, first steps | last steps | held out, start | end "
        "| unseen retriever, start | end | KL (k3) |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| the query as it is | | {base['train']['trained']:.3f} | | {base['test']['trained']:.3f} | "
        f"| {base['test']['unseen']:.3f} | | |",
    ]
    for task, method in METHODS:
        runs = [run for run in results["runs"] if (run["task"], run["method"]) == (task, method)]
        cells = [spread([fmean(run["train"][part]) for run in runs]) for part in (slice(LAST), slice(-LAST, None))]
        for name in MEASURES:
            cells += [spread([run["held_out"][name][at][1] for run in runs]) for at in (0, -1)]
        cells.append(spread([run["kl_k3"] for run in runs]))
        lines.append(f"| {TASKS[task]} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation over the seeds where there are several."""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def draw(results: dict[str, Any], file: Path) -> None:
    """A column for each task: training reward and held-out NDCG by step, a line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, len(TASKS), figsize=(10, 10), sharex=True, squeeze=False)
    colors = {"grpo": "tab:gray", "ospo": "tab:blue", "shape_grpo": "tab:orange"}
    rows = ("training queries", "held-out queries, BM25", "held-out queries, unseen retriever")
    for column, (task, title) in enumerate(TASKS.items()):
        for run in (run for run in results["runs"] if run["task"] == task):
            curves = [list(enumerate(run["train"], start=1)), *run["held_out"].values()]
            for axis, curve in zip(axes[:, column], curves, strict=True):
                label = run["method"] if run["seed"] == 0 else None
                axis.plot(*zip(*curve, strict=True), color=colors[run["method"]], alpha=0.8, label=label)
        base = results["baseline"]
        levels = (base["train"]["trained"], base["test"]["trained"], base["test"]["unseen"])
        for axis, name, level in zip(axes[:, column], rows, levels, strict=True):
            axis.axhline(level, color="black", linestyle=":", linewidth=1, label="query as it is")
            axis.set_ylabel(f"NDCG@10, {name}", fontsize=8)
        axes[0, column].set_title(title)
        axes[0, column].legend(fontsize=8)
        axes[-1, column].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    sys.exit(exit_status(main))
