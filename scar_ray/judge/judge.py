"""Has a language model compare two policies, and writes down what it said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scar_ray.judge.cache import Cache, Reply, key_of
from scar_ray.judge.client import Endpoint, NoAnswer, ask_all
from scar_ray.judge.compare import Comparison, Outcome, outcome, plan
from scar_ray.judge.criteria import Criteria, messages, read_verdict
from scar_ray.judge.responses import Answers, check_same_prompts, write_responses
from scar_ray.report.frame import write_whole

ANSWERS, VERDICTS, RESULT = "answers.jsonl", "verdicts.jsonl", "result.json"
"""Files of a judgement: the cache of answers, what each comparison came to, and the outcome."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A language model as a judge."""

    endpoint: Endpoint
    model: str
    criteria: Criteria
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of each request, temperature and max_tokens for instance."""
    both_orders: bool = True
    seed: int = 0

    def request(self, first: Answers, second: Answers, comparison: Comparison) -> dict[str, Any]:
        """The chat completion that asks about one pair in one order."""
        pair = first.rows[comparison.pair], second.rows[comparison.pair]
        shown = pair[::-1] if comparison.swapped else pair
        text = messages(self.criteria, pair[0].prompt, shown[0].response, shown[1].response)
        return {"model": self.model, "messages": text, **self.settings}


def judge(
    by: Judge, first: Answers, second: Answers, out: Path, progress: Callable[[int, int], None]
) -> tuple[Outcome, str]:
    """Compares the responses pair by pair; files in `out`. The outcome, and why requests went unanswered, if any did.

    Answers that `out` has already are not asked for again, so a stopped or failed judgement goes on where it was.
    `progress` is told how many of how many comparisons are answered. UserError for different prompts, or an endpoint
    that will not serve.
    """
    check_same_prompts(first, second)
    comparisons = plan(first, second, both_orders=by.both_orders, seed=by.seed)
    requests = [by.request(first, second, comparison) for comparison in comparisons]
    keys = [key_of({"base_url": by.endpoint.base_url, **request}) for request in requests]
    reasons: list[str] = []
    with Cache(out / ANSWERS) as cache:
        waiting = {key: request for key, request in zip(keys, requests, strict=True) if cache.get(key) is None}
        total = len(set(keys))
        done = total - len(waiting)
        progress(done, total)

        def answered(key: str, reply: Reply | NoAnswer) -> None:
            nonlocal done
            done += 1
            if isinstance(reply, Reply):
                cache.put(key, reply)
            else:
                reasons.append(reply.reason)
            progress(done, total)

        if waiting:
            ask_all(by.endpoint, waiting, answered)
        replies = [cache.get(key) for key in keys]
    found = _outcome(by, first, comparisons, replies)
    _write(out, by, first, second, comparisons, replies, found)
    return found, reasons[0] if reasons else ""


def _outcome(by: Judge, first: Answers, comparisons: Sequence[Comparison], replies: Sequence[Reply | None]) -> Outcome:
    verdicts = [None if reply is None else read_verdict(reply.text) for reply in replies]
    prompts = [row.prompt for row in first.rows]
    return outcome(prompts, comparisons, verdicts, [reply is not None for reply in replies], by.seed)


def _write(
    out: Path,
    by: Judge,
    first: Answers,
    second: Answers,
    comparisons: Sequence[Comparison],
    replies: Sequence[Reply | None],
    found: Outcome,
) -> None:
    records = [
        {
            "prompt": first.rows[comparison.pair].prompt,
            "pair": comparison.pair,
            "shown_first": (second if comparison.swapped else first).name,
            "verdict": None if reply is None else read_verdict(reply.text),
            "answer": None if reply is None else reply.text,
        }
        for comparison, reply in zip(comparisons, replies, strict=True)
    ]
    write_responses(out / VERDICTS, records)
    result = {
        "first": str(first.file),
        "second": str(second.file),
        "base_url": by.endpoint.base_url,
        "model": by.model,
        "settings": dict(by.settings),
        "criteria": by.criteria.name,
        "both_orders": by.both_orders,
        "seed": by.seed,
        **{name: _finite(value) for name, value in asdict(found).items()},
    }
    write_whole(out / RESULT, json.dumps(result, indent=1) + "\n")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
