"""Checks of this machine before anything heavy is imported or started: models, data, disk, packages."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from scar_ray.config.errors import UserError
from scar_ray.config.model_folder import ModelFolder, is_local, read_model_folder, same_tokenizer
from scar_ray.config.schema import Config, Part, RewardModelConfig, SupervisedCommand
from scar_ray.credit import PARSING
from scar_ray.parsing import parser_folder

_UNNEEDED_PACKAGES = ("torchvision", "torchaudio", "torchcodec")
_DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".gz")
_STATE_BYTES = 12
"""Bytes of a parameter in a checkpoint: float32 weight and two Adam moments."""
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets for the driver of a job."""
_NUMA = "libnuma.so.1"
_RULES = {"arithmetic": "whether the sum is right", "product_search": "NDCG", "product_rewrites": "NDCG"}
"""Rewards of the tasks that have no reward model."""
_LOGS_BYTES = 100 * 2**20
"""Room for metrics, samples and logs."""


def preflight(config: Config) -> None:
    """Checks that a training run can start here.

    Raises:
        UserError: one line for each thing that is missing or does not fit.
    """
    problems = missing(config)
    if not problems:
        problems = [*_lost(config.runs), *_unwritable(config.runs), *_broken_packages(), *_no_numa(config)]
    if problems:
        raise UserError("\n".join(problems))


def preflight_supervised(config: Config, command: SupervisedCommand) -> None:
    """Checks that `scar-ray sft` or `scar-ray rm` can start here.

    Raises:
        UserError: one line for each thing that is missing.
    """
    if command == "rm" and (rule := _RULES.get(config.task.name)):
        raise UserError(
            f"task={config.task.name} has no reward model to train, its reward is {rule}; go on with scar-ray train"
        )
    parts: list[Part] = ["sft_train", "sft_test"] if command == "sft" else ["rm_train", "rm_test"]
    if command == "rm" and config.rm.centre:
        parts.append("sft_train")
    problems = [line for part in parts for line in _data(config, part)] + [*_catalogue(config)]
    problems += [*_completion_room(config, command), *_shares(config, command)]
    from_policy = command == "rm" and config.rm.from_policy
    if config.model.scratch is None or from_policy:
        role: Literal["policy", "reward"] = "policy" if command == "sft" or from_policy else "reward"
        problems += [line for line in [_folder(config, role)] if isinstance(line, str)]
    problems += _broken_packages()
    if problems:
        raise UserError("\n".join(problems))


def _shares(config: Config, command: SupervisedCommand) -> Iterator[str]:
    """What several ranks cannot share."""
    learner, batch = config.cluster.learner, getattr(config, command).batch
    if learner.zero_stage == 3:
        yield (
            f"cluster.learner.zero_stage=3 is for scar-ray train; scar-ray {command} keeps the weights whole on every "
            "rank, use 2"
        )
    if batch % learner.ranks:
        yield f"{command}.batch={batch} must be a multiple of cluster.learner.ranks={learner.ranks}"


def preflight_evaluation(config: Config, policy: str) -> None:
    """Checks that `scar-ray eval` can measure `policy` here.

    Raises:
        UserError: one line for each thing that is missing.
    """
    problems: list[str] = []
    if is_local(policy):
        try:
            read_model_folder(Path(policy).expanduser())
        except UserError as error:
            problems.append(f"{policy}: {error}")
    reference, reward = _folder(config, "policy"), _folder(config, "reward")
    problems += [line for line in (reference, reward) if isinstance(line, str)]
    if isinstance(reward, ModelFolder):
        problems += _classifier("model.reward", config.model.reward, reward)
    problems += _function("model.reward", config.model.reward)
    problems += [*_catalogue(config), *_evaluation(config), *_broken_packages(), *_no_numa(config)]
    if problems:
        raise UserError("\n".join(problems))


def _completion_room(config: Config, command: SupervisedCommand) -> Iterator[str]:
    longest: int = getattr(config, command).max_tokens
    if config.task.has_prompts and longest <= config.task.prompt_tokens_max:
        yield (
            f"{command}.max_tokens={longest} leaves no room for a completion after prompts of up to "
            f"task.prompt_tokens_max={config.task.prompt_tokens_max} tokens; raise it"
        )


