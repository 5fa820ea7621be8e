"""The command line: parse, validate, and only then import what is heavy.

    scar-ray train [--dry-run] [--multirun] [--resume RUN] [--config-dir DIR] [KEY=VALUE ...]
    scar-ray sft | rm [--config-dir DIR] [KEY=VALUE ...]
    scar-ray eval POLICY [POLICY ...] [--best] [--out DIR] [--config-dir DIR] [KEY=VALUE ...]
    scar-ray judge A B --base-url URL --model M [OPTION ...]
    scar-ray report RUN [RUN ...] [--out FILE]
    scar-ray probe --reward-model M --data FILE [OPTION ...] [KEY=VALUE ...]
    scar-ray explain --reward-model M (--prompt TEXT --response TEXT | --file FILE) [--html FILE] [KEY=VALUE ...]
    scar-ray parser build [--treebank PATH] [--out DIR]
    scar-ray plan --policy M --prompt-tokens N --new-tokens N [--gpus N] [--gpu G] [KEY=VALUE ...]

Exit codes: 0 done, 1 a run failed, 2 the user's mistake (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from scar_ray import __version__
from scar_ray.commands import INTERRUPTED

_USAGE = """usage: scar-ray COMMAND [OPTION ...] [KEY=VALUE ...]

RLHF on Ray in which every token, phrase or sentence gets the part of the reward it earned.

commands:
  train     PPO with dense credit: scar-ray train task=demo credit=scar_span
  sft       train a policy on the task's texts: scar-ray sft task=imdb
  rm        train a reward model on the task's labels or preference pairs: scar-ray rm task=tldr
  eval      measure policies on held-out prompts: scar-ray eval runs/A runs/B
  judge     which of two runs a language model prefers: scar-ray judge runs/A runs/B --base-url URL --model M
  report    one HTML page from finished or running runs: scar-ray report runs/NAME
  probe     are a reward model's scores of partial responses meaningful? scar-ray probe --reward-model M --data FILE
  explain   which words of a response earned its score, under one or more credit methods
  parser    train a constituency parser for span units from NLTK's treebank: scar-ray parser build
  plan      how to split GPUs among the roles, and what a step takes: scar-ray plan --policy 7B --gpus 8 ...

groups:     task, credit, algorithm, model, cluster: a group's choice is one word, credit=abc
keys:       any key of the configuration: algorithm.kl.coef=0.1 trainer.steps=50
            scar-ray train --dry-run prints all of them

scar-ray COMMAND --help tells the options of a command; scar-ray --version the version."""

_COMMANDS = {
    "train": "train",
    "sft": "supervised",
    "rm": "supervised",
    "eval": "evaluate",
    "judge": "judge",
    "report": "report",
    "explain": "explain",
    "probe": "probe",
    "parser": "parser",
    "plan": "plan",
}
"""Commands and their modules in `scar_ray.commands`."""
_FAILED, _MISTAKE = 1, 2


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
        return INTERRUPTED
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
    command = importlib.import_module(f"scar_ray.commands.{_COMMANDS[name]}")
    parser = _Parser(prog=f"scar-ray {name}", allow_abbrev=False)
    command.add_arguments(parser)
    code: int = command.run(parser.parse_intermixed_args(rest, argparse.Namespace(command=name)))
    return code


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
