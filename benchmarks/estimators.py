"""Error of the estimators of scar_ray.games on a real reward model, against shap and shapiq.

    scar-ray rm task=imdb task.train.source=imdb_train.jsonl.gz task.test.source=imdb_test.jsonl.gz \\
        model.reward.dtype=float32 model.scratch.layers=2
    python benchmarks/estimators.py --reward-model imdb/reward --data imdb_test.jsonl.gz [--shapiq-python PYTHON]

Three parts, each with a JSON file of its own in the output folder: `small` (8 to 14 players, exact values), `long` (40
to 60 tokens, shap's PartitionExplainer) and `units` (granularity). A part that is not run is reported from its file.
shapiq may live in another Python than this one (`--shapiq-python`). Writes `table.md` and the plots as well. About a
quarter of an hour on 2 cores; `--quick` is a smoke test of under a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import granularity
import long_responses
import small_games
from estimator_report import write_report
from review_games import reward_scorer, texts

PARTS = ("small", "long", "units")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward-model", required=True, help="folder of the reward model")
    parser.add_argument("--data", required=True, type=Path, help="held-out reviews (text), JSON lines, gzip")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "estimators")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--shapiq-python", help="a Python with shapiq and numpy; without it shapiq is left out")
    parser.add_argument("--quick", action="store_true", help="a few small games only")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scorer, tokenizer = reward_scorer(arguments.reward_model)
    for part in arguments.parts:
        reviews = texts(arguments.data)
        if part == "small":
            sizes = small_games.QUICK_SIZES if arguments.quick else small_games.SIZES
            found = small_games.tables(reviews, tokenizer, scorer, sizes)
            result = small_games.compare(found, small_games.BUDGETS, arguments.shapiq_python)
        elif part == "long":
            count, pairs = (1, 2) if arguments.quick else (12, 40)
            result = long_responses.compare(reviews, tokenizer, scorer, count, pairs)
        else:
            each, pairs = (1, 2) if arguments.quick else (3, 30)
            result = granularity.compare(reviews, tokenizer, scorer, each, pairs)
        result["made_by"] = made_by(arguments)
        (arguments.out / f"{part}.json").write_text(json.dumps(rounded(result)) + "\n")
    write_report(arguments.out)


def made_by(arguments: argparse.Namespace) -> dict[str, object]:
    """Versions, machine and settings, without paths."""
    names = ("numpy", "shap", "torch", "transformers")
    return {
        "quick": arguments.quick,
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU",
        "versions": {name: version(name) for name in names},
    }


def rounded(value: object) -> object:
    """Floats with 5 significant digits, so that the files stay small."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
