"""What `scar-ray eval` does: policies measured one after the other on held-out prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.config.load import load, load_resolved
from scar_ray.config.preflight import preflight_evaluation
from scar_ray.config.schema import Config, RewardModelConfig
from scar_ray.judge.responses import RESULTS, write_alpaca, write_responses
from scar_ray.report.frame import write_whole
from scar_ray.run import with_models
from scar_ray.trainer.best import BEST
from scar_ray.trainer.evaluation import Evaluator, Measured, summary

FINAL = "policy"
"""Folder of the last policy in a run folder."""


@dataclass(frozen=True, slots=True)
class Target:
    """A policy to be measured, and how."""

    name: str
    policy: str
    config: Config
    """Its `model.policy.path` is the reference that the KL is measured against."""


def target(path: Path, overrides: Sequence[str], config_dir: Path | None, *, best: bool) -> Target:
    """A run folder's last policy, or its best one; else `path` is the folder of a policy, or its name on the hub.

    A run, and a policy that lies in a run folder, goes by the run's configuration with `overrides` on top. UserError
    for what cannot be measured.
    """
    run = next((folder for folder in (path, path.parent) if (folder / "run.json").is_file()), None)
    if run is None:
        config, policy, name = load(overrides, config_dir), str(path), path.name
    else:
        config = load_resolved(run / "config.json", overrides, fixed=())
        policy_folder = path if run != path else run / (BEST if best else FINAL)
        policy, name = str(policy_folder), run.name
        if policy_folder.name != FINAL:
            name = f"{run.name}-{policy_folder.name}"
        if not policy_folder.is_dir():
            hint = f"continue it with --resume {run}" if policy_folder.name == FINAL else "it has had no evaluation"
            raise UserError(f"{run}: has no {policy_folder.name} folder yet; {hint}")
    # A run that measured nothing while it trained is measured now.
    every = max(1, config.eval.every)
    return Target(name, policy, config.model_copy(update={"eval": config.eval.model_copy(update={"every": every})}))


def evaluate(targets: Sequence[Target], out: Path, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measures all targets; the results as rows, in `out` as JSON with all responses beside them.

    UserError for two policies of one name, a folder that is not empty, or models and data that are not there.
    """
    names = [one.name for one in targets]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{twice}: two policies have this name; give folders with different names")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out={out}: exists already; give a new folder")
    for one in targets:
        preflight_evaluation(one.config, one.policy)
    targets = [replace(one, config=with_models(one.config)) for one in targets]
    from scar_ray.workers.environment import show_token

    show_token()
    from scar_ray.workers import cluster

    rows = []
    with cluster.session(targets[0].config.cluster):
        for one in targets:
            log(f"{one.name}: starting engines and models")
            measured = _measure(one, log)
            rows.append(_row(one, measured))
            _write(one, measured, out)
            write_whole(out / RESULTS, json.dumps(rows, indent=1) + "\n")
    return rows


def _measure(one: Target, log: Callable[[str], None]) -> list[Measured]:
    from transformers import AutoTokenizer

    from scar_ray.tasks.prompts import load_held_out
    from scar_ray.workers import evaluation

    tokenizer = AutoTokenizer.from_pretrained(one.policy, trust_remote_code=one.config.model.trust_remote_code)
    prompts = load_held_out(one.config, tokenizer)
    actors = evaluation.start(one.config, one.policy, log)
    try:
        return Evaluator(one.config, prompts, actors.rollout, actors.reward, actors.learner).evaluate(version=0)
    finally:
        actors.stop()


def _row(one: Target, measured: Sequence[Measured]) -> dict[str, Any]:
    config = one.config
    sampling = config.eval.sampling(config.task.sampling)
    measures = {name: value if math.isfinite(value) else None for name, value in summary(measured).items()}
    return {
        "name": one.name,
        "policy": one.policy,
        "task": config.task.name,
        "reference": config.model.policy.path,
        "reward_model": _source(config.model.reward),
        "gold_model": None if config.eval.gold is None else _source(config.eval.gold),
        "prompts": len({each.prompt_index for each in measured}),
        "samples": config.eval.samples,
        "seed": config.eval.seed,
        "sampling": sampling.model_dump(),
        **measures,
    }


def _source(reward: RewardModelConfig) -> str:
    return reward.path or reward.function


def _write(one: Target, measured: Sequence[Measured], out: Path) -> None:
    records = [each.to_json() for each in measured]
    write_responses(out / f"{one.name}.jsonl", records)
    write_alpaca(out / f"{one.name}.alpaca.json", records, one.name, one.config.task.name)
