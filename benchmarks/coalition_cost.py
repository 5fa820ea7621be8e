"""What the coalitions of one response cost, against its length (16 to 4,096 tokens) and its number of units.

    OMP_NUM_THREADS=1 python benchmarks/coalition_cost.py --out benchmarks/results/coalition_cost

The default estimator (auto, at most 256 coalitions) on a balanced tree over units of equal length, deletion, a prompt
of 64 tokens, and a Llama with random weights (hidden 64, 2 layers, float32) as a trie on one CPU thread. Counted are
the tokens that were computed; timed is the CPU time of the process, the better of two runs, so that other work on the
machine counts little. Fitted are

    tokens  = prompt + T f(n) + C                f(n): how often each token of the response is computed
    seconds = a tokens + b tokens depth + c      depth = prompt + T, what a token attends to at most

the seconds by non-negative least squares of relative errors. With deletion f is the same whatever the length; for the
exact Owen value it is a power of n.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scar_ray.config.schema import ArchitectureConfig
from scar_ray.games import balanced, choose
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import Classifier, PlainBatches
from scar_ray.scoring.engines.trie import TrieBlocks
from scar_ray.tasks.scratch import llama_config

LENGTHS, UNITS = (16, 64, 256, 1024, 4096), (4, 8, 16, 32, 64)
PROMPT, BUDGET, VOCABULARY, EOS, PAD = 64, 256, 4000, 0, 1
MEMORY = 2**30


def new_engine() -> TrieBlocks:
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(0)
    shape = ArchitectureConfig(hidden_size=64, intermediate_size=256, layers=2, heads=2, max_positions=8192)
    config = llama_config(shape, VOCABULARY, EOS, PAD)
    config.num_labels = 1
    classifier = Classifier.of(LlamaForSequenceClassification(config).eval(), causal=True, label=0)
    return TrieBlocks(classifier, PlainBatches(classifier, batch_tokens=16_384, memory=MEMORY), memory=MEMORY)


def coalitions(length: int, units: int, seed: int) -> tuple[str, list[Encoded]]:
    """The estimator, and the sequences of a random response of `length` tokens in `units` units."""
    rng = np.random.default_rng(seed)
    prompt, response = rng.integers(3, VOCABULARY, PROMPT).tolist(), rng.integers(3, VOCABULARY, length)
    plan = choose(balanced(units), "auto", BUDGET)
    unit_T = np.arange(length) * units // length
    rows = [response[here[unit_T]].tolist() for here in plan.coalitions_Cn]
    return plan.estimator, [Encoded((*prompt, *row, EOS)) for row in rows]


def measure(engine: TrieBlocks, length: int, units: int) -> dict[str, Any]:
    estimator, sequences = coalitions(length, units, seed=length + units)
    seconds = []
    for _ in range(2):
        started = time.process_time()
        _, computed = engine.scores(sequences, [list(range(len(sequences)))])
        seconds.append(time.process_time() - started)
    return {
        "tokens_of_response": length,
        "units": units,
        "estimator": estimator,
        "coalitions": len(sequences),
        "naive_tokens": sum(map(len, sequences)),
        "tokens": computed,
        "cpu_s": round(min(seconds), 4),
    }


def fit(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The two formulas and their largest relative errors."""
    from scipy.optimize import nnls

    T, n, C, tokens, seconds = (
        np.array([row[name] for row in rows], dtype=float)
        for name in ("tokens_of_response", "units", "coalitions", "tokens", "cpu_s")
    )
    found = {int(units): float(np.median(((tokens - PROMPT - C) / T)[n == units])) for units in sorted(set(n))}
    by_table = PROMPT + T * np.array([found[int(units)] for units in n]) + C
    exact = sorted({row["units"] for row in rows if row["estimator"] == "owen"})
    slope, start = np.polyfit(np.log(exact), np.log([found[units] for units in exact]), 1)
    terms = np.stack([tokens, tokens * (PROMPT + T), np.ones(len(T))], axis=1)
    factors, _ = nnls(terms / seconds[:, None], np.ones(len(seconds)))
    by_seconds = terms @ factors
    return {
        "f": {str(units): round(value, 3) for units, value in found.items()},
        "f_of_owen": {"factor": round(float(np.exp(start)), 3), "power": round(float(slope), 3)},
        "tokens_error_max": round(float(np.abs(by_table / tokens - 1).max()), 4),
        "seconds": dict(zip(("a", "b", "c"), (float(f"{factor:.3g}") for factor in factors), strict=True)),
        "seconds_error_median": round(float(np.median(np.abs(by_seconds / seconds - 1))), 4),
        "seconds_error_max": round(float(np.abs(by_seconds / seconds - 1).max()), 4),
    }


def plot(rows: Sequence[dict[str, Any]], fitted: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for units, colour in zip(UNITS, ("#0b62a8", "#bd4b0c", "#0a7a5a", "#85489a", "#8a6500"), strict=True):
        own = [row for row in rows if row["units"] == units]
        T = np.array([row["tokens_of_response"] for row in own])
        tokens, C = (np.array([row[name] for row in own]) for name in ("tokens", "coalitions"))
        estimate = PROMPT + T * fitted["f"][str(units)] + C
        seconds = fitted["seconds"]
        left.plot(T, tokens, "o", color=colour, label=f"{units} units ({own[0]['estimator']})")
        left.plot(T, estimate, "-", color=colour, linewidth=1)
        right.plot(T, [row["cpu_s"] for row in own], "o", color=colour)
        line = tokens * (seconds["a"] + seconds["b"] * (PROMPT + T)) + seconds["c"]
        right.plot(T, line, "-", color=colour, linewidth=1)
    for axes, label in ((left, "tokens computed"), (right, "CPU seconds")):
        axes.set(xscale="log", yscale="log", xlabel="tokens of the response", ylabel=label)
        axes.set_xticks(LENGTHS, [f"{length:,}" for length in LENGTHS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=max(LENGTHS), help="longest response")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coalition_cost"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    engine, rows = new_engine(), []
    measure(engine, 64, 8)
    for length in (length for length in LENGTHS if length <= given.longest):
        for units in (units for units in UNITS if units <= length):
            rows.append(measure(engine, length, units))
            print(rows[-1], flush=True)
    fitted = fit(rows)
    print(fitted)
    given.out.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "prompt": PROMPT,
        "budget": BUDGET,
        "rows": rows,
        "fit": fitted,
    }
    (given.out / "coalition_cost.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(rows, fitted, given.out / "coalition_cost.png")


if __name__ == "__main__":
    main()
