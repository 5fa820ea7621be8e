"""`scar-ray judge`: which of two runs a language model prefers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from scar_ray.judge.client import Endpoint
    from scar_ray.judge.compare import Outcome
    from scar_ray.judge.responses import Answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("first", type=Path, metavar="A", help="run folder, or a file of responses that scar-ray eval wrote")
    add("second", type=Path, metavar="B", help="the other one, on the same prompts")
    add("--base-url", required=True, metavar="URL", help="OpenAI-compatible endpoint: http://127.0.0.1:8000/v1")
    add("--model", required=True, metavar="M", help="name of the model at the endpoint")
    add("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with the key")
    add("--criteria", metavar="C", help="summary, assistant, review, or a file of your own (default: the task's)")
    add("--out", type=Path, metavar="DIR", help="default: judge/A-vs-B; what it holds is not asked for again")
    add("--once", action="store_true", help="each pair in one random order; default: in both, at twice the price")
    add("--limit", type=int, metavar="N", help="only the first N prompts")
    add("--concurrency", type=int, default=8, metavar="N", help="requests at the same time (8)")
    add("--rate", type=float, metavar="N", help="most requests a minute")
    add("--timeout", type=float, default=120.0, metavar="S", help="seconds of silence that end an attempt (120)")
    add("--retries", type=int, default=5, metavar="N", help="further attempts, each after twice the wait (5)")
    add("--temperature", default="0", metavar="T", help="of the judge (0); none: the endpoint's")
    add("--max-tokens", type=int, default=1024, metavar="N", help="of an answer (1024); 0: the endpoint's limit")
    add("--extra", default="{}", metavar="JSON", help="further keys of every request")
    add("--seed", type=int, default=0, metavar="N", help="of the order and of the bootstrap")


def run(parsed: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from scar_ray.config.errors import UserError
    from scar_ray.judge.criteria import choose_criteria
    from scar_ray.judge.judge import Judge, judge

    endpoint, settings = _endpoint(parsed), _settings(parsed)
    first, second = _answers(parsed)
    if first.task and second.task and first.task != second.task:
        raise UserError(
            f"{first.name} is of task {first.task}, {second.name} of task {second.task}: give two of one task"
        )
    criteria = choose_criteria(parsed.criteria, first.task or second.task)
    out = parsed.out or Path("judge") / f"{first.name}-vs-{second.name}"
    by = Judge(endpoint, parsed.model, criteria, settings, both_orders=not parsed.once, seed=parsed.seed)
    console = Console(stderr=True)
    columns = (TextColumn("judge"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as progress:
        bar = progress.add_task("judge", total=None)
        found, reason = judge(
            by, first, second, out, lambda done, total: progress.update(bar, completed=done, total=total)
        )
    print(f"{first.name} against {second.name}, judged by {parsed.model} on {found.pairs} pairs ({criteria.name})")
    print(as_text(found, first.name))
    print(out / "result.json")
    if found.unanswered:
        print(
            f"scar-ray: {found.unanswered} pairs without an answer ({reason}); the same command asks for the rest",
            file=sys.stderr,
        )
    return 1 if found.unanswered else 0


def as_text(found: Outcome, name: str) -> str:
    """The outcome in a few lines; `name` is the first policy's."""
    lines = [
        f"win rate of {name}: {_percent(found.win_rate)} "
        f"(95 % interval {_percent(found.low)} to {_percent(found.high)})",
        f"won {found.wins}, tied {found.ties} (of these {found.identical} equal responses), lost {found.losses}",
        f"left out: {found.unparsed} without a readable verdict, {found.unanswered} without an answer",
        f"shown first and preferred: {_percent(found.first_shown)} of the verdicts that are no ties",
    ]
    if found.agreement == found.agreement:  # both orders were asked for
        lines.append(f"the same verdict in both orders: {_percent(found.agreement)} of the pairs")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f} %"


def _answers(parsed: argparse.Namespace) -> tuple[Answers, Answers]:
    from dataclasses import replace

    from scar_ray.judge.responses import read_answers

    first, second = read_answers(parsed.first), read_answers(parsed.second)
    if first.name == second.name:
        first, second = replace(first, name=f"{first.name}-a"), replace(second, name=f"{second.name}-b")
    if parsed.limit is not None:
        first, second = (replace(answers, rows=answers.rows[: parsed.limit]) for answers in (first, second))
    return first, second


def _endpoint(parsed: argparse.Namespace) -> Endpoint:
    from scar_ray.config.errors import UserError
    from scar_ray.judge.client import Endpoint

    parts = urlsplit(parsed.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--base-url={parsed.base_url}: must be a URL such as http://127.0.0.1:8000/v1")
    for option, least in (("limit", 1), ("concurrency", 1), ("retries", 0), ("max_tokens", 0)):
        value = getattr(parsed, option)
        if value is not None and value < least:
            raise UserError(f"--{option.replace('_', '-')}={value}: must be at least {least}")
    for option in ("rate", "timeout"):
        value = getattr(parsed, option)
        if value is not None and not value > 0:
            raise UserError(f"--{option}={value:g}: must be above 0")
    key = os.environ.get(parsed.key_env, "")
    if not key and not _is_loopback(parts.hostname):
        raise UserError(
            f"--base-url={parsed.base_url}: needs a key, and the environment variable {parsed.key_env} is not set; "
            "set it, or name another one with --key-env"
        )
    return Endpoint(
        parsed.base_url.rstrip("/"),
        key or "none",
        concurrency=parsed.concurrency,
        per_minute=parsed.rate,
        timeout_s=parsed.timeout,
        retries=parsed.retries,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """Keys of every request besides model and messages."""
    from scar_ray.config.errors import UserError

    settings: dict[str, Any] = {}
    if parsed.temperature != "none":
        try:
            settings["temperature"] = float(parsed.temperature)
        except ValueError:
            raise UserError(f"--temperature={parsed.temperature}: must be a number or none") from None
    if parsed.max_tokens:
        settings["max_tokens"] = parsed.max_tokens
    try:
        extra = json.loads(parsed.extra)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise UserError(f'--extra={parsed.extra}: must be a JSON object, such as \'{{"reasoning_effort": "low"}}\'')
    return settings | ({"extra_body": extra} if extra else {})
