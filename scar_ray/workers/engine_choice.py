"""Which engine scores the coalitions of a run: measured once, by one reward actor, for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scar_ray.config.arithmetic import typical_job
from scar_ray.config.schema import Config
from scar_ray.workers.errors import get_all


def measured(config: Config, actor: Any, log: Callable[[str], None]) -> Config:
    """The configuration with `cluster.reward.engine` pinned to what auto stands for.

    That is the fastest on a response of full length of the engines that suit the model; `actor` measures. What is not
    auto, vLLM and Python functions have nothing to choose.
    """
    pool = config.cluster.reward
    if pool.engine != "auto" or pool.uses_vllm or config.model.reward.function:
        return config
    taken, found = get_all([actor.engine.remote(), actor.measure.remote(*typical_job(config))], ["reward-0"] * 2)
    engine = found.fastest if found else taken
    log(f"reward engine: {engine} ({found or 'not measured: a response of full length is too long for the model'})")
    reward = pool.model_copy(update={"engine": engine})
    cluster = config.cluster.model_copy(update={"reward": reward})
    return config.model_copy(update={"cluster": cluster})
