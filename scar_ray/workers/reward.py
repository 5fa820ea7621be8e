"""The reward pool: actors that each hold a reward model, fed from one queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from scar_ray.config.schema import RewardModelConfig
from scar_ray.records import CreditPlan, Evaluation, Response
from scar_ray.workers.errors import ActorFailed, SampleFailed, died, explain
from scar_ray.workers.reward_model import RewardModel, Workload

Job = tuple[Response, CreditPlan]


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """What a reward actor is started with."""

    model: RewardModelConfig
    policy_tokenizer: str
    device: str
    batch_tokens: int
    attention: bool
    trust_remote_code: bool
    threads: int


class RewardWorker:
    """One reward model in an actor of its own."""

    def __init__(self, name: str, options: RewardOptions) -> None:
        import torch

        if options.device == "cpu":
            torch.set_num_threads(options.threads)
        self._name = name
        self._model = RewardModel(
            options.model,
            policy_tokenizer=options.policy_tokenizer,
            device=options.device,
            batch_tokens=options.batch_tokens,
            attention=options.attention,
            trust_remote_code=options.trust_remote_code,
        )

    def ready(self) -> str:
        """Returns the actor's name once the model has loaded."""
        return self._name

    def evaluate(self, jobs: list[Job]) -> tuple[list[Evaluation], Workload, float]:
        """Evaluations of the jobs, what they took, and the seconds spent."""
        started = time.perf_counter()
        evaluations, work = self._model.evaluate(jobs)
        return evaluations, work, time.perf_counter() - started


class RayRewardPool:
    """Shares the responses of a step among the actors.

    Neighbouring rows form a task, so a task's content does not depend on the pool's size, on the order in which
    responses finish, or on an actor's death: a lost actor's task goes back to the queue. One thread for each
    actor takes tasks, so an idle actor takes the next one.
    """

    def __init__(self, actors: Sequence[Any], names: Sequence[str], responses_per_task: int) -> None:
        self._actors, self._names, self._per_task = list(actors), list(names), responses_per_task
        self._tasks: queue.Queue[list[Job]] = queue.Queue()
        self._done: queue.Queue[tuple[list[Job], list[Evaluation]] | Exception] = queue.Queue()
        self._groups: dict[int, list[Job]] = {}
        self._expected = 0
        self._lock = threading.Lock()
        self._busy_s = 0.0
        self._alive = len(self._actors)
        self.work = Workload()
        """Work of the current step."""
        for actor, name in zip(self._actors, self._names, strict=True):
            threading.Thread(target=self._serve, args=(actor, name), daemon=True).start()

    def begin(self, count: int) -> None:
        """Starts a step of `count` responses."""
        assert self._expected == 0 and not self._groups, "the previous step was not collected"
        self._expected, self.work = count, Workload()

    def submit(self, response: Response, plan: CreditPlan) -> None:
        """Queues a response; its task starts when the neighbouring rows are there too."""
        task = response.row // self._per_task
        group = self._groups.setdefault(task, [])
        group.append((response, plan))
        if len(group) == min(self._per_task, self._expected - task * self._per_task):
            self._tasks.put(sorted(self._groups.pop(task), key=lambda job: job[0].row))

    def results(self) -> dict[int, Evaluation]:
        """Waits for all responses of the step; evaluations by row.

        Raises SampleFailed for a response that the model cannot score, ActorFailed when all actors are lost.
        """
        evaluations: dict[int, Evaluation] = {}
        while len(evaluations) < self._expected:
            item = self._done.get()
            if isinstance(item, Exception):
                raise item
            jobs, answers = item
            evaluations |= {response.row: answer for (response, _), answer in zip(jobs, answers, strict=True)}
        self._expected = 0
        return evaluations

    def busy_seconds(self) -> float:
        return self._busy_s

    def _serve(self, actor: Any, name: str) -> None:
        while True:
            jobs = self._tasks.get()
            try:
                evaluations, work, seconds = ray.get(actor.evaluate.remote(jobs))
            except Exception as error:  # handed over: to another actor, or to the consumer, which raises it
                if not died(error):
                    self._done.put(_translated(error, name))
                    continue
                self._tasks.put(jobs)
                if not self._comes_back(actor):
                    self._lose(name, error)
                    return
            else:
                with self._lock:
                    self._busy_s += seconds
                    for key in ("asked", "unique", "tokens", "padded_tokens"):
                        setattr(self.work, key, getattr(self.work, key) + getattr(work, key))
                self._done.put((jobs, evaluations))

    @staticmethod
    def _comes_back(actor: Any) -> bool:
        """Waits for Ray to start the actor again; false when its restarts are used up."""
        while True:
            try:
                ray.get(actor.ready.remote())
            except ray.exceptions.ActorUnavailableError:
                time.sleep(0.5)
            except ray.exceptions.RayActorError:
                return False
            else:
                return True

    def _lose(self, name: str, error: BaseException) -> None:
        with self._lock:
            self._alive -= 1
            if self._alive == 0:
                self._done.put(ActorFailed(f"{name}, the last reward actor, is lost: {explain(error)}"))


def _translated(error: BaseException, name: str) -> Exception:
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    if isinstance(cause, SampleFailed):
        return SampleFailed(str(cause))
    return ActorFailed(f"{name}: {explain(error)}")
