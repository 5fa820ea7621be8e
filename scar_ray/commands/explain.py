"""`scar-ray explain`: which words of a response earned its score."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar_ray.analysis.explain import Explainer
    from scar_ray.analysis.explanation import Explanation
    from scar_ray.analysis.pairs import Pair

_PAGE_RESPONSES = 50
"""Responses of a file that the page shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reward-model", required=True, metavar="M", help="folder, name on the hub, or FILE.py:FUNCTION"
    )
    parser.add_argument(
        "--policy", metavar="M", help="credit=prefix_complete: what completes the response; folder or name on the hub"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="what the response answers; read as it stands, may be empty")
    parser.add_argument("--response", metavar="TEXT", help="begins with its own white space, if any")
    parser.add_argument("--file", type=Path, metavar="FILE", help="many: .jsonl(.gz) with columns prompt, response")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON lines, one for each response and method")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help=f"a page; of a file the first {_PAGE_RESPONSES} responses"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="credit=sparse,abc,scar_span; keys of credit and model.reward"
    )


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.analysis.pairs import Pair, read_pairs

    texts = (parsed.prompt, parsed.response)
    if (parsed.file is None) == (None in texts) or (parsed.file is not None and texts != (None, None)):
        raise ValueError("give either --prompt and --response, or --file with many of them")
    pairs = [Pair("", *texts)] if parsed.file is None else read_pairs(parsed.file)
    _quiet(parsed.device)
    explained = _written(_explanations(_explainer(parsed), pairs), parsed.out)
    kept: list[Sequence[Explanation]] = []
    try:
        if parsed.file is None or (parsed.out is None and parsed.html is None):
            _print(explained, kept)
        else:
            _count(explained, len(pairs), kept)
    finally:  # what an interrupted run has is kept
        if parsed.html is not None and kept:
            from scar_ray.analysis.explain_page import write_page

            print(write_page(kept, parsed.html, Path(parsed.reward_model).name))
    return 0


def _quiet(device: str) -> None:
    """Keeps what the libraries say while they load off the screen. To be called before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, which Transformers imports, looks for a GPU


def _explainer(parsed: argparse.Namespace) -> Explainer:
    from scar_ray.analysis.explain import Explainer

    words: list[str] = []
    overrides: list[str] = []
    for text in parsed.overrides:
        key, equals, value = text.partition("=")
        if key == "credit" and equals:
            words += value.split(",")
        else:
            overrides.append(text)
    return Explainer(
        parsed.reward_model, words or "scar_span", overrides=overrides, device=parsed.device, policy=parsed.policy
    )


def _explanations(explainer: Explainer, pairs: Sequence[Pair]) -> Iterator[list[Explanation]]:
    """The explanations of each row. UserError, naming its line, for a row that cannot be scored."""
    from scar_ray.config.errors import UserError

    for pair in pairs:
        try:
            yield explainer.explain(pair.prompt, pair.response)
        except UserError as error:
            raise UserError(f"{pair.where}: {error}" if pair.where else str(error)) from None


def _written(explained: Iterator[list[Explanation]], out: Path | None) -> Iterator[list[Explanation]]:
    """The same, each response's line in the file before the next one is begun."""
    if out is None:
        yield from explained
        return
    with out.open("w", encoding="utf-8") as file:
        for explanations in explained:
            file.writelines(json.dumps(found.to_json(), ensure_ascii=False) + "\n" for found in explanations)
            file.flush()
            yield explanations


def _print(explained: Iterator[list[Explanation]], kept: list[Sequence[Explanation]]) -> None:
    """Prints each response as it comes; `kept` gets those for the page."""
    from rich.console import Console

    from scar_ray.analysis.terminal import print_explanations

    console = Console(highlight=False)
    for explanations in explained:
        kept += [explanations][: _PAGE_RESPONSES - len(kept)]
        print_explanations(explanations, console)


def _count(explained: Iterator[list[Explanation]], total: int, kept: list[Sequence[Explanation]]) -> None:
    """Shows on standard error how many responses are done; `kept` gets those for the page."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("explain"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as progress:
        for explanations in progress.track(explained, total=total):
            kept += [explanations][: _PAGE_RESPONSES - len(kept)]
