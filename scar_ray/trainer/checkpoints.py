"""Checkpoints of a run: complete or absent, the last ones kept, damage found before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from scar_ray.config.errors import UserError

MANIFEST = "manifest.json"


class Saves(Protocol):
    """What holds the state of a training, such as the learner."""

    def save(self, folder: Path, /) -> None:
        """Writes all of it into an empty folder."""
        ...


def save(folder: Path, step: int, learner: Saves, state: Mapping[str, Any], keep: int, best: int | None = None) -> Path:
    """Writes `folder/step-NNNNNN`, then removes all but the newest `keep` checkpoints and that of the step `best`.

    A checkpoint that bears its name is complete: files are written, and removed, under a name of another kind.
    """
    final = folder / f"step-{step:06d}"
    partial = folder / f".{final.name}.partial"
    for left_over in folder.glob(".step-*"):
        shutil.rmtree(left_over)
    partial.mkdir(parents=True)
    learner.save(partial)
    sizes = {
        str(file.relative_to(partial)): file.stat().st_size for file in sorted(partial.rglob("*")) if file.is_file()
    }
    (partial / MANIFEST).write_text(json.dumps({"step": step, "state": dict(state), "files": sizes}, indent=1))
    if final.exists():
        _remove(final)
    os.replace(partial, final)
    for old in complete(folder)[:-keep]:
        if best is None or old.name != f"step-{best:06d}":
            _remove(old)
    return final


def _remove(checkpoint: Path) -> None:
    doomed = checkpoint.with_name(f".{checkpoint.name}.removed")
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed)


def complete(folder: Path) -> list[Path]:
    """All checkpoints, the oldest first."""
    found = (path for path in folder.glob("step-*") if path.is_dir())
    return sorted(found, key=lambda path: (len(path.name), path.name))  # beyond six digits, too


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
    if not (path / MANIFEST).is_file():
        return {}, f"{MANIFEST} is missing"
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        sizes = manifest["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, f"{MANIFEST} cannot be read"
    for name, size in sizes:
        if not (path / name).is_file():
            return manifest, f"{name} is missing"
        if (actual := (path / name).stat().st_size) != size:
            return manifest, f"{name} has {actual} bytes instead of {size}"
    return manifest, ""
