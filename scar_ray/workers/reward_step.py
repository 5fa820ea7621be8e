"""What the reward pool keeps of a step: responses on their way, tasks, and what came out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from scar_ray.records import CreditPlan, Evaluation, Response
from scar_ray.scoring import Workload, name_of
from scar_ray.workers.errors import ActorFailed
from scar_ray.workers.reward_tasks import Job, Part, TaskSpan


@dataclass(slots=True, eq=False)
class Scoring:
    """A response on its way, and the rows of the step that ask the same of the same response."""

    response: Response
    plan: CreditPlan
    parts: list[Part]
    rows: list[int]
    answers: dict[int, Evaluation] = field(default_factory=dict)
    """By number of the part."""
    asked_tokens: int = 0
    """Of the parts answered."""
    settled: Evaluation | str | None = None
    """What came out: an evaluation, or why there is none."""

    @property
    def asked(self) -> int:
        """Sequences that are asked for: the response and its coalitions."""
        return 1 + (self.plan.game.n_coalitions if self.plan.game is not None else 0)


class Neighbours:
    """When neighbouring rows can be scored together: they are there, and so are the earlier rows that they may repeat.

    Rows of other prompts have other sequences. A group waits for the last one before it that shares a prompt with it,
    so what it repeats is known by then whoever finishes first; where all prompts differ nothing waits.
    """

    def __init__(self, prompts: Sequence[Hashable], rows: int, size: int) -> None:
        """Groups of `size` of the `rows`; those of `prompts` come first, the others when all of them are there."""
        self._size, self._prompts, self._here = size, len(prompts), 0
        self._missing = Counter(row // size for row in range(rows))
        self._waiting: dict[int, list[int]] = defaultdict(list)
        """Later groups that wait for a group."""
        latest: dict[Hashable, int] = {}
        for row, prompt in enumerate(prompts):
            group = row // size
            before = latest.get(prompt, group)
            latest[prompt] = group
            if before != group:
                self._waiting[before].append(group)
                self._missing[group] += 1

    def arrived(self, row: int) -> list[int]:
        """The groups that can be scored now that this row is there, in their order."""
        assert row < self._prompts or self._here >= self._prompts, row
        self._here += 1
        ready, less = [], deque([row // self._size])
        while less:
            group = less.popleft()
            self._missing[group] -= 1
            if self._missing[group] == 0:
                ready.append(group)
                less += self._waiting[group]
        return ready


@dataclass(slots=True, eq=False)
class Step:
    """One step's responses. A step that was given up keeps what still comes in to itself."""

    expected: int
    neighbours: Neighbours
    work: Workload = field(default_factory=Workload)
    spans: list[TaskSpan] = field(default_factory=list)
    submitted: set[int] = field(default_factory=set)
    known: dict[tuple[object, ...], Scoring] = field(default_factory=dict)
    """Responses that are scored, by what is asked."""
    small: dict[int, list[Scoring]] = field(default_factory=lambda: defaultdict(list))
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
