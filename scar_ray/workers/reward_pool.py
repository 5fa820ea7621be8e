"""The reward pool: actors that each hold a reward model, fed from one queue."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from scar_ray.records import CreditPlan, Evaluation, Response
from scar_ray.scoring import SampleFailed, Workload, name_of
from scar_ray.workers.errors import ActorFailed, explain
from scar_ray.workers.reward import Job

MAX_ATTEMPTS = 3
"""Actors that may be lost over the same responses before these are taken for the cause."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Step:
    """One step's responses. A step that was given up keeps what still comes in to itself."""

    expected: int
    work: Workload = field(default_factory=Workload)
    submitted: set[int] = field(default_factory=set)
    groups: dict[int, list[Job]] = field(default_factory=dict)
    """Jobs by task, of tasks that are not complete yet."""
    done: queue.Queue[tuple[list[Job], list[Evaluation]] | Exception] = field(default_factory=queue.Queue)
    over: bool = False
    """Collected, failed or given up: nobody waits for its tasks any more."""


@dataclass(slots=True, eq=False)
class _Task:
    step: _Step
    jobs: list[Job]
    lost: int = 0
    """Actors lost while they worked on it."""

    def __str__(self) -> str:
        others = f" and {len(self.jobs) - 1} more" if len(self.jobs) > 1 else ""
        return f"{name_of(self.jobs[0][0])}{others}"


class RayRewardPool:
    """Shares the responses of a step among the actors.

    Neighbouring rows form a task, so a task's content does not depend on the pool's size, on the order in which
    responses finish, or on an actor's death: a lost actor's task goes back to the queue. One thread for each
    actor takes tasks, so an idle actor takes the next one.
    """

    def __init__(self, actors: Sequence[Any], names: Sequence[str], responses_per_task: int) -> None:
        self._names, self._per_task = list(names), responses_per_task
        self._tasks: queue.Queue[_Task | None] = queue.Queue()
        self._step = _Step(0)
        self._lock = threading.Lock()
        self._busy_s = 0.0
        self._lost: list[str] = []
        self._failure: ActorFailed | None = None
        self._closed = False
        for actor, name in zip(actors, names, strict=True):
            threading.Thread(target=self._serve, args=(actor, name), daemon=True).start()

    @property
    def work(self) -> Workload:
        """Work of the current step."""
        return self._step.work

    def begin(self, count: int) -> None:
        """Starts a step of `count` responses; what a failed step has left is dropped.

        Raises ActorFailed when all actors are lost.
        """
        with self._lock:
            self._step.over = True
            if self._failure is not None:
                raise self._failure
            self._step = _Step(count)

    def submit(self, response: Response, plan: CreditPlan) -> None:
        """Queues a response; its task starts when the neighbouring rows are there too."""
        step, row = self._step, response.row
        assert 0 <= row < step.expected, (row, step.expected)
        assert row not in step.submitted, row
        step.submitted.add(row)
        number = row // self._per_task
        group = step.groups.setdefault(number, [])
        group.append((response, plan))
        if len(group) == min(self._per_task, step.expected - number * self._per_task):
            self._tasks.put(_Task(step, sorted(step.groups.pop(number), key=lambda job: job[0].row)))

    def results(self) -> dict[int, Evaluation]:
        """Waits for all responses of the step; evaluations by row.

        Raises SampleFailed for a response that the model cannot score; ActorFailed when all actors are lost, or
        several over the same responses, or one answers with an error.
        """
        step = self._step
        assert not step.over, "results are collected once"
        assert len(step.submitted) == step.expected, (len(step.submitted), step.expected)
        evaluations: dict[int, Evaluation] = {}
        try:
            while len(evaluations) < step.expected:
                item = step.done.get()
                if isinstance(item, Exception):
                    raise item
                jobs, answers = item
                evaluations |= {response.row: answer for (response, _), answer in zip(jobs, answers, strict=True)}
        finally:
            step.over = True
        return evaluations

    def busy_seconds(self) -> float:
        return self._busy_s

    def close(self) -> None:
        """Ends the pool's threads; to be called before the actors are stopped."""
        self._closed = True
        for _ in self._names:
            self._tasks.put(None)

    def _serve(self, actor: Any, name: str) -> None:
        while (task := self._tasks.get()) is not None:
            if task.step.over:
                continue
            try:
                evaluations, work, seconds = ray.get(actor.evaluate.remote(task.jobs))
            except Exception as error:  # handed over: to another actor, or to the consumer, which raises it
                if self._closed:
                    return
                if not _lost(error):
                    task.step.done.put(_translated(error, name))
                elif not self._retry(task, actor, name, error):
                    return
            else:
                with self._lock:
                    self._busy_s += seconds
                    task.step.work.add(work)
                task.step.done.put((task.jobs, evaluations))

    def _retry(self, task: _Task, actor: Any, name: str, error: BaseException) -> bool:
        """Has a lost actor's task done again, and waits for the actor to come back; false when it does not."""
        task.lost += 1
        reason = explain(error)
        if task.lost < MAX_ATTEMPTS:
            log.warning("%s is lost (%s); its responses are scored again", name, reason)
            self._tasks.put(task)
        else:
            task.step.done.put(ActorFailed(f"{name}: {reason}; {task.lost} actors were lost over {task}"))
        if self._comes_back(actor):
            return True
        self._lose(f"{name}, the last reward actor, is lost for good: {reason}; it was scoring {task}", name)
        return False

    @staticmethod
    def _comes_back(actor: Any) -> bool:
        """Waits for Ray to start the actor again; false when its restarts are used up."""
        while True:
            try:
                ray.get(actor.ready.remote())
            except ray.exceptions.ActorUnavailableError:
                time.sleep(0.5)
            except ray.exceptions.RayError:
                return False
            else:
                return True

    def _lose(self, failure: str, name: str) -> None:
        with self._lock:
            self._lost.append(name)
            if len(self._lost) == len(self._names):
                self._failure = ActorFailed(failure)
                self._step.done.put(self._failure)


def _lost(error: BaseException) -> bool:
    """True when no answer came: the actor, its node or the answer is gone. False when the actor raised."""
    return isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError)


def _translated(error: BaseException, name: str) -> Exception:
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    if isinstance(cause, SampleFailed):
        return SampleFailed(str(cause))
    return ActorFailed(f"{name}: {explain(error)}")
