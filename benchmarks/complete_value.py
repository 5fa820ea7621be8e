"""Sparse rewards, GRPO and credit by completion on sums in steps, at equal generated tokens.

    scar-ray sft task=arithmetic task.mistakes=0.15 sft.epochs=2
    python benchmarks/complete_value.py --policy models/arithmetic/policy --out runs/complete_value

Every run is a `scar-ray train` command, printed before it runs; what is done already is not run again, so that the
program goes on where it was stopped. All steps of all methods generate about as many tokens, those of completions
included, and runs are compared at the same number of them: accuracy on held-out problems against generated tokens.
Writes `complete_value.json`, `table.md` and `complete_value.png`.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import accumulate
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from train_runs import exit_status, scar_ray, train_words

METHODS = {
    "reinforce, sparse": (
        "algorithm=reinforce",
        "credit=sparse",
        "algorithm.batch.prompts=64",
        "algorithm.batch.samples=1",
        "algorithm.batch.minibatch=64",
        "algorithm.kl.place=loss",
    ),
    "grpo, sparse": (
        "algorithm=grpo",
        "credit=sparse",
        "algorithm.batch.prompts=16",
        "algorithm.batch.samples=4",
        "algorithm.batch.minibatch=64",
    ),
    "grpo, prefix_complete": (
        "algorithm=grpo",
        "credit=prefix_complete",
        "credit.completions=2",
        "credit.alpha=1",
        "algorithm.group.tokens=ordered",
        "algorithm.batch.prompts=4",
        "algorithm.batch.samples=4",
        "algorithm.batch.minibatch=16",
    ),
}
"""What differs: a completed response costs about four others, so a step, one update, has a quarter of the responses."""
COMMON = (
    "task=arithmetic",
    "algorithm.epochs=1",
    "algorithm.kl.coef=0.01",
    "cluster.learner.micro_batch=16",
    "eval.prompts=300",
    "trainer.tensorboard=false",
    "trainer.checkpoint_every=1000",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, required=True, help="folder that `scar-ray sft task=arithmetic` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "complete_value")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--every", type=int, default=20, help="steps between evaluations")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    runs = [(method, seed, train(arguments, method, seed)) for seed in range(arguments.seeds) for method in METHODS]
    result = {
        "steps": arguments.steps,
        "lr": arguments.lr,
        "runs": [read(method, seed, run) for method, seed, run in runs],
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "complete_value.json").write_text(json.dumps(result, indent=1) + "\n")
    write_report(result, arguments.results)


def train(arguments: argparse.Namespace, method: str, seed: int) -> Path:
    """The folder of a finished run."""
    run: Path = arguments.out.absolute() / f"{method.replace(', ', '-')}-s{seed}"
    own = [
        f"model.policy.path={arguments.policy.absolute()}",
        f"seed={seed}",
        f"algorithm.optimizer.lr={arguments.lr:g}",
        f"trainer.steps={arguments.steps}",
        f"eval.every={arguments.every}",
    ]
    if words := train_words(run, [*COMMON, *METHODS[method], *own]):
        scar_ray("train", *words)
    return run


def read(method: str, seed: int, run: Path) -> dict[str, Any]:
    """The curve of one run: generated tokens and held-out accuracy at its evaluations."""
    record = json.loads((run / "run.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["step"] > 0]
    of_values = [row.get("credit/generated_tokens", 0.0) for row in steps]
    tokens = [row["tokens/generated"] + more for row, more in zip(steps, of_values, strict=True)]
    spent = dict(zip((row["step"] for row in steps), accumulate(tokens), strict=True)) | {0: 0.0}
    measured = [row for row in rows if "eval/reward" in row]
    found = [row["credit/wrong_step_lowest"] for row in steps if "credit/wrong_step_lowest" in row]
    return {
        "method": method,
        "seed": seed,
        "tokens": [spent[row["step"]] for row in measured],
        "accuracy": [row["eval/reward"] for row in measured],
        "stderr": [row["eval/reward_stderr"] for row in measured],
        "value_tokens_share": sum(of_values) / sum(tokens),
        "value_stderr": [row["credit/value_stderr"] for row in steps if "credit/value_stderr" in row],
        "wrong_step_lowest": fmean(found) if found else None,
        "kl": [row["eval/kl_k3"] for row in measured],
        "cpu_seconds": {role: sum(row[f"cost/{role}"] for row in steps) for role in ("rollout", "learner", "reward")},
        "versions": record["versions"],
        "hardware": record["hardware"],
    }


def write_report(result: dict[str, Any], out: Path) -> None:
    """Accuracies at the largest number of tokens that every run has generated, by interpolation of its curve."""
    runs = result["runs"]
    budget = min(run["tokens"][-1] for run in runs)
    lines = [
        f"Held-out accuracy after {budget:,.0f} generated tokens, before: {runs[0]['accuracy'][0]:.3f}",
        "",
        "| method | seeds | each seed | mean | deviation over seeds | tokens of values | KL (k3) at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == method]
        reached = [float(np.interp(budget, run["tokens"], run["accuracy"])) for run in own]
        deviation = f"{stdev(reached):.3f}" if len(reached) > 1 else "-"
        each = ", ".join(f"{one:.3f}" for one in reached)
        lines.append(
            f"| {method} | {len(own)} | {each} | {fmean(reached):.3f} | {deviation} "
            f"| {fmean(run['value_tokens_share'] for run in own):.0%} | {fmean(run['kl'][-1] for run in own):.3f} |"
        )
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    _plot(result, out / "complete_value.png")


def _plot(result: dict[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5))
    methods = list(dict.fromkeys(run["method"] for run in result["runs"]))
    for run in result["runs"]:
        number = methods.index(run["method"])
        label = run["method"] if run["seed"] == 0 else None
        axis.plot(run["tokens"], run["accuracy"], color=f"C{number}", marker="o", ms=3, label=label)
    axis.set(xlabel="generated tokens, those of completions included", ylabel="accuracy on held-out problems")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    sys.exit(exit_status(main))
