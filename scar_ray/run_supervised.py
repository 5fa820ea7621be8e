"""What `scar-ray sft` and `scar-ray rm` do once their configuration is valid; run again, a stopped training goes on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.config.schema import Config, SupervisedCommand
from scar_ray.run import Stopped, interruptible
from scar_ray.run_folder import hardware, locked, now, versions
from scar_ray.trainer import checkpoints
from scar_ray.trainer.metrics import MetricsWriter
from scar_ray.trainer.progress import Progress
from scar_ray.workers.environment import joins
from scar_ray.workers.supervised import train
from scar_ray.workers.supervised.folder import Halted

RECORD = "training.json"
"""File in a model's folder that says what made it."""
_LINE_EVERY_S = 3.0
_MAY_CHANGE = {"runs", "name", "cluster", "trainer", "algorithm", "eval"}
"""Sections of the configuration that do not decide what the model becomes."""


def sft(config: Config) -> Path:
    """Trains the task's policy and returns its folder."""
    return train_model(config, "sft", model_folder(config, "sft"))


def rm(config: Config) -> Path:
    """Trains the task's reward model and returns its folder."""
    return train_model(config, "rm", model_folder(config, "rm"))


def model_folder(config: Config, command: SupervisedCommand) -> Path:
    """Where the model goes: to its own path when it is trained from scratch, else to a folder under `runs`."""
    model = config.model.policy if command == "sft" else config.model.reward
    if config.model.scratch is not None:
        return Path(model.path)
    return config.runs / (config.name or f"{config.task.name}-{command}")


def train_model(config: Config, command: SupervisedCommand, out: Path) -> Path:
    """Trains a model and returns its folder, `out`, which appears when all is done.

    Until then the work lies in a hidden folder beside it, with a checkpoint every `checkpoint_every` steps; the same
    command goes on from there. UserError for what the user can put right, Stopped after the first Ctrl-C.
    """
    with unfinished(out, config, command) as folder:
        log = ModelLog(folder, config, command)
        try:
            if config.cluster.learner.ranks > 1 or (config.cluster.device == "cuda" and joins(config.cluster)):
                _train_on_ranks(config, command, folder.resolve(), log)  # this machine may have no GPU
            else:
                train(config, command, folder, log)
        except Halted as halted:
            raise Stopped(f"stopped after step {halted}; the same command goes on from there") from None
        finally:
            log.close()
    print(f"{'policy' if command == 'sft' else 'reward model'}: {out}")
    return out


def _train_on_ranks(config: Config, command: SupervisedCommand, folder: Path, log: ModelLog) -> None:
    """Trains on Ray actors; what the first one tells is shown and written here."""
    from scar_ray.workers.supervised.ranks import train_on_ranks

    shown = ExitStack()

    def hear(news: tuple[Any, ...]) -> None:
        kind, *values = news
        if kind == "training":
            shown.enter_context(log.showing(*values))
        elif kind == "trained":
            shown.close()
        else:
            {"line": log.line, "step": log.step}[kind](*values)

    with shown:
        train_on_ranks(config, command, folder, partial(RankLog, folder), hear, lambda: log.stopping)
    if not (folder / "summary.json").is_file():
        raise UserError(
            f"{folder}: the ranks have written their model to a folder of that name that is not this one; "
            "use a folder that all nodes see"
        )


