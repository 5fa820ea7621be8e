"""What the reward pool keeps of a step: responses on their way, tasks, and what came out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from scar_ray.records import CreditPlan, Evaluation, Response
from scar_ray.scoring import Workload, name_of
from scar_ray.workers.errors import ActorFailed
from scar_ray.workers.reward_tasks import Job, Part, TaskSpan, joined, prompt_identity


@dataclass(slots=True, eq=False)
class Scoring:
    """A response on its way, and the rows of the step that ask the same of the same response."""

    response: Response
    plan: CreditPlan
    rows: list[int]
    keys: list[Hashable]
    """Of each coalition, where another response or another part of this one may ask for the same."""
    parts: list[Part]
    answers: dict[int, Evaluation] = field(default_factory=dict)
    """By number of the part."""
    lent: dict[int, tuple[Scoring, int]] = field(default_factory=dict)
    """Coalitions that are not asked for again: row of the plan, and who asks for it in which row of its own."""
    borrowers: list[Scoring] = field(default_factory=list)
    """Later ones that get values from this one."""
    settled: Evaluation | str | None = None
    """What came out: an evaluation, or why there is none."""

    @property
    def asked(self) -> int:
        """Sequences that are asked for: the response and its coalitions."""
        return 1 + (self.plan.game.n_coalitions if self.plan.game is not None else 0)

    @property
    def lenders(self) -> list[Scoring]:
        return list({id(one): one for one, _ in self.lent.values() if one is not self}.values())

    def whole(self) -> Evaluation:
        """The evaluation, once all parts are answered and all lenders have theirs."""
        found = joined(self.plan, self.parts, [self.answers[number] for number in range(len(self.parts))])
        if not self.lent:
            return found
        assert found.values_C is not None
        assert found.lengths_C is not None
        for row, (lender, at) in self.lent.items():
            other = found if lender is self else lender.settled
            assert isinstance(other, Evaluation)
            assert other.values_C is not None
            assert other.lengths_C is not None
            found.values_C[row], found.lengths_C[row] = other.values_C[at], other.lengths_C[at]
        scored = any(part.job[1].scored for part in self.parts)
        length = int(found.lengths_C[1])  # of the full coalition, whose sequence is that of the score
        borrowed = sum(int(found.lengths_C[row]) for row in self.lent) + (0 if scored else length)
        score = found.score if scored else float(found.values_C[1])
        return replace(found, score=score, asked_tokens=found.asked_tokens + borrowed)


class Turns:
    """When rows can be looked at: they are there, and so are the earlier rows of the same prompt.

    What a row has in common with those is known by then, whoever finishes first; rows of other prompts have other
    sequences.
    """

    def __init__(self, prompts: Sequence[Hashable], rows: int) -> None:
        """Of the `rows` those of `prompts` come first, the others when all of them are there."""
        self._missing = np.ones(rows, dtype=np.int64)
        self._next: dict[int, int] = {}
        self._first, self._here = len(prompts), 0
        counts = Counter(prompts)
        several = rows > len(prompts)
        self.shared = {prompt for prompt, count in counts.items() if several or count > 1}
        """Prompts of which several rows have, or may have, a response."""
        latest: dict[Hashable, int] = {}
        for row, prompt in enumerate(prompts):
            if prompt in latest:
                self._next[latest[prompt]] = row
                self._missing[row] += 1
            latest[prompt] = row

    def arrived(self, row: int) -> list[int]:
        """The rows whose turn it is now that this one is there, in their order."""
        assert row < self._first or self._here >= self._first, row
        self._here += 1
        ready: list[int] = []
        following: int | None = row
        while following is not None:
            self._missing[following] -= 1
            if self._missing[following]:
                break
            ready.append(following)
            following = self._next.get(following)
        return ready


@dataclass(slots=True, eq=False)
class Step:
    """One step's responses. A step that was given up keeps what still comes in to itself."""

    expected: int
    turns: Turns
    work: Workload = field(default_factory=Workload)
    spans: list[TaskSpan] = field(default_factory=list)
    submitted: set[int] = field(default_factory=set)
    waiting: dict[int, Scoring] = field(default_factory=dict)
    """Rows that wait for their turn."""
    turned: Counter[int] = field(default_factory=Counter)
    """Rows of each group of neighbours that had their turn."""
    known: dict[tuple[object, ...], Scoring] = field(default_factory=dict)
    """Responses that are scored, by what is asked."""
    sequences: dict[Hashable, dict[Hashable, tuple[Scoring, int]]] = field(default_factory=lambda: defaultdict(dict))
    """By prompt and key of a sequence: who asks for it, in which row of its plan."""
    small: dict[int, list[Scoring]] = field(default_factory=lambda: defaultdict(list))
    """Small responses of groups that are not complete yet."""
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    fatal: ActorFailed | None = None
    """Why nothing can be scored any more."""
    over: bool = False
    """Collected, failed or given up: nobody waits for its tasks any more."""

    def unknown_rows(self, scoring: Scoring) -> NDArray[np.intp]:
        """Rows of the plan, by their keys, that nobody asks for yet; for the others the response is made a borrower."""
        keys = scoring.keys
        if keys:
            known = self.sequences[prompt_identity(scoring.response.prompt)]
            for row, key in enumerate(keys):
                mine = scoring, row
                if (lender := known.setdefault(key, mine)) is not mine:
                    scoring.lent[row] = lender
            for lending in scoring.lenders:
                lending.borrowers.append(scoring)
        return np.array([row for row in range(len(keys)) if row not in scoring.lent], dtype=np.intp)

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
