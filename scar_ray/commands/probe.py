"""`scar-ray probe`: are a reward model's scores of partial responses meaningful?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar_ray.analysis.probe import ProbeResult
    from scar_ray.config.schema import Config

_KEYS = (
    "model.reward.",
    "model.trust_remote_code",
    "cluster.reward.batch_tokens",
    "cluster.reward.engine",
    "cluster.reward.memory_gib",
    "credit.max_units",
    "seed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reward-model", required=True, metavar="M", help="folder, name on the hub, or FILE.py:FUNCTION"
    )
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="FILE",
        help="JSONL(.gz), CSV or parquet with columns prompt and response, or text (its first 6 words are the prompt)",
    )
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="responses, drawn at random (1000)")
    parser.add_argument("--words", type=int, default=60, metavar="N", help="responses are cut after so many (60)")
    parser.add_argument("--unit", default="span", metavar="UNIT", help="what is removed; as credit.unit (span)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with plots")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="seed, keys of model.reward, credit.max_units"
    )


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.analysis.probe_table import as_text

    result = _probe(parsed, _config(parsed.reward_model, parsed.overrides, parsed.unit))
    print(as_text(result))
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    if parsed.html is not None:
        from scar_ray.analysis.probe_page import write_page

        print(write_page(result, parsed.html, Path(parsed.reward_model).name))
    return 0


def _config(reward_model: str, overrides: Sequence[str], unit: str) -> Config:
    from scar_ray.analysis.loading import source
    from scar_ray.config.errors import UserError
    from scar_ray.config.load import load

    for text in overrides:
        key = text.partition("=")[0]
        if not key.startswith(_KEYS) or key in ("model.reward.path", "model.reward.function"):
            names = ", ".join(name + "KEY" if name.endswith(".") else name for name in _KEYS)
            raise UserError(f"{key}: has no effect on a probe, which takes {names}; leave it out")
    return load([*source(reward_model), *overrides, f"credit.unit={unit}"])


def _probe(parsed: argparse.Namespace, config: Config) -> ProbeResult:
    from scar_ray.analysis.probe_data import MIN_ROWS, read_pairs
    from scar_ray.config.errors import UserError

    if parsed.count < MIN_ROWS:
        raise UserError(f"--count={parsed.count}: correlations need at least {MIN_ROWS} responses")
    if parsed.words < 1:
        raise UserError(f"--words={parsed.words}: a response needs at least one word")
    pairs = read_pairs(parsed.data, parsed.count, parsed.words, config.seed)

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from scar_ray.analysis.loading import load_reward_model
    from scar_ray.analysis.probe import probe
    from scar_ray.analysis.probe_data import read_responses
    from scar_ray.scoring import SampleFailed

    model = load_reward_model(parsed.reward_model, config, parsed.device)
    responses = read_responses(pairs, model.tokenizer)
    console = Console(stderr=True)
    columns = (TextColumn("probe"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as progress:
        bar = progress.add_task("probe")
        try:
            return probe(
                model,
                responses,
                unit=config.credit.unit,
                max_units=config.credit.max_units,
                seed=config.seed,
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
        except SampleFailed as error:
            raise UserError(f"{parsed.data}: {error}; here --words={parsed.words} can be lowered") from error
