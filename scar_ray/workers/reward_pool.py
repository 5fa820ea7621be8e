"""The reward pool: actors that each hold a reward model, fed from one queue."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray

from scar_ray.config.cluster import EngineName
from scar_ray.records import CreditPlan, Evaluation, Prompt, Response
from scar_ray.scoring import RewardUnavailable, SampleFailed, Workload, name_of
from scar_ray.workers.errors import ActorFailed, explain
from scar_ray.workers.reward_failures import failed_coalition, located, renumbered, several
from scar_ray.workers.reward_step import Scoring, Step, Task, Turns
from scar_ray.workers.reward_tasks import (
    Job,
    Part,
    TaskSizes,
    TaskSpan,
    cut,
    identity,
    prompt_identity,
    sequence_keys,
)

MAX_ATTEMPTS = 3
"""Actors that may be lost over the same response before it is taken for the cause."""

KILL_S = 30.0
"""Seconds that an actor that hangs gets to end."""

log = logging.getLogger(__name__)


class ActorHangs(ActorFailed):
    """An actor lives and gave no answer in time."""


class RayRewardPool:
    """Scores the responses of a step: one queue of tasks, most expensive first, of which idle actors take the next.

    What is in a task depends on its responses only (`reward_tasks`), so no number depends on the pool's size, on the
    order in which responses finish, or on an actor's death: a lost actor's task goes back to the queue. An actor is
    given one task at a time, so no more than that is in memory besides what the step holds anyway, and nothing waits
    behind a busy actor. Equal responses of a step, and equal coalitions of its responses, are scored once.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        names: Sequence[str],
        sizes: TaskSizes,
        *,
        engine: EngineName | None = None,
        patience_s: float = 600.0,
        timeout_s: float = 1800.0,
    ) -> None:
        """`patience_s` is how long a lost actor may take to come back; it uses `engine` again then.

        One that takes longer than `timeout_s` for a task is ended, and lost like one that ended by itself.
        """
        self._names, self._sizes, self._engine = list(names), sizes, engine
        self._patience_s, self._timeout_s = patience_s, timeout_s
        self._queue: list[tuple[int, int, Task]] = []
        self._numbers = itertools.count()
        self._step = Step(0, Turns((), 0))
        self._lock = threading.RLock()
        self._tasks, self._outcomes = threading.Condition(self._lock), threading.Condition(self._lock)
        self._busy_s = dict.fromkeys(self._names, 0.0)
        self._lost: list[str] = []
        self._failure: ActorFailed | None = None
        self._closed = False
        for actor, name in zip(actors, names, strict=True):
            threading.Thread(target=self._serve, args=(actor, name), daemon=True).start()

    @property
    def work(self) -> Workload:
        """Work of the current step."""
        return self._step.work

    @property
    def spans(self) -> list[TaskSpan]:
        """Who did what in the current step."""
        return self._step.spans

    @property
    def names(self) -> list[str]:
        return self._names

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        """Starts a step of responses to `prompts` and `more` that follow them; what a failed step has left is dropped.

        Raises ActorFailed when all actors are lost.
        """
        count = len(prompts) + more
        turns = Turns([prompt_identity(prompt) for prompt in prompts], count)
        with self._lock:
            self._step.over = True
            self._queue.clear()
            if self._failure is not None:
                raise self._failure
            self._step = Step(count, turns)

    def submit(self, response: Response, plan: CreditPlan) -> None:
        """Queues a response when the earlier rows of its prompt are there; a small one when its neighbours are too."""
        step, row = self._step, response.row
        parts, keys = cut(response, plan, self._sizes), []
        if len(parts) > 1 or prompt_identity(response.prompt) in step.turns.shared:
            keys = sequence_keys(response, plan, self._sizes)
        with self._lock:
            assert 0 <= row < step.expected, (row, step.expected)
            assert row not in step.submitted, row
            step.submitted.add(row)
            step.waiting[row] = Scoring(response, plan, [row], keys, parts)
            for ready in step.turns.arrived(row):
                self._queue_up(step, step.waiting.pop(ready))
                self._queue_neighbours(step, ready // self._sizes.neighbours)

    def results(self) -> dict[int, Evaluation]:
        """Waits for all responses of the step; evaluations by row.

        Raises SampleFailed, when the others are done, for responses that the model cannot score or that end every
        actor; ActorFailed when all actors are lost, or what scores the responses cannot be reached.
        """
        step = self._step
        assert not step.over, "results are collected once"
        assert len(step.submitted) == step.expected, (len(step.submitted), step.expected)
        try:
            with self._lock:
                self._outcomes.wait_for(lambda: step.complete or step.fatal or self._failure)
        finally:
            step.over = True
        fatal = step.fatal or self._failure
        if not step.complete and fatal is not None:
            raise fatal
        if step.failures:
            raise SampleFailed(several(step.failures, step.expected))
        return step.evaluations

    def busy_seconds(self) -> float:
        return sum(self._busy_s.values())

    def close(self) -> None:
        """Ends the pool's threads; to be called before the actors are stopped."""
        with self._lock:
            self._closed = True
            self._tasks.notify_all()

    def _queue_up(self, step: Step, scoring: Scoring) -> None:
        """Queues what nobody in the step has asked for yet; what is small is left to be queued with its neighbours."""
        step.work.asked += scoring.asked
        if not self._is_new(step, scoring):
            return
        sizes, rows_C = self._sizes, step.unknown_rows(scoring)
        if scoring.lent:
            step.work.repeated += len(scoring.lent)
            scoring.parts = cut(scoring.response, scoring.plan, sizes, rows_C)
        if not scoring.parts:
            self._finish(step, scoring)
        elif len(scoring.parts) == 1 and scoring.parts[0].tokens * sizes.neighbours <= sizes.tokens:
            step.small[scoring.rows[0] // sizes.neighbours].append(scoring)
        else:
            for number in range(len(scoring.parts)):
                self._put(Task(step, [(scoring, number)]))

    def _queue_neighbours(self, step: Step, group: int) -> None:
        """Notes that a row of the group had its turn, and queues the small ones when it was the last."""
        step.turned[group] += 1
        size = self._sizes.neighbours
        if step.turned[group] == min(size, step.expected - group * size) and (small := step.small.pop(group, None)):
            self._put(Task(step, [(one, 0) for one in sorted(small, key=lambda one: one.rows[0])]))

    def _is_new(self, step: Step, scoring: Scoring) -> bool:
        """Whether the step has nothing equal; what equals another one gets its answers."""
        first = step.known.setdefault(identity(scoring.response, scoring.plan), scoring)
        if first is scoring:
            return True
        first.rows += scoring.rows
        step.work.repeated += scoring.asked
        if first.settled is not None:
            self._note(step, first, scoring.rows)
        return False

    def _put(self, task: Task) -> None:
        heapq.heappush(self._queue, (-task.tokens, next(self._numbers), task))
        self._tasks.notify()

    def _take(self) -> Task | None:
        """The next task, once there is one; None when the pool is closed."""
        with self._lock:
            while True:
                self._tasks.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return None
                task = heapq.heappop(self._queue)[2]
                if not all(isinstance(scoring.settled, str) for scoring, _ in task.items):
                    return task

    def _serve(self, actor: Any, name: str) -> None:
        while (task := self._take()) is not None:
            started = time.perf_counter()
            try:
                evaluations, work, seconds = self._ask(actor, task.jobs)
            except Exception as error:  # handed over: to another actor, or to the consumer, which raises it
                if self._closed:
                    return
                if not _lost(error):
                    self._refused(task, actor, name, error)
                elif not self._retry(task, actor, name, error):
                    return
            else:
                ended = time.perf_counter()
                rows = tuple(row for scoring, _ in task.items for row in scoring.rows)
                span = TaskSpan(name, task.queued, max(started, ended - seconds), ended, rows, work.computed_tokens)
                self._busy_s[name] += seconds
                self._answered(task, evaluations, work, span)

    def _ask(self, actor: Any, jobs: list[Job]) -> tuple[list[Evaluation], Workload, float]:
        """The actor's answer. ActorHangs when none comes in time: the actor is ended, and Ray starts it again."""
        asked = actor.evaluate.remote(jobs)
        try:
            answer: tuple[list[Evaluation], Workload, float] = ray.get(asked, timeout=self._timeout_s)
        except ray.exceptions.GetTimeoutError:
            ray.kill(actor, no_restart=False)
            with contextlib.suppress(ray.exceptions.RayError):  # until Ray knows of it, it would still be asked
                ray.get(asked, timeout=KILL_S)
            message = f"no answer for {self._timeout_s:g} s, cluster.reward.timeout_s; it is started again"
            raise ActorHangs(message) from None
        return answer

    def _fails(self, actor: Any, part: Part) -> bool:
        """Whether the actor cannot score the part; false also when it is lost, which its next task will find out."""
        try:
            self._ask(actor, [part.job])
        except ray.exceptions.RayTaskError:
            return True
        except (ray.exceptions.RayError, ActorHangs):
            return False
        return False

    def _answered(self, task: Task, evaluations: list[Evaluation], work: Workload, span: TaskSpan) -> None:
        with self._lock:
            task.step.spans.append(span)
            work.asked = work.asked_tokens = 0  # what is asked is counted by response, repeated or not
            task.step.work.add(work)
            for (scoring, number), evaluation in zip(task.items, evaluations, strict=True):
                scoring.answers[number] = evaluation
                self._finish(task.step, scoring)

    def _finish(self, step: Step, scoring: Scoring) -> None:
        """Settles a response when its parts are answered and what it gets from others is there."""
        lenders = scoring.lenders
        if len(scoring.answers) < len(scoring.parts) or any(one.settled is None for one in lenders):
            return
        failed = next((one for one in lenders if isinstance(one.settled, str)), None)
        if failed is None:
            self._settle(step, scoring, scoring.whole())
        else:
            why = f"has coalitions of {name_of(failed.response)}, which could not be scored"
            self._settle(step, scoring, located(scoring.response, None, why))

    def _settle(self, step: Step, scoring: Scoring, outcome: Evaluation | str) -> None:
        """Notes what came out of a response; the first reason counts where several of its parts fail."""
        if scoring.settled is None:
            scoring.settled = outcome
            self._note(step, scoring, scoring.rows)
            for borrower in scoring.borrowers:
                self._finish(step, borrower)

    def _note(self, step: Step, scoring: Scoring, rows: Sequence[int]) -> None:
        """Gives rows what came out of the response, which is theirs or equal to theirs."""
        for row in rows:
            if isinstance(scoring.settled, Evaluation):
                step.evaluations[row] = scoring.settled
                step.work.asked_tokens += scoring.settled.asked_tokens
            else:
                step.failures[row] = str(scoring.settled)
        self._outcomes.notify_all()

    def _refused(self, task: Task, actor: Any, name: str, error: BaseException) -> None:
        """An actor answered with an error: has each response tried alone, and notes which one cannot be scored."""
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if isinstance(cause, RewardUnavailable):
            with self._lock:
                task.step.fatal = ActorFailed(f"{name}: {explain(error)}")
                self._outcomes.notify_all()
        if task.step.over or task.step.fatal:
            return
        if len(task.items) > 1:
            self._again(task.singly())
            return
        scoring, number = task.items[0]
        part = scoring.parts[number]
        if isinstance(cause, SampleFailed):
            reason = renumbered(str(cause), part)
        else:
            coalition = failed_coalition(lambda some: self._fails(actor, some), part)
            reason = located(part.job[0], coalition, f"{name}: {explain(error)}")
        with self._lock:
            self._settle(task.step, scoring, reason)

    def _retry(self, task: Task, actor: Any, name: str, error: BaseException) -> bool:
        """Has a lost actor's task done again, and waits for the actor to come back; false when it does not."""
        task.lost += 1
        reason = explain(error)
        if task.lost < MAX_ATTEMPTS:
            log.warning("%s is lost (%s); its responses are scored again", name, reason)
            # The last try is with each response alone: only the one that ends the actors is given up.
            self._again(task.singly() if task.lost == MAX_ATTEMPTS - 1 else [task])
        else:
            with self._lock:
                for scoring, number in task.items:
                    why = f"{task.lost} reward actors were lost over it, the last one {name}: {reason}"
                    self._settle(task.step, scoring, located(scoring.parts[number].job[0], None, why))
        if self._comes_back(actor):
            return True
        if not self._closed:
            self._lose(f"{name}, the last reward actor, is lost for good: {reason}; it was scoring {task}", name)
        return False

    def _again(self, tasks: Sequence[Task]) -> None:
        with self._lock:
            for task in tasks:
                if not task.step.over:
                    self._put(task)

    def _comes_back(self, actor: Any) -> bool:
        """Waits for Ray to start the actor again; false when its restarts are used up or it takes too long."""
        deadline = time.perf_counter() + self._patience_s
        while (left := deadline - time.perf_counter()) > 0 and not self._closed:
            try:
                ray.get(actor.ready.remote(*([self._engine] if self._engine else [])), timeout=left)
            except ray.exceptions.ActorUnavailableError:
                time.sleep(0.5)
            except ray.exceptions.RayError:
                return False
            else:
                return True
        return False

    def _lose(self, failure: str, name: str) -> None:
        with self._lock:
            self._lost.append(name)
            if len(self._lost) == len(self._names):
                self._failure = ActorFailed(failure)
                self._outcomes.notify_all()
            else:
                log.warning("%s does not come back; the %d others go on", name, len(self._names) - len(self._lost))


def _lost(error: BaseException) -> bool:
    """True when no answer came: the actor, its node or the answer is gone. False when the actor raised."""
    lost = ray.exceptions.RayError, ActorHangs
    return isinstance(error, lost) and not isinstance(error, ray.exceptions.RayTaskError)
