"""The whole chain on real reviews, at a size that two CPU cores train: SFT, reward model, PPO with several credits.

    python benchmarks/imdb_tiny.py --train imdb_train.jsonl.gz --test imdb_test.jsonl.gz --out runs/imdb_tiny

Every part is a `scar-ray` command, printed before it runs. What is there already is not run again, so that the
program goes on where it was stopped. At the end it writes `summary.json` and `summary.md` into the output folder.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from train_runs import scar_ray, train_words

TAIL = 0.1
"""Share of the steps, at the end of a run, over which the final reward is the mean."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, type=Path, help="reviews for training (text, label)")
    parser.add_argument("--test", required=True, type=Path, help="held-out reviews")
    parser.add_argument("--out", required=True, type=Path, help="folder for models, runs and the summary")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--credits", default="sparse,abc,scar_span")
    arguments = parser.parse_args()
    models = train_models(arguments)
    runs = [
        train_policy(arguments, credit, seed)
        for seed in range(arguments.seeds)
        for credit in arguments.credits.split(",")
    ]
    write_summary(arguments.out, runs, models)
    scar_ray("report", *map(str, runs), "--out", str(arguments.out / "report.html"))


def common(arguments: argparse.Namespace) -> list[str]:
    return [
        "task=imdb",
        "model=tiny",
        f"task.train.source={arguments.train.absolute()}",
        f"task.test.source={arguments.test.absolute()}",
        f"model.policy.path={arguments.out.absolute() / 'policy'}",
        f"model.reward.path={arguments.out.absolute() / 'reward'}",
    ]


def train_models(arguments: argparse.Namespace) -> list[Path]:
    policy, reward = arguments.out / "policy", arguments.out / "reward"
    if not policy.exists():
        scar_ray("sft", *common(arguments), "model.policy.dtype=bfloat16", "cluster.learner.zero_stage=1")
    if not reward.exists():
        scar_ray("rm", *common(arguments), "model.reward.dtype=bfloat16", "model.scratch.layers=2")
    return [policy, reward]


def train_policy(arguments: argparse.Namespace, credit: str, seed: int) -> Path:
    run: Path = arguments.out.absolute() / "runs" / f"{credit}-s{seed}"
    own = [
        "algorithm=tiny",
        f"credit={credit}",
        f"seed={seed}",
        f"trainer.steps={arguments.steps}",
        "trainer.checkpoint_every=40",
    ]
    if words := train_words(run, [*common(arguments), *own]):
        scar_ray("train", *words)
    return run


def read(run: Path) -> dict[str, Any]:
    """What one run came to."""
    record = json.loads((run / "run.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["step"] > 0]  # before the first step there is only an evaluation
    tail = rows[-max(1, math.ceil(TAIL * len(rows))) :]
    first = rows[: len(tail)]
    roles = ("rollout", "reward", "learner", "idle")
    return {
        "credit": record["credit"],
        "seed": record["seed"],
        "steps": len(rows),
        "reward_first": fmean(row["reward/mean"] for row in first),
        "reward_final": fmean(row["reward/mean"] for row in tail),
        "reward_mean_over_time": fmean(row["reward/mean"] for row in rows),
        "kl_k1_final": fmean(row["kl/k1"] for row in tail),
        "kl_k3_final": fmean(row["kl/k3"] for row in tail),
        "length_final": fmean(row["length/mean"] for row in tail),
        "evaluations_per_step": fmean(row["credit/evaluations"] for row in rows),
        "seconds": rows[-1]["time_s"],
        "cpu_seconds": {role: sum(row[f"cost/{role}"] for row in rows) for role in roles},
        "residual_max": max(row["credit/residual_max"] for row in rows),
        "logprob_gap_max": max(row["engine/logprob_gap_max"] for row in rows),
        "versions": record["versions"],
        "hardware": record["hardware"],
    }


def write_summary(out: Path, runs: list[Path], models: list[Path]) -> None:
    results = [read(run) for run in runs]
    trained = {model.name: json.loads((model / "summary.json").read_text()) for model in models}
    (out / "summary.json").write_text(json.dumps({"models": trained, "runs": results}, indent=1))
    lines = [
        "| credit | seeds | reward, first tenth | reward, last tenth | mean over time | KL (k1) at the end "
        "| evaluations a step | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for credit in dict.fromkeys(result["credit"] for result in results):
        rows = [result for result in results if result["credit"] == credit]
        columns = ["reward_first", "reward_final", "reward_mean_over_time", "kl_k1_final"]
        cells = [spread([row[column] for row in rows]) for column in columns]
        cells += [f"{fmean(row[column] for row in rows):.0f}" for column in ("evaluations_per_step", "seconds")]
        lines.append(f"| {credit} | {len(rows)} | " + " | ".join(cells) + " |")
    (out / "summary.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation over the seeds where there are several."""
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
