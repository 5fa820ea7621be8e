"""The cost model on clusters of 8 to 256 GPUs: step times of 7B and 70B policies by credit method, as a table.

    python benchmarks/plan_clusters.py

Measures nothing: the numbers are those of `scar-ray plan` for the shapes of TL;DR and HH, 512 prompts a step.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.planning.devices import find_device
from scar_ray.planning.search import best_splits
from scar_ray.planning.shapes import SHAPES
from scar_ray.planning.step import Prediction
from scar_ray.planning.workload import workload

LENGTHS = {"TL;DR": (450, 53), "HH": (200, 256)}
"""Tokens of prompt and response."""
PAIRS = (("7B", "7B"), ("70B", "7B"))
"""Policy and reward model. One of 70B fits on no single GPU here."""
GPUS = (8, 16, 32, 64, 128, 256)
CREDITS = ("sparse", "scar_span", "scar_token")
BATCH = 512
LORA = "model.policy.lora.rank=32"
"""Tried where a policy does not fit with all its weights trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="h100", help="as in scar-ray plan")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "plan")
    arguments = parser.parse_args()
    rows = [row for shape in LENGTHS for pair in PAIRS for row in rows_of(arguments.gpu, shape, *pair)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "clusters.json").write_text(json.dumps(rows, indent=1) + "\n")
    table = as_table(rows)
    (arguments.out / "clusters.md").write_text(table)
    print(table)


def rows_of(gpu: str, shape: str, policy: str, reward: str) -> list[dict[str, Any]]:
    prompt, new = LENGTHS[shape]
    device = find_device(gpu)
    rows = []
    for gpus in GPUS:
        row: dict[str, Any] = {"shape": shape, "policy": policy, "reward": reward, "gpu": gpu, "gpus": gpus}
        for more in ((), (LORA,)):
            configs = {credit: config_of(credit, prompt, new, *more) for credit in CREDITS}
            works = {c: workload(config, SHAPES[policy], SHAPES[reward]) for c, config in configs.items()}
            try:
                row["best"] = {credit: best_of(best_splits(work, device, gpus, 1)[0]) for credit, work in works.items()}
            except UserError as error:
                row["why"] = str(error)
            else:
                row["trained"] = " ".join(more) or "all weights"
                break
        rows.append(row)
    return rows


def config_of(credit: str, prompt: int, new: int, *more: str) -> Any:
    return load(
        [
            "algorithm=ppo",
            f"credit={credit}",
            f"task.prompt_tokens_min={prompt}",
            f"task.prompt_tokens_max={prompt}",
            f"task.sampling.max_new_tokens={new}",
            f"algorithm.batch.prompts={BATCH}",
            f"algorithm.batch.minibatch={BATCH}",
            *more,
        ]
    )


def best_of(found: Prediction) -> dict[str, Any]:
    split = found.split
    return {
        "seconds": found.seconds,
        "reward_wait": found.reward,
        "utilisation": found.utilisation(),
        "split": f"{split.engines}x{split.tensor_parallel} / {split.ranks} / {split.reward_actors}",
    }


def as_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| shape | policy, reward | GPUs | "
        + " | ".join(f"{credit}: s (over sparse), split" for credit in CREDITS)
        + " |",
        "|" + "---|" * (3 + len(CREDITS)),
    ]
    for row in rows:
        lora = " LoRA" if row.get("trained") == LORA else ""
        start = f"| {row['shape']} | {row['policy']}{lora}, {row['reward']} | {row['gpus']} | "
        if "best" not in row:
            lines.append(start + " | ".join(["does not fit"] * len(CREDITS)) + " |")
            continue
        sparse = row["best"]["sparse"]["seconds"]
        cells = [f"{b['seconds']:.1f} ({b['seconds'] / sparse:.2f}), {b['split']}" for b in row["best"].values()]
        lines.append(start + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