def missing(config: Config) -> list[str]:
    """One line for each thing that a training run needs and that is not here; imports nothing heavy."""
    policy, reward = _folder(config, "policy"), _folder(config, "reward")
    problems = [found for found in (policy, reward) if isinstance(found, str)]
    if isinstance(policy, ModelFolder):
        problems += _policy(config, policy)
    if isinstance(reward, ModelFolder):
        problems += _classifier("model.reward", config.model.reward, reward)
        if isinstance(policy, ModelFolder):
            problems += _reward_length(config, policy, reward)
    problems += _function("model.reward", config.model.reward)
    problems += [*_data(config, "train"), *_catalogue(config)]
    problems += _evaluation(config)
    problems += _parser(config)
    problems += _disk(config, policy.n_parameters if isinstance(policy, ModelFolder) else 0)
    if config.trainer.wandb and find_spec("wandb") is None:
        problems.append("trainer.wandb=true needs the package wandb; install it: pip install 'scar-ray[wandb]'")
    return problems


def _folder(config: Config, role: Literal["policy", "reward"]) -> ModelFolder | str | None:
    """Facts of a local model folder, or the line that says what is wrong; None for hub and demo models."""
    path = getattr(config.model, role).path
    if not path or not is_local(path):
        return None
    try:
        return read_model_folder(Path(path).expanduser())
    except UserError as error:
        line = f"model.{role}.path={path}: {error}"
        if config.model.scratch is not None and not Path(path).exists():
            command = {"policy": "sft", "reward": "rm"}[role]
            line += f"; make it with: scar-ray {command} task={config.task.name} model=tiny"
        return line


def _policy(config: Config, policy: ModelFolder) -> Iterator[str]:
    key = f"model.policy.path={config.model.policy.path}"
    if policy.architectures and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in policy.architectures):
        yield f"{key}: {policy.architectures[0]} is no causal language model; give one that generates text"
    yield from _vocabulary(key, policy)
    length = config.task.prompt_tokens_max + config.task.sampling.max_new_tokens
    if policy.context is not None and length > policy.context:
        yield (
            f"{key}: task.prompt_tokens_max + task.sampling.max_new_tokens = {length} exceeds the model's "
            f"context of {policy.context} tokens; lower one of them"
        )


def _classifier(section: str, settings: RewardModelConfig, folder: ModelFolder) -> Iterator[str]:
    key = f"{section}.path={settings.path}"
    if not any(name.endswith("ForSequenceClassification") for name in folder.architectures):
        what = folder.architectures[0] if folder.architectures else "unknown architecture"
        yield (
            f"{key}: a reward model without a classification head ({what}); give a ...ForSequenceClassification model"
        )
    elif folder.n_labels is not None and folder.n_labels not in (1, 2):
        yield f"{key}: has {folder.n_labels} labels; a reward model has one, or two of which one is wanted"
    elif folder.n_labels == 2 and settings.label > 1:
        yield f"{section}.label={settings.label}: the reward model has 2 labels; use 0 or 1"
    yield from _vocabulary(key, folder)


def _evaluation(config: Config) -> Iterator[str]:
    """Held-out prompts and the second reward model, where there are evaluations."""
    if not config.eval.every:
        return
    for line in _data(config, "test"):
        yield f"{line}; without held-out prompts set eval.every=0"
    gold = config.eval.gold
    if gold is None:
        return
    yield from _function("eval.gold", gold)
    if gold.path and is_local(gold.path):
        try:
            folder = read_model_folder(Path(gold.path).expanduser())
        except UserError as error:
            yield f"eval.gold.path={gold.path}: {error}"
        else:
            yield from _classifier("eval.gold", gold, folder)


def _function(section: str, settings: RewardModelConfig) -> Iterator[str]:
    """The file of a reward function is there; what is in it shows when it is loaded."""
    file = settings.function.rpartition(":")[0]
    if file.endswith(".py") and not Path(file).expanduser().is_file():
        yield f"{section}.function={settings.function}: no such file: {file}; check the path"


def _vocabulary(key: str, folder: ModelFolder) -> Iterator[str]:
    rows, tokens = folder.vocab_size, folder.tokenizer_size
    if rows is not None and tokens is not None and tokens > rows:
        yield (
            f"{key}: the tokenizer's {tokens} tokens do not fit the model's vocabulary of {rows}; "
            "use the tokenizer that the model was trained with"
        )


