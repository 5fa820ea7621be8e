"""Who did what when in a training step, and what the reward pool took: metrics, and a record for the report."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from scar_ray.workers.reward_tasks import TaskSpan

if TYPE_CHECKING:
    from scar_ray.scoring import Workload

LEARNING = ("forward", "update", "sync")
"""Phases in which the learner is at work."""


@dataclass(slots=True)
class Clock:
    """The phases of a step, in seconds of `time.perf_counter`, and when each engine finished its responses."""

    phases: list[tuple[str, float, float]] = field(default_factory=list)
    arrivals: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.phases.append((name, started, time.perf_counter()))

    def arrived(self, engine: str) -> None:
        """An engine has finished a response."""
        self.arrivals[engine].append(time.perf_counter())

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds by phase."""
        return {name: ended - started for name, started, ended in self.phases}


def work_metrics(work: Workload) -> dict[str, float]:
    """What the reward models were asked and computed in a step."""
    return {
        "credit/evaluations": float(work.asked),
        "credit/evaluations_repeated": float(work.repeated),
        "credit/evaluations_unique": float(work.unique),
        "credit/naive_tokens": float(work.asked_tokens),
        "credit/tokens": float(work.tokens),
        "credit/computed_tokens": float(work.computed_tokens),
        "credit/padding_tokens": float(work.padding_tokens),
        "credit/dropped_chars": float(work.dropped_chars),
    }


def pool_metrics(clock: Clock, spans: Sequence[TaskSpan], actors: Sequence[str]) -> dict[str, float]:
    """Busy seconds of each reward actor, waits in the queue, and the share of the work that was hidden.

    pool/overlap_rollout and pool/overlap_forward are the shares of the actors' busy seconds that lie within the
    generation of responses and within the learner's forward pass.
    """
    busy = dict.fromkeys(actors, 0.0)
    for span in spans:
        busy[span.actor] += span.ended - span.started
    total = sum(busy.values())
    metrics = {f"pool/busy_s/{actor}": seconds for actor, seconds in busy.items()}
    waits = [span.started - span.queued for span in spans] or [0.0]
    metrics |= {
        "pool/tasks": float(len(spans)),
        "pool/queue_wait_s": float(np.mean(waits)),
        "pool/queue_wait_max_s": float(np.max(waits)),
    }
    for phase in ("rollout", "forward"):
        hidden = sum(
            max(0.0, min(span.ended, end) - max(span.started, start))
            for name, start, end in clock.phases
            if name == phase
            for span in spans
        )
        metrics[f"pool/overlap_{phase}"] = hidden / total if total else 0.0
    return metrics


def timeline_record(clock: Clock, spans: Sequence[TaskSpan], actors: Sequence[str]) -> dict[str, Any]:
    """One line of timeline.jsonl: a lane for each engine, the learner and each reward actor.

    A span is its start, its end, both in seconds since the step began, and what was done. An engine's span ends with
    its last response; `marks` are the times at which its responses were finished.
    """
    first = clock.phases[0][1]

    def at(when: float) -> float:
        return round(when - first, 4)

    lanes: list[dict[str, Any]] = [
        {
            "name": engine,
            "role": "rollout",
            "spans": [[0.0, at(max(times)), _counted(len(times), "response")]],
            "marks": [at(when) for when in sorted(times)],
        }
        for engine, times in sorted(clock.arrivals.items())
    ]
    learning = [[at(start), at(end), name] for name, start, end in clock.phases if name in LEARNING]
    lanes.append({"name": "learner", "role": "learner", "spans": learning, "marks": []})
    for actor in actors:
        own = sorted((span for span in spans if span.actor == actor), key=lambda span: span.started)
        told = [[at(span.started), at(span.ended), _told(span)] for span in own]
        lanes.append({"name": actor, "role": "reward", "spans": told, "marks": []})
    return {"seconds": at(clock.phases[-1][2]), "lanes": lanes}


def _told(span: TaskSpan) -> str:
    rows = f"row {span.rows[0]}" if len(span.rows) == 1 else f"{len(span.rows)} rows from {min(span.rows)}"
    return f"{rows}, {_counted(span.computed_tokens, 'token')}, waited {span.started - span.queued:.2f} s"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"
