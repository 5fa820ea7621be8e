"""`scar-ray train`: one run, a sweep, a resumed run, or only the plan of one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scar_ray.commands import INTERRUPTED
from scar_ray.commands.supervised import add_overrides

if TYPE_CHECKING:
    from scar_ray.config.schema import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="validate, print the plan, start nothing")
    parser.add_argument("--multirun", action="store_true", help="one run for each combination of seed=0,1,2")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue this run folder")


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.config.load import load, load_resolved

    if parsed.resume is not None and (parsed.multirun or parsed.config_dir is not None):
        raise ValueError("--resume continues one run as it was configured; leave out --multirun and --config-dir")
    if parsed.multirun:
        return _multirun(parsed)
    if parsed.resume is None:
        config = load(parsed.overrides, parsed.config_dir)
    else:
        config = load_resolved(_written_config(parsed.resume), parsed.overrides)
    if parsed.dry_run:
        return _dry_run(config)
    from scar_ray.config.preflight import preflight

    preflight(config)
    from scar_ray import run

    run.train(config, parsed.resume)
    return 0


def _dry_run(config: Config) -> int:
    """Prints what would run; what this machine lacks is told but no error: the cluster may have it."""
    from scar_ray.config.describe import describe
    from scar_ray.config.preflight import missing

    lines = [describe(config), *(f"still needed: {line}" for line in missing(config))]
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        # The reader has seen enough (`| head`); nothing more may be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _multirun(parsed: argparse.Namespace) -> int:
    """One process a job, one after another; a failed job does not stop the others."""
    from scar_ray.config.load import load
    from scar_ray.config.overrides import expand_sweep

    jobs = expand_sweep(parsed.overrides)
    configs = [load(job, parsed.config_dir) for job in jobs]
    names = [config.name for config in configs if config.name is not None]
    if len(set(names)) < len(names):
        raise ValueError(f"name={names[0]} would be the folder of several runs; leave name out, or sweep it as well")
    failed = []
    for number, (job, config) in enumerate(zip(jobs, configs, strict=True), start=1):
        title = f"[{number}/{len(jobs)}] scar-ray train {' '.join(job)}"
        print(title, flush=True)
        code = _dry_run(config) if parsed.dry_run else _run_job(job, parsed.config_dir)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            failed.append(f"{title}: exit code {code}")
    for line in failed:
        print(f"scar-ray: failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _run_job(job: Sequence[str], config_dir: Path | None) -> int:
    folder = [] if config_dir is None else ["--config-dir", str(config_dir)]
    process = subprocess.Popen([sys.executable, "-m", "scar_ray.cli", "train", *folder, *job])
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal's Ctrl-C reached the job as well: it writes its checkpoint and stops its actors.
        process.wait()
        raise


def _written_config(run: Path) -> Path:
    file = run / "config.json"
    if not file.is_file():
        raise ValueError(f"--resume={run}: is no run folder, it has no config.json; give one that scar-ray train wrote")
    return file
