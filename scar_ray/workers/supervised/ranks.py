"""Supervised training on several ranks: Ray actors that all train together, and what the first one tells meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import ray

from scar_ray.config.errors import UserError
from scar_ray.config.placement import alone, placement
from scar_ray.config.schema import Config, SupervisedCommand
from scar_ray.workers import deepspeed_engine as ds
from scar_ray.workers.cluster import Starter, bundle_order, end, reserve, session, wait_ready
from scar_ray.workers.environment import importing, learner_env
from scar_ray.workers.errors import ActorFailed, explain
from scar_ray.workers.supervised import train
from scar_ray.workers.supervised.folder import Halted, Log

News = tuple[Any, ...]
"""Something to show: its kind, and what belongs to it."""

NEWS_S = 0.5
"""Seconds between questions for news."""


class RankLog(Log, Protocol):
    """What a rank writes down, in the rank's process."""

    def ask_to_stop(self) -> None:
        """Has the training stopped after its present step."""
        ...

    def news(self) -> list[News]:
        """What there is to show since the last call."""
        ...


class NewLog(Protocol):
    """Makes a rank's log in the rank's process."""

    def __call__(self, *, tells: bool) -> RankLog:
        """Only the first rank `tells` and writes."""
        ...


class SupervisedRank:
    """One rank of a training, in a Ray actor; `train` runs on all of them together, beside the other methods."""

    def __init__(
        self,
        rank: int,
        config: Config,
        command: SupervisedCommand,
        folder: Path,
        new_log: NewLog,
        address: tuple[str, int],
    ) -> None:
        with importing():
            import deepspeed  # noqa: F401  (for deepspeed_engine)
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401  (for the models)

        learner, device = config.cluster.learner, config.cluster.device
        if device == "cpu":
            torch.set_num_threads(config.cluster.threads_per_actor)
        ds.open_group(rank, learner.ranks, address, device, learner.timeout_s)
        self._config, self._command, self._folder = config, command, folder
        self._log = new_log(tells=rank == 0)

    def ready(self) -> None:
        """Returns when all ranks have met."""

    def train(self) -> int | None:
        """Trains the model and writes it to the folder; the step after which it was stopped, if it was."""
        try:
            train(self._config, self._command, self._folder, self._log)
        except Halted as halted:
            return int(halted.args[0])
        return None

    def news(self) -> list[News]:
        return self._log.news()

    def stop(self) -> None:
        self._log.ask_to_stop()


def train_on_ranks(
    config: Config,
    command: SupervisedCommand,
    folder: Path,
    new_log: NewLog,
    hear: Callable[[News], None],
    stopping: Callable[[], bool],
) -> None:
    """Trains a model on `cluster.learner.ranks` actors into a folder that all of them see.

    `hear` gets the first rank's news as they come, `stopping` says whether the user wants to stop. UserError for what
    the user can put right, Halted after the checkpoint that a stop asks for, ActorFailed when a rank fails.
    """

    def say(text: str) -> None:
        hear(("line", text))

    plan = alone(placement(config.cluster), "learner")
    with session(config.cluster):
        group = reserve(plan, config.cluster, say)
        starter, (role,) = Starter(config, group, bundle_order(plan, group)), plan.roles
        handles: dict[str, Any] = {}
        try:
            address = starter.address(role)
            for rank in range(role.actors):
                options = starter.options(role, rank, learner_env(config.cluster), max_concurrency=2)
                actor = ray.remote(SupervisedRank).options(**options)
                handles[f"learner-{rank}"] = actor.remote(rank, config, command, folder, new_log, address)
            wait_ready(handles)
            _follow(handles, hear, stopping)
        finally:
            end(handles.values(), group)


def _follow(handles: dict[str, Any], hear: Callable[[News], None], stopping: Callable[[], bool]) -> None:
    """Waits until all ranks have trained to the end, or to the step where they were stopped: Halted then."""
    running = {actor.train.remote(): name for name, actor in handles.items()}
    first, asked, halted = next(iter(handles.values())), False, None
    while running:
        done, _ = ray.wait(list(running), num_returns=1, timeout=NEWS_S)
        if stopping() and not asked:
            asked = True
            ray.get([actor.stop.remote() for actor in handles.values()])
        for piece in _answer(first.news.remote(), "learner-0"):
            hear(piece)
        for ref in done:
            halted = _answer(ref, running.pop(ref))
    if halted is not None:
        raise Halted(halted)


def _answer(ref: Any, name: str) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if isinstance(cause, UserError):
            raise cause from None
        raise ActorFailed(f"{name}: {explain(error)}") from error
