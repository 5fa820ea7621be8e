"""What the reward pool keeps of a step: responses on their way, tasks, and what came out."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from scar_ray.records import CreditPlan, Evaluation
from scar_ray.scoring import Workload, name_of
from scar_ray.workers.errors import ActorFailed
from scar_ray.workers.reward_tasks import Job, Part, TaskSpan


@dataclass(slots=True, eq=False)
class Scoring:
    """A response on its way, and the rows of the step that ask the same of the same response."""

    plan: CreditPlan
    parts: list[Part]
    rows: list[int]
    answers: dict[int, Evaluation] = field(default_factory=dict)
    """By number of the part."""
    asked_tokens: int = 0
    """Of the parts answered."""
    settled: Evaluation | str | None = None
    """What came out: an evaluation, or why there is none."""


@dataclass(slots=True, eq=False)
class Step:
    """One step's responses. A step that was given up keeps what still comes in to itself."""

    expected: int
    work: Workload = field(default_factory=Workload)
    spans: list[TaskSpan] = field(default_factory=list)
    submitted: set[int] = field(default_factory=set)
    known: dict[tuple[object, ...], Scoring] = field(default_factory=dict)
    """Responses with a task of their own, by what is asked."""
    arrived: Counter[int] = field(default_factory=Counter)
    """Rows that are there, by group of neighbours."""
    small: dict[int, list[Scoring]] = field(default_factory=dict)
    """Small responses of groups that are not complete yet."""
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    fatal: ActorFailed | None = None
    """Why nothing can be scored any more."""
    over: bool = False
    """Collected, failed or given up: nobody waits for its tasks any more."""

    @property
    def complete(self) -> bool:
        return len(self.evaluations) + len(self.failures) == self.expected


@dataclass(slots=True, eq=False)
class Task:
    """What an actor is given at a time."""

    step: Step
    items: list[tuple[Scoring, int]]
    """Responses and the number of their part."""
    queued: float = field(default_factory=time.perf_counter)
    lost: int = 0
    """Actors lost while they worked on it."""

    @property
    def jobs(self) -> list[Job]:
        return [scoring.parts[number].job for scoring, number in self.items]

    @property
    def tokens(self) -> int:
        return sum(scoring.parts[number].tokens for scoring, number in self.items)

    def singly(self) -> list[Task]:
        """One task for each of its responses."""
        return [Task(self.step, [item], lost=self.lost) for item in self.items]

    def __str__(self) -> str:
        others = f" and {len(self.items) - 1} more" if len(self.items) > 1 else ""
        return f"{name_of(self.jobs[0][0])}{others}"
