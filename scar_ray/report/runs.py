"""Reads run folders: also of a run that is still going, or that was stopped in the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_EVALUATED = "eval/"
"""Beginning of the names of metrics on held-out prompts."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One response of samples.jsonl."""

    step: int
    prompt: str
    response: str
    score: float
    """The reward model's score, before clipping and penalties."""
    final: float
    finished: bool
    base: float
    """v(empty), the score of the empty response, where the method measured one."""
    residual: float
    units: tuple[tuple[str, float], ...]
    """Text and credit of each unit."""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work; seconds since its step began."""

    start: float
    end: float
    what: str


@dataclass(frozen=True, slots=True)
class Lane:
    """What one actor did in a step."""

    name: str
    role: str
    """One of rollout, learner, reward."""
    spans: tuple[Span, ...]
    marks: tuple[float, ...]
    """When an engine finished its responses."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """One step of timeline.jsonl."""

    step: int
    seconds: float
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a report needs of a run folder."""

    name: str
    task: str
    credit: str
    seed: int
    status: str
    device: str
    """"GPU" or "CPU": what cost/* counts the seconds of."""
    planned: int | None
    """Steps the run is meant to have."""
    settings: Mapping[str, str]
    """The resolved configuration, flat: dotted name to value."""
    columns: Mapping[str, FloatArray]
    """Metrics by name, one value a step, NaN where a step has none; "step" is always there, increasing."""
    held_out: Mapping[str, FloatArray]
    """Measures of the evaluations on held-out prompts by name, "reward" and "kl_k1" for instance, one value for each;
    "step" is always there, 0 before the first step."""
    samples: tuple[Sample, ...]
    timeline: tuple[Timeline, ...]
    """The logged steps, increasing."""

    @property
    def steps(self) -> FloatArray:
        return self.columns["step"]

    def series(self, key: str) -> FloatArray:
        """Values of a metric, one a step; all NaN for a metric that the run never logged."""
        return self.columns.get(key, np.full(len(self.steps), np.nan))


def read_run(folder: Path) -> Run:
    """Reads one run folder. ValueError, in one line, for a folder that is no run or has broken files."""
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder} is no run folder (it has no run.json); give a folder that `scar-ray train` made")
    run = _read_json(folder / "run.json")
    missing = sorted({"task", "credit", "seed"} - run.keys())
    if missing:
        raise ValueError(f"{folder / 'run.json'} lacks {', '.join(missing)}; is it a run of this version?")
    config = _read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    settings = _flatten(config)
    planned = settings.get("trainer.steps")
    lines = _read_lines(folder / "metrics.jsonl")
    evaluations = [line for line in lines if _EVALUATED + "reward" in line]
    return Run(
        name=str(run.get("name", folder.name)),
        task=str(run["task"]),
        credit=str(run["credit"]),
        seed=int(run["seed"]),
        status=str(run.get("status", "unknown")),
        device="GPU" if settings.get("cluster.device") == "cuda" else "CPU",
        planned=int(planned) if planned is not None else None,
        settings=settings,
        columns=_columns([line for line in lines if line["step"] > 0]),
        held_out={key.removeprefix(_EVALUATED): values for key, values in _columns(evaluations).items()},
        samples=tuple(_sample(record) for record in _read_lines(folder / "samples.jsonl")),
        timeline=_timelines(folder / "timeline.jsonl"),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a JSON object: {error}") from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON Lines file, none when it is absent; a last line without its newline is left out."""
    if not path.is_file():
        return []
    records = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
                int(record["step"])
            except (ValueError, TypeError, KeyError):
                raise ValueError(f"{path} line {number} is not a JSON record with a step: {line[:60]!r}") from None
            records.append(record)
    return records


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _columns(records: list[dict[str, Any]]) -> dict[str, FloatArray]:
    """One array a metric, in the order of the steps; of a step logged twice the later line counts."""
    by_step = {int(record["step"]): record for record in records}
    steps = sorted(by_step)
    rows = [by_step[step] for step in steps]
    keys = {key: None for row in rows for key in row}
    columns = {key: np.array([row.get(key) for row in rows], dtype=np.float64) for key in keys}
    return {**columns, "step": np.array(steps, dtype=np.float64)}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _sample(record: Mapping[str, Any]) -> Sample:
    return Sample(
        step=int(record["step"]),
        prompt=str(record.get("prompt", "")),
        response=str(record.get("response", "")),
        score=_number(record.get("score")),
        final=_number(record.get("final")),
        finished=bool(record.get("finished", False)),
        base=_number(record.get("base")),
        residual=_number(record.get("residual")),
        units=tuple((str(unit["text"]), _number(unit["credit"])) for unit in record.get("units", ())),
    )


def _timelines(path: Path) -> tuple[Timeline, ...]:
    """In the order of the steps; of a step logged twice the later line counts."""
    found: dict[int, Timeline] = {}
    for record in _read_lines(path):
        step = int(record["step"])
        try:
            found[step] = _timeline(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: step {step} is no timeline ({type(error).__name__}: {error})") from None
    return tuple(found[step] for step in sorted(found))


def _timeline(record: Mapping[str, Any]) -> Timeline:
    lanes = tuple(
        Lane(
            str(lane["name"]),
            str(lane["role"]),
            tuple(Span(float(start), float(end), str(what)) for start, end, what in lane["spans"]),
            tuple(float(at) for at in lane.get("marks", ())),
        )
        for lane in record.get("lanes", ())
    )
    ends = [span.end for lane in lanes for span in lane.spans]
    return Timeline(int(record["step"]), max([float(record.get("seconds", 0.0)), 1e-3, *ends]), lanes)
