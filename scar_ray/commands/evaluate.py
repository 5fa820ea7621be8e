"""`scar-ray eval`: policies measured on held-out prompts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_MEASURES = (
    ("reward", "reward", "{:.3f}"),
    ("gold", "gold", "{:.3f}"),
    ("KL k1", "kl_k1", "{:.2f}"),
    ("KL k3", "kl_k3", "{:.2f}"),
    ("length", "length", "{:.1f}"),
    ("ended", "eos_share", "{:.0%}"),
    ("distinct-1", "distinct_1", "{:.2f}"),
    ("distinct-2", "distinct_2", "{:.2f}"),
    ("distinct-3", "distinct_3", "{:.2f}"),
    ("prompts", "prompts", "{:,}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="POLICY | KEY=VALUE", help="run or policy folders, and keys to set")
    parser.add_argument("--best", action="store_true", help="the best policy of a run, not its last one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder for results.json and all responses")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder with group files of your own")


def run(parsed: argparse.Namespace) -> int:
    paths = [Path(word) for word in parsed.words if "=" not in word]
    overrides = [word for word in parsed.words if "=" in word]
    if not paths:
        raise ValueError("which policy? give a run folder, or the folder of a policy with task= and what it needs")
    from scar_ray.evaluate import evaluate, target
    from scar_ray.judge.responses import RESULTS

    targets = [target(path, overrides, parsed.config_dir, best=parsed.best) for path in paths]
    out = parsed.out or targets[0].config.runs / f"eval-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    rows = evaluate(targets, out, lambda line: print(line, flush=True))
    print_table(rows)
    print(out / RESULTS)
    return 0


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """One column for each policy, one line for each measure: means, with the standard error of rewards."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 24 * (len(rows) + 1))
    table = Table("", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_column(row["name"], justify="right", overflow="fold")
    for name, key, form in _MEASURES:
        if any(row.get(key) is not None for row in rows):
            table.add_row(name, *(_cell(row, key, form) for row in rows))
    console.print(table)


def _cell(row: Mapping[str, Any], key: str, form: str) -> str:
    value, error = row.get(key), row.get(f"{key}_stderr")
    if value is None:
        return "–"
    return form.format(value) + (f" ± {form.format(error)}" if error is not None else "")
