"""The command line: parse, validate, and only then import what is heavy.

    scar-ray train [--dry-run] [--multirun] [--resume RUN] [--config-dir DIR] [KEY=VALUE ...]
    scar-ray sft | rm [--config-dir DIR] [KEY=VALUE ...]
    scar-ray report RUN [RUN ...] [--out FILE]

Exit codes: 0 done, 1 a run failed, 2 the user's mistake (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from scar_ray import __version__

if TYPE_CHECKING:
    from scar_ray.config.schema import Config

_USAGE = """usage: scar-ray COMMAND [OPTION ...] [KEY=VALUE ...]

RLHF on Ray in which every token, phrase or sentence gets the part of the reward it earned.

commands:
  train     PPO with dense credit: scar-ray train task=demo credit=scar_span
  sft       train a policy on the task's texts: scar-ray sft task=imdb
  rm        train a reward model on the task's labelled texts: scar-ray rm task=imdb
  report    one HTML page from finished or running runs: scar-ray report runs/NAME

groups:     task, credit, algorithm, model, cluster: a group's choice is one word, credit=abc
keys:       any key of the configuration: algorithm.kl.coef=0.1 trainer.steps=50
            scar-ray train --dry-run prints all of them

scar-ray COMMAND --help tells the options of a command; scar-ray --version the version."""

_COMMANDS = ("train", "sft", "rm", "report")
_FAILED, _MISTAKE, _INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        near = get_close_matches(message.rpartition(": ")[2], self._option_string_actions, n=1)
        raise ValueError(f"{message}; " + (f"did you mean {near[0]}?" if near else f"see {self.prog} --help"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _command(arguments)
    except KeyboardInterrupt as interrupt:
        print(f"scar-ray: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        message = _explanation(error)
        if message is None:
            raise
        for line in message.splitlines():
            print(f"scar-ray: error: {line}", file=sys.stderr)
        return _MISTAKE if isinstance(error, ValueError | OSError) else _FAILED


def _command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else _MISTAKE
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        print(f"scar-ray {__version__}")
        return 0
    if name not in _COMMANDS:
        near = get_close_matches(name, _COMMANDS, n=1)
        raise ValueError(
            f"unknown command {name}; "
            + (f"did you mean {near[0]}?" if near else f"the commands are {', '.join(_COMMANDS)}")
        )
    parsed = _parser(name).parse_intermixed_args(rest)
    if name == "report":
        return _report(parsed.runs, parsed.out)
    if name == "train":
        return _train(parsed)
    return _supervised("sft" if name == "sft" else "rm", parsed)


def _parser(command: str) -> _Parser:
    parser = _Parser(prog=f"scar-ray {command}", allow_abbrev=False)
    if command == "report":
        parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="the page; default: report.html in the first run folder"
        )
        return parser
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a group's choice or a dotted key")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder with group files of your own")
    if command == "train":
        parser.add_argument("--dry-run", action="store_true", help="validate, print the plan, start nothing")
        parser.add_argument("--multirun", action="store_true", help="one run for each combination of seed=0,1,2")
        parser.add_argument("--resume", type=Path, metavar="RUN", help="continue this run folder")
    return parser


def _train(parsed: argparse.Namespace) -> int:
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
    from scar_ray.run import train

    train(config, parsed.resume)
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
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            failed.append(f"{title}: exit code {code}")
    for line in failed:
        print(f"scar-ray: failed: {line}", file=sys.stderr)
    return _FAILED if failed else 0


def _run_job(job: Sequence[str], config_dir: Path | None) -> int:
    folder = [] if config_dir is None else ["--config-dir", str(config_dir)]
    process = subprocess.Popen([sys.executable, "-m", "scar_ray.cli", "train", *folder, *job])
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal's Ctrl-C reached the job as well: it writes its checkpoint and stops its actors.
        process.wait()
        raise


def _supervised(command: Literal["sft", "rm"], parsed: argparse.Namespace) -> int:
    from scar_ray.config.load import load
    from scar_ray.config.preflight import preflight_supervised

    config = load(parsed.overrides, parsed.config_dir)
    preflight_supervised(config, command)
    from scar_ray import run

    train_model = run.sft if command == "sft" else run.rm
    train_model(config)
    return 0


def _report(runs: Sequence[Path], out: Path | None) -> int:
    from scar_ray.report import write_report

    print(write_report(runs, out))
    return 0


def _written_config(run: Path) -> Path:
    file = run / "config.json"
    if not file.is_file():
        raise ValueError(f"--resume={run}: is no run folder, it has no config.json; give one that scar-ray train wrote")
    return file


def _explanation(error: Exception) -> str | None:
    """The message where it explains the error by itself; None where the traceback is needed.

    scar_ray's own exceptions explain themselves, and a ValueError that scar_ray raises is the user's mistake; one
    that a library raises is not expected.
    """
    if isinstance(error, OSError):
        return _file_error(error)
    if type(error).__module__.startswith("scar_ray."):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(last.filename).is_relative_to(Path(__file__).parent) and (last.line or "").startswith("raise ")
    return str(error) if isinstance(error, ValueError) and ours else None


def _file_error(error: OSError) -> str | None:
    """The line for a failed file or port operation; None for other kinds, whose traceback is needed."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {error.filename}" if error.filename else ""
        return f"the disk is full{where}: {what}; free some space or set runs=FOLDER"
    if error.filename is not None:
        return f"{error.filename}: {what}"
    return f"a port is in use: {what}" if error.errno == errno.EADDRINUSE else None


if __name__ == "__main__":
    sys.exit(main())
