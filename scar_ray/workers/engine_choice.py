"""Which engine scores the coalitions of a run: measured once, by one reward actor, for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray

from scar_ray.config.arithmetic import typical_job
from scar_ray.config.cluster import EngineName
from scar_ray.config.schema import Config
from scar_ray.workers.errors import ActorFailed, get_all

if TYPE_CHECKING:
    from scar_ray.scoring.measured import Measured

Log = Callable[[str], None]
TOO_LONG = "not measured: a response of full length is too long for the model"


def measured(config: Config, actor: Any, log: Log) -> Config:
    """The configuration with `cluster.reward.engine` pinned to what auto stands for.

    That is the fastest on a response of full length of the engines that suit the model; `actor` measures. What is not
    auto, vLLM and Python functions have nothing to choose.
    """
    pool = config.cluster.reward
    if pool.engine != "auto" or pool.uses_vllm or config.model.reward.function:
        return config
    taken, found = get_all([actor.engine.remote(), actor.measure.remote(*typical_job(config))], ["reward-0"] * 2)
    engine = found.fastest if found else taken
    log(f"reward engine: {engine} ({found or TOO_LONG})")
    return _with_engine(config, engine)


def fastest(config: Config, start: Callable[[Config], tuple[str, Any]], log: Log) -> Config:
    """The configuration with `cluster.reward.engine` pinned to the fastest, vLLM among them.

    `start` gives the name of an actor and the actor, which is ended when it has measured: each kind is alone.
    """
    found = _ask(_with_engine(config, "auto"), start)
    if found is None:
        return _with_engine(config, "auto")
    try:
        other = _ask(_with_engine(config, "vllm"), start)
    except ActorFailed as error:  # vLLM does not serve every model that Transformers does
        log(f"vllm is no choice: {error}")
    else:
        found = found.beside(other) if other else found
    log(f"reward engine: {found.fastest} ({found})")
    return _with_engine(config, found.fastest)


def engine_of(config: Config) -> EngineName | None:
    """The engine that the reward actors are to use; None where they have nothing to choose."""
    engine = config.cluster.reward.engine
    return None if engine in ("auto", "vllm") or config.model.reward.function else engine


def _ask(config: Config, start: Callable[[Config], tuple[str, Any]]) -> Measured | None:
    name, actor = start(config)
    try:
        found: Measured | None = get_all([actor.measure.remote(*typical_job(config))], [name])[0]
    finally:
        ray.kill(actor, no_restart=True)
    return found


def _with_engine(config: Config, engine: str) -> Config:
    reward = config.cluster.reward.model_copy(update={"engine": engine})
    cluster = config.cluster.model_copy(update={"reward": reward})
    return config.model_copy(update={"cluster": cluster})
