"""Composes the configuration from group files and overrides (Hydra) and validates it (pydantic).

Precedence, lowest first: the schema's defaults, config.yaml with the chosen group files, the overrides.
A group file holds only what differs from the defaults, so choosing another one replaces the whole block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from scar_ray.config.errors import ConfigError
from scar_ray.config.messages import choice_line, is_key, unknown_key, violation_lines
from scar_ray.config.overrides import parse
from scar_ray.config.schema import Config

Tree = dict[str, Any]

DEFAULT_GROUPS = ("task", "credit", "algorithm", "model", "cluster")
_FIXED_ON_RESUME = ("seed", "name", "runs", "task", "model", "algorithm.name", "algorithm.critic.kind")


def load(overrides: Sequence[str], config_dir: Path | None = None) -> Config:
    """The validated configuration for overrides such as `credit=abc` and `algorithm.kl.coef=0.1`.

    `config_dir` is a folder of the user's own group files; they are found before the packaged ones.

    Raises:
        ConfigError: one line for each rule broken.
    """
    folders = _folders(config_dir)
    problems: list[str] = []
    choices: dict[str, str] = {}
    values: list[tuple[str, Any]] = []
    for key, value in parse(overrides, problems):
        names = _group_choices(key, folders)
        if not names or isinstance(value, dict):
            values.append((key, value))
        elif value in names:
            choices[key] = value
        else:
            problems.append(choice_line(key, names, value))
    return _validated(_composed(choices, folders), values, problems)


def load_resolved(file: Path, overrides: Sequence[str] = (), fixed: Sequence[str] = _FIXED_ON_RESUME) -> Config:
    """The configuration that a run wrote (its config.json) with dotted overrides, for continuing that run.

    Sections and keys in `fixed` cannot be changed.

    Raises:
        ConfigError: one line for each rule broken, also for keys that cannot change on the way.
        OSError: the file cannot be read.
    """
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: is not the configuration of a run ({_one_line(error)})") from None
    problems: list[str] = []
    values = []
    for key, value in parse(overrides, problems):
        if any(key == name or key.startswith(f"{name}.") for name in fixed):
            problems.append(f"{key}: cannot change when a run is resumed; leave it out or start a new run")
        elif key in DEFAULT_GROUPS:
            problems.append(
                f"{key}: a run that is there already takes single keys only, such as {key}.KEY=VALUE or "
                "trainer.steps=300"
            )
        else:
            values.append((key, value))
    return _validated(tree, values, problems)


def config_folder() -> Path:
    """The packaged group files: scar_ray/_configs in a wheel, configs/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _folders(config_dir: Path | None) -> list[Path]:
    """Folders with group files, the first one first."""
    if config_dir is None:
        return [config_folder()]
    if not config_dir.is_dir():
        raise ConfigError(
            f"--config-dir={config_dir}: no such folder; give one with group files such as credit/mine.yaml"
        )
    return [config_dir.resolve(), config_folder()]


def _group_choices(key: str, folders: Sequence[Path]) -> list[str]:
    """Choices of a group; empty when `key` is not a group."""
    return sorted({file.stem for folder in folders for file in (folder / key).glob("*.yaml")})


def _composed(choices: Mapping[str, str], folders: Sequence[Path]) -> Tree:
    """The group files on top of the schema's defaults; interpolations are left for later."""
    overrides = [f"{'' if key in DEFAULT_GROUPS else '+'}{key}={json.dumps(name)}" for key, name in choices.items()]
    searchpath = ",".join(json.dumps(f"file://{folder}") for folder in folders[1:])
    primary = next(file for folder in folders if (file := folder / "config.yaml").is_file())
    try:
        # Hydra looks for the primary config before it extends its search path; the store it always searches.
        ConfigStore.instance().store("scar_ray", OmegaConf.load(primary))
        with initialize_config_dir(version_base="1.3", config_dir=str(folders[0])):
            composed = compose("scar_ray", overrides=[*overrides, f"hydra.searchpath=[{searchpath}]"])
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.name}:{mark.line + 1}" if mark else "a configuration file"
        raise ConfigError(f"{where}: is not valid YAML: {_one_line(error.problem)}") from None
    except (HydraException, OmegaConfBaseException) as error:
        reason = _one_line(error).partition(" Config search path")[0]
        raise ConfigError(f"the configuration files cannot be composed: {reason}") from None
    tree, container = Config().model_dump(mode="json"), OmegaConf.to_container(composed)
    assert isinstance(container, dict)
    for name, value in container.items():
        _assign(tree, [str(name)], value)
    return tree


def _validated(tree: Tree, values: Sequence[tuple[str, Any]], problems: list[str]) -> Config:
    """The tree with the dotted overrides in place, resolved and validated together with earlier problems."""
    for key, value in values:
        if is_key(key):
            _assign(tree, key.split("."), value)
        else:
            problems.append(unknown_key(key))
    OmegaConf.register_new_resolver("local", _local, replace=True)
    OmegaConf.register_new_resolver("room", _room, replace=True)
    OmegaConf.register_new_resolver("best_of", _best_of, replace=True)
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError([*problems, f"the configuration cannot be resolved: {_one_line(error)}"]) from None
    try:
        # Strict JSON mode: "3" or true is no whole number, but text is a path and a list a tuple.
        config = Config.model_validate_json(json.dumps(resolved), strict=True)
    except ValidationError as error:
        raise ConfigError(problems + violation_lines(error, combinations=not problems)) from None
    if problems:
        raise ConfigError(problems)
    return config


def _local(here: str, hub: str, *, _root_: DictConfig) -> str:
    """`${local:HERE,HUB}`: HERE where `task.data` names a folder, as a path in it if it is a file's name, else HUB."""
    folder = _root_.task.data
    if not folder:
        return hub
    return str(Path(folder) / here) if here.endswith(".jsonl.gz") else here


def _room(wanted: int, *, _root_: DictConfig) -> int:
    """`${room:N}`: N prompt tokens, or what a new response and its EOS leave in the context of `model.scratch`."""
    if not _root_.model.scratch:
        return wanted
    return min(wanted, int(_root_.model.scratch.max_positions) - int(_root_.task.sampling.max_new_tokens) - 1)


def _best_of(*, _root_: DictConfig) -> int | None:
    """`${best_of:}`: the candidates of a response that a reward function reads as a list, None where the credit method
    has each of them scored by itself."""
    return None if _root_.credit.method == "shape_grpo" else int(_root_.credit.candidates.count)


def _assign(tree: Tree, path: Sequence[str], value: Any) -> None:
    """Puts a value in its place; a mapping edits only the keys that it names."""
    *parents, leaf = path
    for name in parents:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}  # an optional section that was null
        tree = tree[name]
    if isinstance(value, dict):
        if not isinstance(tree.get(leaf), dict):
            tree[leaf] = {}
        for name, inner in value.items():
            _assign(tree[leaf], [str(name)], inner)
    else:
        tree[leaf] = value


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
