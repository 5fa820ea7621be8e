"""Where a trained model goes: written beside its place, moved there when whole; metrics, progress."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scar_ray.config.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LINE_EVERY_S = 3.0


class Halted(Exception):
    """The training has stopped, as the user asked, after a step whose checkpoint is written; its argument."""


class Log(Protocol):
    """What is written down while a model is trained."""

    @property
    def seconds(self) -> float:
        """Wall time of the training, earlier parts of a resumed one included."""
        ...

    def line(self, text: str) -> None:
        """Tells the user something."""
        ...

    def training(self, steps: int) -> AbstractContextManager[Path | None]:
        """Surrounds the steps; gives the folder of the checkpoint to go on from, None to begin."""
        ...

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Writes down what step number `step` (from 1) came to."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the user wants to stop; told to one rank of several."""
        ...

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Lets `write` fill a checkpoint folder of this step; all ranks call it together, the first one writes."""
        ...


class RunLog:
    """Appends every step to `metrics.jsonl` and prints a progress line every few seconds. Keeps no checkpoints."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file = (folder / "metrics.jsonl").open("w", encoding="utf-8")
        self._start = self._printed = time.monotonic()

    def step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        now = time.monotonic()
        if now - self._printed >= _LINE_EVERY_S or step == steps:
            left = (now - self._start) / step * (steps - step)
            self.line(f"step {step}/{steps} loss {metrics['loss']:.3f} {left:.0f} s left")
            self._printed = now

    def line(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)

    @contextmanager
    def training(self, steps: int) -> Iterator[None]:  # noqa: ARG002, as a Log
        yield None

    stopping = False

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        pass

    @property
    def seconds(self) -> float:
        """Wall time since the log was opened."""
        return time.monotonic() - self._start

    def close(self) -> None:
        self._file.close()


@contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """A folder to fill; it becomes `out` when the block ends well and vanishes when it does not.

    UserError when `out` already holds something or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"output folder {out} is not empty; choose another one or remove it")
    unfinished = out.parent / f".{out.name}.unfinished-{os.getpid()}"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"output folder {out} cannot be made: {error.strerror}") from error
    try:
        yield unfinished
        os.replace(unfinished, out)
    except OSError as error:
        raise UserError(f"output folder {out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def save_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, summary: Mapping[str, object]
) -> None:
    """Weights as safetensors, tokenizer, and `summary.json`; written by the first rank."""
    from safetensors import SafetensorError
    from torch import distributed
    from transformers.utils import logging

    if distributed.is_initialized() and distributed.get_rank() > 0:
        return
    logging.disable_progress_bar()  # progress is told by lines, and a model here is written in a moment
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    tokenizer.save_pretrained(folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
