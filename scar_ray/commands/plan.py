"""`scar-ray plan`: how to split GPUs among rollout, learner and reward models, and what a step will take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar_ray.planning.step import Prediction, Workload

_METHODS = "credit=sparse,abc,scar_span,scar_token"
_KEYS = (
    "credit",
    "credit.",
    "algorithm",
    "algorithm.batch.",
    "algorithm.epochs",
    "algorithm.critic.kind",
    "algorithm.critic.init",
    "model.policy.lora",
    "model.policy.lora.",
    "model.reward.append_eos",
    "cluster.learner.micro_batch",
    "cluster.reward.engine",
    "cluster.reward.memory_gib",
    "cluster.rollout.gpu_memory",
)
_CONTEXT = 1024
"""Least context of an engine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", required=True, metavar="M", help="size (1B, 3B, 7B, 8B, 13B, 70B) or model folder")
    parser.add_argument("--reward-model", metavar="M", help="size or model folder (as the policy)")
    parser.add_argument("--gpus", type=int, default=8, metavar="N", help="GPUs in all (8)")
    parser.add_argument("--gpu", default="h100", metavar="G", help="h100, h200, a100, or a device file (h100)")
    parser.add_argument("--prompt-tokens", type=int, required=True, metavar="N", help="tokens of a prompt")
    parser.add_argument("--new-tokens", type=int, required=True, metavar="N", help="tokens of a response")
    parser.add_argument("--splits", type=int, default=3, metavar="N", help="splits shown for each choice (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help=f"{_METHODS}, each compared with the others; credit.budget=128 algorithm.batch.prompts=512",
    )


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.planning.devices import find_device
    from scar_ray.planning.search import best_splits
    from scar_ray.planning.table import as_json, as_text

    _check(parsed)
    device = find_device(parsed.gpu)
    found: dict[str, tuple[Workload, list[Prediction]]] = {}
    for name, work in _workloads(parsed).items():
        found[name] = work, best_splits(work, device, parsed.gpus, parsed.splits)
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        parsed.json.write_text(json.dumps(as_json(device, parsed.gpus, found), indent=1) + "\n", encoding="utf-8")
    print(as_text(work, device, parsed.gpus, found))
    return 0


def _check(parsed: argparse.Namespace) -> None:
    from scar_ray.config.errors import UserError

    for option in ("gpus", "prompt_tokens", "new_tokens", "splits"):
        if getattr(parsed, option) < 1:
            raise UserError(f"--{option.replace('_', '-')}={getattr(parsed, option)}: must be at least 1")
    for text in parsed.overrides:
        key = text.partition("=")[0]
        if key not in _KEYS and not key.startswith(tuple(name for name in _KEYS if name.endswith("."))):
            names = ", ".join(name + "KEY" if name.endswith(".") else name for name in _KEYS)
            raise UserError(f"{key}: has no effect on a plan, which takes {names}; leave it out")


def _workloads(parsed: argparse.Namespace) -> dict[str, Workload]:
    """The workload of each combination of the values given, by the values that differ."""
    from scar_ray.config.errors import UserError
    from scar_ray.config.load import load
    from scar_ray.config.overrides import expand_sweep
    from scar_ray.planning.shapes import model_shape
    from scar_ray.planning.workload import workload

    policy = model_shape("--policy", parsed.policy)
    reward = model_shape("--reward-model", parsed.reward_model) if parsed.reward_model else policy
    overrides = list(parsed.overrides)
    if not any(text.startswith("credit=") for text in overrides):
        overrides.append(_METHODS)
    jobs = expand_sweep(overrides)
    length = parsed.prompt_tokens + parsed.new_tokens
    base = [
        "algorithm=ppo",
        f"task.prompt_tokens_min={parsed.prompt_tokens}",
        f"task.prompt_tokens_max={parsed.prompt_tokens}",
        f"task.sampling.max_new_tokens={parsed.new_tokens}",
        f"cluster.rollout.max_model_len={max(_CONTEXT, length)}",
        "cluster.device=cuda",
        "cluster.learner.zero_stage=1",
        "model.policy.dtype=bfloat16",
        "model.reward.dtype=bfloat16",
    ]
    configs = {_name(job, jobs): load([*base, *job]) for job in jobs}
    if any(config.credit.value == "complete" for config in configs.values()):
        raise UserError(
            "credit.value=complete: the cost model knows no completions; `scar-ray train --dry-run` counts them"
        )
    return {name: workload(config, policy, reward) for name, config in configs.items()}


def _name(job: Sequence[str], jobs: Sequence[Sequence[str]]) -> str:
    """The values of a job that differ between the jobs; of a single job its credit."""
    differing = [text for place, text in enumerate(job) if len({other[place] for other in jobs}) > 1]
    return " ".join(
        text.removeprefix("credit=") for text in differing or job if differing or text.startswith("credit=")
    )