@contextmanager
def unfinished(out: Path, config: Config, command: SupervisedCommand) -> Iterator[Path]:
    """A folder to fill; it becomes `out` when the block ends well, and stays for the next try if it has a checkpoint.

    UserError when `out` already holds something or cannot be written, when another process is at it, and when what an
    earlier try left was made with other settings.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"output folder {out} is not empty; choose another one or remove it")
    folder = out.parent / f".{out.name}.unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            try:
                _record(folder, config, command)
                yield folder
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                os.replace(folder, out)
            finally:
                if folder.is_dir() and not checkpoints.complete(folder / "checkpoints"):
                    shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"output folder {out} cannot be written: {error.strerror or error}") from error


def _record(folder: Path, config: Config, command: SupervisedCommand) -> None:
    """Writes down what is trained; UserError when an earlier try left checkpoints of something else."""
    file = folder / RECORD
    settings = json.loads(config.model_dump_json(exclude=_MAY_CHANGE))
    if file.is_file() and checkpoints.complete(folder / "checkpoints"):
        earlier = json.loads(file.read_text())["config"]
        if key := _difference(earlier, settings):
            raise UserError(
                f"{folder}: holds an unfinished {command} with another {key}; set it as it was to go on, or remove the "
                "folder to start anew"
            )
        return
    record = {"command": command, "config": settings, "versions": versions(), "hardware": hardware(config)}
    file.write_text(json.dumps({**record, "started": now()}, indent=1))


def _difference(earlier: object, settings: object, prefix: str = "") -> str:
    """The first dotted key whose values differ; empty when none does."""
    if not (isinstance(earlier, dict) and isinstance(settings, dict)):
        return "" if earlier == settings else prefix
    found = (
        _difference(earlier.get(key), settings.get(key), f"{prefix}.{key}" if prefix else str(key))
        for key in earlier.keys() | settings.keys()
    )
    return min((key for key in found if key), default="")


class ModelLog:
    """metrics.jsonl, TensorBoard, progress and checkpoints of the training of a model."""

    def __init__(self, folder: Path, config: Config, command: SupervisedCommand) -> None:
        self._folder, self._command = folder, command
        trainer = config.trainer
        self._writer = MetricsWriter(
            folder,
            trainer.tensorboard,
            trainer.wandb,
            config.model_dump(mode="json"),
            f"{config.task.name}-{command}",
            go_on=f"the same `scar-ray {command}` command",
        )
        self._progress: Progress | None = None
        self._started = self._shown = time.perf_counter()
        self.stopping = False

    @property
    def seconds(self) -> float:
        """Wall time of the training, that of earlier tries up to their checkpoint included."""
        return time.perf_counter() - self._started

    def line(self, text: str) -> None:
        """Tells the user something."""
        if self._progress is None:
            print(f"{self._command}: {text}", flush=True)
        else:
            self._progress.message(f"{self._command}: {text}")

    @contextmanager
    def training(self, steps: int) -> Iterator[Path | None]:
        """Surrounds the steps: gives the checkpoint to go on from, shows the progress, catches Ctrl-C."""
        newest, done, seconds = _newest(self._folder)
        with self.showing(steps, done, seconds):
            yield newest

    @contextmanager
    def showing(self, steps: int, done: int, seconds: float) -> Iterator[None]:
        """Shows the progress and catches Ctrl-C; `done` of the steps took so many seconds earlier."""
        self._started -= seconds
        if done:
            self.line(f"going on after step {done} of {steps}")
        self._writer.resume_from(done)
        with Progress(steps, done) as self._progress, interruptible(self._ask_to_stop):
            yield
        self._progress = None

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Writes one line of metrics.jsonl; the progress is shown every few seconds where there is no terminal."""
        values = {"time_s": self.seconds, **metrics}
        self._writer.write(step, values)
        assert self._progress is not None, "steps are inside of `training`"
        if self._progress.live or step == steps or time.perf_counter() - self._shown >= _LINE_EVERY_S:
            self._progress.update(step, values)
            self._shown = time.perf_counter()

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Keeps the state."""
        _save(self._folder, step, write, self.seconds)

    def _ask_to_stop(self) -> None:
        self.stopping = True
        self.line("stopping: this step is finished and a checkpoint written; Ctrl-C again stops at once")

    def close(self) -> None:
        self._writer.close()


class RankLog:
    """The log of one rank of several: checkpoints are written there, all else is told to a `ModelLog` elsewhere."""

    def __init__(self, folder: Path, *, tells: bool) -> None:
        """The first rank `tells` and writes."""
        self._folder, self._tells = folder, tells
        self._news: deque[tuple[Any, ...]] = deque()
        self._started = time.perf_counter()
        self.stopping = False

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def _tell(self, *piece: Any) -> None:
        if self._tells:
            self._news.append(piece)

    def line(self, text: str) -> None:
        self._tell("line", text)

    @contextmanager
    def training(self, steps: int) -> Iterator[Path | None]:
        newest, done, seconds = _newest(self._folder)
        self._started -= seconds
        self._tell("training", steps, done, seconds)
        yield newest
        self._tell("trained")

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self._tell("step", step, steps, {**metrics, "time_s": self.seconds})

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        if self._tells:
            _save(self._folder, step, write, self.seconds)
        else:
            write(self._folder)

    def ask_to_stop(self) -> None:
        self.stopping = True

    def news(self) -> list[tuple[Any, ...]]:
        return [self._news.popleft() for _ in range(len(self._news))]


def _newest(folder: Path) -> tuple[Path | None, int, float]:
    """The checkpoint to go on from, if any, the steps that were done by then, and the seconds that they took."""
    if not checkpoints.complete(folder / "checkpoints"):
        return None, 0, 0.0
    newest, done, state = checkpoints.latest(folder / "checkpoints")
    return newest, done, state["time_s"]


def _save(folder: Path, step: int, write: Callable[[Path], None], seconds: float) -> None:
    checkpoints.save(folder / "checkpoints", step, _Saving(write), {"time_s": seconds}, keep=1)


class _Saving:
    """A function in the shape of what `checkpoints.save` takes."""

    def __init__(self, write: Callable[[Path], None]) -> None:
        self.save = write
