"""Supervised training on several ranks: Ray actors that all train together, and what the first one tells meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import ray
from ray.util.placement_group import remove_placement_group

from scar_ray.config.errors import UserError
from scar_ray.config.placement import alone, placement
from scar_ray.config.schema import Config
from scar_ray.workers import deepspeed_engine as ds
from scar_ray.workers.cluster import Starter, bundle_order, reserve, session, wait_ready
from scar_ray.workers.environment import actor_env
from scar_ray.workers.errors import ActorFailed, explain
from scar_ray.workers.supervised.folder import Log

Command = Literal["sft", "rm"]
News = tuple[Any, ...]
"""Something to show: its kind, and what belongs to it."""

NEWS_S = 0.5
"""Seconds between questions for news."""


class Halted(Exception):
    """The training has stopped, as the user asked, after its checkpoint was written."""


class RankLog(Log, Protocol):
    """What a rank writes down, in the rank's process."""

    def ask_to_stop(self) -> None:
        """Has the training stopped after its present step."""
        ...

    def news(self) -> list[News]:
        """What there is to show since the last call."""
        ...


class SupervisedRank:
    """One rank of a training, in a Ray actor; `train` runs on all of them together, beside the other methods."""

    def __init__(
        self, rank: int, config: Config, command: Command, folder: Path, log: RankLog, address: tuple[str, int]
    ) -> None:
        import torch

        learner, device = config.cluster.learner, config.cluster.device
        if device == "cpu":
            torch.set_num_threads(config.cluster.threads_per_actor)
        ds.open_group(rank, learner.ranks, address, device, learner.timeout_s)
        self._config, self._command, self._folder, self._log = config, command, folder, log

    def ready(self) -> None:
        """Returns when all ranks have met."""

    def train(self) -> bool:
        """Trains the model and writes it to the folder; False where it was stopped before."""
        from scar_ray.workers.supervised.lm import sft
        from scar_ray.workers.supervised.reward import rm

        try:
            (sft if self._command == "sft" else rm)(self._config, self._folder, self._log)
        except Halted:
            return False
        return True

    def news(self) -> list[News]:
        return self._log.news()

    def stop(self) -> None:
        self._log.ask_to_stop()


def train_on_ranks(
    config: Config,
    command: Command,
    folder: Path,
    log_of: Callable[[int], RankLog],
    hear: Callable[[News], None],
    stopping: Callable[[], bool],
) -> bool:
    """Trains a model on `cluster.learner.ranks` actors into a folder that all of them see; False when it was stopped.

    `hear` gets the first rank's news as they come, `stopping` says whether the user wants to stop. UserError for what
    the user can put right, ActorFailed when a rank fails.
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
                options = starter.options(role, rank, actor_env(config.cluster), max_concurrency=2)
                actor = ray.remote(SupervisedRank).options(**options)
                handles[f"learner-{rank}"] = actor.remote(rank, config, command, folder, log_of(rank), address)
            wait_ready(handles)
            return _follow(handles, hear, stopping)
        finally:
            for handle in handles.values():
                ray.kill(handle, no_restart=True)
            remove_placement_group(group)


def _follow(handles: dict[str, Any], hear: Callable[[News], None], stopping: Callable[[], bool]) -> bool:
    """Waits for all ranks; whether they trained to the end."""
    running = {actor.train.remote(): name for name, actor in handles.items()}
    first, asked, finished = next(iter(handles.values())), False, True
    while running:
        done, _ = ray.wait(list(running), num_returns=1, timeout=NEWS_S)
        if stopping() and not asked:
            asked = True
            ray.get([actor.stop.remote() for actor in handles.values()])
        for piece in _answer(first.news.remote(), "learner-0"):
            hear(piece)
        for ref in done:
            finished &= _answer(ref, running.pop(ref))
    return finished


def _answer(ref: Any, name: str) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if isinstance(cause, UserError):
            raise cause from None
        raise ActorFailed(f"{name}: {explain(error)}") from error
