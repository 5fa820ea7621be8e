"""Checkpoints of a run: complete or absent, the last ones kept, damage found before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.trainer.protocols import Learner

MANIFEST = "manifest.json"


def save(folder: Path, step: int, learner: Learner, state: Mapping[str, Any], keep: int) -> Path:
    """Writes `folder/step-NNNNNN`, then removes all but the newest `keep` checkpoints.

    The files go to a folder of another name first: a checkpoint that bears its name is complete.
    """
    final = folder / f"step-{step:06d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    learner.save(partial)
    sizes = {
        str(file.relative_to(partial)): file.stat().st_size for file in sorted(partial.rglob("*")) if file.is_file()
    }
    (partial / MANIFEST).write_text(json.dumps({"step": step, "state": dict(state), "files": sizes}, indent=1))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for old in complete(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def complete(folder: Path) -> list[Path]:
    """All checkpoints, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def latest(folder: Path) -> tuple[Path, int, dict[str, Any]]:
    """The newest checkpoint, its step and the trainer's state.

    UserError when there is none, or when it is damaged; the message names the last good one.
    """
    found = complete(folder)
    if not found:
        raise UserError(f"{folder}: no checkpoint to resume from; start the run anew")
    manifest, problem = _read(found[-1])
    if problem:
        good = next((path for path in reversed(found[:-1]) if not _read(path)[1]), None)
        rest = f"the last good one is {good}: remove the damaged one to resume from it" if good else "no other is left"
        raise UserError(f"checkpoint {found[-1]} is damaged ({problem}); {rest}")
    return found[-1], int(manifest["step"]), manifest["state"]


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The manifest and what is wrong with the checkpoint; an empty string when nothing is."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError) as error:
        return {}, f"{MANIFEST}: {error}"
    for name, size in manifest["files"].items():
        if not (path / name).is_file():
            return manifest, f"{name} is missing"
        if (actual := (path / name).stat().st_size) != size:
            return manifest, f"{name} has {actual} bytes instead of {size}"
    return manifest, ""