def _reward_length(config: Config, policy: ModelFolder, reward: ModelFolder) -> Iterator[str]:
    """Lengths are only known beforehand where both models count in the same tokens."""
    limits = [limit for limit in (reward.context, config.model.reward.max_length) if limit is not None]
    length = config.task.prompt_tokens_max + config.task.sampling.max_new_tokens + int(config.model.reward.append_eos)
    if limits and length > min(limits) and same_tokenizer(policy, reward):
        yield (
            f"model.reward.path={config.model.reward.path}: prompt and response have up to {length} tokens, "
            f"the reward model reads {min(limits)}; lower task.sampling.max_new_tokens"
        )


def _data(config: Config, part: Part) -> Iterator[str]:
    if config.task.is_generated:
        return
    where, source = config.task.source(part)
    if not source.source:
        yield f"{where}.source is empty; name a JSONL, CSV or parquet file, or a data set on the hub"
    elif (source.source.endswith(_DATA_SUFFIXES) or is_local(source.source)) and not Path(
        source.source
    ).expanduser().is_file():
        yield f"{where}.source={source.source}: no such data file; give a JSONL, CSV or parquet file"


def _catalogue(config: Config) -> Iterator[str]:
    if config.task.is_search:
        yield from _data(config, "products")


def _parser(config: Config) -> Iterator[str]:
    """What finds the phrases is built or installed, where phrases are asked for."""
    name = config.credit.parser
    if config.credit.method not in PARSING or name == "heuristic":
        return
    if name == "treebank":
        if not parser_folder().is_dir():
            yield "credit.parser=treebank: the parser is not there yet; `scar-ray parser build` trains it"
    elif find_spec(name) is None:
        yield f"credit.parser={name} needs the package {name}; install it, or use credit.parser=heuristic"


def _disk(config: Config, n_parameters: int) -> Iterator[str]:
    ancestor = _existing(config.runs)
    if not ancestor.is_dir():
        yield f"runs={config.runs}: {ancestor} is a file, not a folder; set runs to a folder"
        return
    models = 2 if config.algorithm.has_critic and config.algorithm.critic.kind == "separate" else 1
    trained = 0 if config.model.policy.lora else n_parameters
    # A new checkpoint is complete before the oldest one goes.
    # The best policy so far keeps a checkpoint of its own, and is exported like the final one.
    best = int(config.eval.every > 0)
    checkpoints = config.trainer.keep_checkpoints + 1 + best
    need = trained * _STATE_BYTES * models * checkpoints + n_parameters * 4 * (1 + best) + _LOGS_BYTES
    free = shutil.disk_usage(ancestor).free
    if free < need:
        yield (
            f"runs={config.runs}: the disk has {free / 2**30:.1f} GiB free, the run needs about "
            f"{need / 2**30:.1f} GiB for {config.trainer.keep_checkpoints} + {1 + best} checkpoints; "
            "free some space or set runs to another disk"
        )


def _lost(runs: Path) -> Iterator[str]:
    """A Ray job works in a copy of the code, which goes when the cluster does."""
    if _RAY_JOB in os.environ and not runs.is_absolute():
        yield f"runs={runs}: a Ray job would write into Ray's copy of the code; give an absolute path"


def _unwritable(runs: Path) -> Iterator[str]:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=runs) as probe:
            probe.write(os.urandom(4096))
    except OSError as error:
        yield f"runs={runs}: cannot write there ({error.strerror}); set runs to a folder of yours"


def _broken_packages() -> Iterator[str]:
    """transformers and vLLM import these where they are installed; a build for another torch breaks both."""
    broken = []
    for package in _UNNEEDED_PACKAGES:
        if find_spec(package) is not None:
            try:
                importlib.import_module(package)
            except Exception:  # whatever a mismatched binary raises; the remedy is the same
                broken.append(package)
    if broken:
        names = " ".join(broken)
        yield f"{', '.join(broken)}: installed but broken, and not needed; remove: pip uninstall -y {names}"


def _no_numa(config: Config) -> Iterator[str]:
    """vLLM's CPU build is linked to a system library that small installations lack."""
    if config.cluster.device == "cpu":
        try:
            ctypes.CDLL(_NUMA)
        except OSError:
            yield f"{_NUMA} is missing, which vLLM needs on CPUs; install it (Debian, Ubuntu: apt-get install libnuma1)"


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
