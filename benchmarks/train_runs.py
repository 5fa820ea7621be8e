"""`scar-ray` commands of benchmarks, and training runs that go on where a benchmark was stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scar_ray.config.errors import UserError
from scar_ray.run_folder import locked


def scar_ray(*words: str, before: Sequence[str] = ()) -> None:
    """Runs a command, printed first; `before` is put before it. CalledProcessError when it fails."""
    print("$ scar-ray", *words, flush=True)
    subprocess.run([*before, sys.executable, "-m", "scar_ray.cli", *words], check=True)


def exit_status(main: Callable[[], None]) -> int:
    """Of a benchmark: a UserError is one line, and a command of `scar_ray` that fails has said why itself."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        return 1
    return 0


def status(run: Path) -> str | None:
    """The status of a run folder; None where there is no run."""
    record = run / "run.json"
    return str(json.loads(record.read_text())["status"]) if record.is_file() else None


def train_words(run: Path, words: Sequence[str]) -> list[str] | None:
    """What `scar-ray train` is to be given so that `run` gets done; None where it is done.

    A run that was stopped before its first checkpoint is removed: it starts anew. UserError for a run under way.
    """
    found = status(run)
    if found == "done":
        return None
    if found is not None and not any((run / "checkpoints").glob("step-*")):
        with locked(run):
            shutil.rmtree(run)
        found = None
    return ["--resume", str(run)] if found is not None else [*words, f"runs={run.parent}", f"name={run.name}"]
