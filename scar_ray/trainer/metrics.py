"""What a run writes while it trains: metrics.jsonl, samples.jsonl, timeline.jsonl, TensorBoard and, when asked, W&B."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scar_ray.records import Response, SequenceScore, TokenRewards

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
TIMELINE_FILE = "timeline.jsonl"


@contextmanager
def _writing(path: Path, go_on: str) -> Iterator[None]:
    """Turns an OSError into one line that says what could not be written, why, and by which command to go on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot write {path}: {reason}; make room or fix its permissions, then go on with {go_on}"
        ) from error


class JsonLines:
    """An append-only JSON Lines file: one unbuffered write a record, each record with an integer `step`."""

    def __init__(self, path: Path, go_on: str) -> None:
        """`go_on` is the command that goes on after a disk was full."""
        self.path, self._go_on = path, go_on
        with _writing(path, go_on):
            self._file = path.open("ab", buffering=0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one line. OSError when it does not fit: the lines before it stay, no part of this one does."""
        line = memoryview(json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n")
        with _writing(self.path, self._go_on):
            end = os.fstat(self._file.fileno()).st_size
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise

    def truncate_after(self, step: int) -> None:
        """Cuts the file at the first line that is incomplete or belongs to a step after `step`."""
        end = 0
        with _writing(self.path, self._go_on):
            with self.path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                        break
                    end += len(line)
            self._file.truncate(end)

    def close(self) -> None:
        self._file.close()


def sample_record(
    step: int, response: Response, score: SequenceScore, rewards: TokenRewards, method: str
) -> dict[str, Any]:
    """One line of samples.jsonl: a response, its score, the credit of each unit, the reward of each token."""
    units, spans = rewards.units, response.token_spans
    texts = [
        response.text[spans[start][0] : spans[end - 1][1]] for start, end in zip(units.starts, units.ends, strict=True)
    ]
    return {
        "step": step,
        "row": response.row,
        "prompt": response.prompt.text,
        "response": response.text,
        "score": float(score.raw),
        "final": float(score.final),
        "finished": bool(response.finished),
        "base": float(rewards.base),
        "residual": float(rewards.efficiency_residual),
        "method": method,
        "estimator": rewards.estimator,
        "units": [
            {"text": text, "credit": float(credit)} for text, credit in zip(texts, rewards.credits_n, strict=True)
        ],
        "rewards": [float(reward) for reward in rewards.rewards_T],
        **({"dropped": list(rewards.dropped)} if rewards.dropped else {}),
    }


def _start_wandb(folder: Path, config: Mapping[str, Any], name: str, go_on: str) -> Any:
    """A Weights & Biases run; its id is kept in the run folder, so that a resumed run continues it."""
    try:
        import wandb  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        raise ValueError(
            "trainer.wandb=true needs the package wandb, which is missing; "
            "`pip install 'scar-ray[wandb]'`, or set trainer.wandb=false"
        ) from None
    # Without a key wandb.init would ask for one and wait for ever.
    if os.environ.get("WANDB_MODE", "online") == "online" and not os.environ.get("WANDB_API_KEY"):
        raise ValueError(
            "trainer.wandb=true needs the environment variable WANDB_API_KEY, which is not set; "
            "set it, or WANDB_MODE=offline"
        )
    id_file = folder / "wandb_id"
    with _writing(id_file, go_on):
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
        run_id = id_file.read_text(encoding="utf-8")
    run = wandb.init(project="scar-ray", id=run_id, name=name, config=dict(config), dir=str(folder), resume="allow")
    # W&B's own step only ever grows, ours goes back when a run is resumed from an earlier checkpoint.
    run.define_metric("*", step_metric="step")
    return run


class MetricsWriter:
    """Writes the metrics and sample responses of a run into its folder; one line of metrics.jsonl a step.

    Raises ValueError when `wandb` is asked for and its package or key is missing, OSError (one line, naming
    the file) when the folder cannot be written or the disk is full; lines written before stay whole.
    """

    def __init__(
        self, folder: Path, tensorboard: bool, wandb: bool, config: Mapping[str, Any], name: str, go_on: str
    ) -> None:
        """`go_on` is the command that goes on after a stop."""
        with _writing(folder / METRICS_FILE, go_on):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._go_on = folder, go_on
        self._metrics = JsonLines(folder / METRICS_FILE, go_on)
        self._others: dict[str, JsonLines] = {}  # samples and timeline, which the training of a single model has not
        self._wandb = _start_wandb(folder, config, name, go_on) if wandb else None
        self._tensorboard = tensorboard
        self._board: Any = None
        self._purge_step: int | None = None

    def resume_from(self, step: int) -> None:
        """Forgets everything logged after `step`; to be called before the first `write` of a resumed run."""
        assert self._board is None, "resume_from comes before the first write"
        self._metrics.truncate_after(step)
        for name in (SAMPLES_FILE, TIMELINE_FILE):
            if (self._folder / name).is_file():
                self._lines(name).truncate_after(step)
        self._purge_step = step + 1

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of one step; a value that is not finite becomes null in metrics.jsonl."""
        values = {key: float(value) for key, value in metrics.items() if key != "step"}
        record = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._metrics.append({"step": int(step), **record})
        if self._tensorboard:
            self._write_board(step, values)
        if self._wandb is not None:
            self._wandb.log({"step": step, **values})

    def write_sample(
        self, step: int, response: Response, score: SequenceScore, rewards: TokenRewards, method: str
    ) -> None:
        """Adds one response with its credits to samples.jsonl; `method` is the name of the credit method."""
        self._lines(SAMPLES_FILE).append(sample_record(step, response, score, rewards, method))

    def _lines(self, name: str) -> JsonLines:
        """The file of this name, made when it is first written."""
        if name not in self._others:
            self._others[name] = JsonLines(self._folder / name, self._go_on)
        return self._others[name]

    def write_timeline(self, step: int, record: Mapping[str, Any]) -> None:
        """Adds to timeline.jsonl who did what when in a step."""
        self._lines(TIMELINE_FILE).append({"step": step, **record})

    def close(self) -> None:
        self._metrics.close()
        for lines in self._others.values():
            lines.close()
        if self._board is not None:
            with _writing(self._folder / "tensorboard", self._go_on):
                self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _write_board(self, step: int, values: Mapping[str, float]) -> None:
        folder = self._folder / "tensorboard"
        with _writing(folder, self._go_on):
            if self._board is None:
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(folder), purge_step=self._purge_step, flush_secs=10)
            for key, value in values.items():
                self._board.add_scalar(key, value, step)
