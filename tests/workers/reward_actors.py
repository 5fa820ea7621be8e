"""Reward actors for tests: real ones whose process can be made to end, and scripted ones without a model."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from actor_paths import importing_from

from scar_ray.config.schema import ClusterConfig
from scar_ray.games import shapley
from scar_ray.records import CreditPlan, Evaluation, Prompt, Question, Response, Units
from scar_ray.scoring import SampleFailed, Workload
from scar_ray.workers.environment import actor_env

if TYPE_CHECKING:
    from scar_ray.scoring.measured import Measured
    from scar_ray.workers.reward import RewardOptions


class Fragile:
    """A real reward worker that dies once, in the middle of a task, when the text of a prompt is `die <file>`."""

    def __init__(self, name: str, options: RewardOptions) -> None:
        from scar_ray.workers.reward import RewardWorker

        self._worker = RewardWorker(name, options)

    def ready(self) -> str:
        return self._worker.ready()

    def evaluate(self, jobs: list[Any]) -> Any:
        for what, file in scripts(jobs):
            if what == "die" and not file.exists():
                file.touch()
                os._exit(1)
        return self._worker.evaluate(jobs)


class Scripted:
    """Scores a response with its row plus what its prompt's text says after the last space.

    The text's first word is what happens: `die` ends the process, `fail` refuses the sample, `break` raises,
    `crack <number>` raises where one of the coalitions spells the number,
    `hang <file>` makes the first actor that is asked make the file and sleep for ever,
    `wait <file>` makes the first actor that is asked write its name to `<file>.who` and wait for the file.
    """

    def __init__(self, name: str, gate: str = "") -> None:
        """Where the file `gate` is there it waits until `gate`.open is."""
        if gate and Path(gate).exists():
            wait_for(Path(f"{gate}.open"))
        self._name = name
        self._seen: list[int] = []

    def ready(self) -> str:
        return self._name

    def renew(self, name: str) -> None:
        """Has another name and was asked nothing."""
        self._name, self._seen = name, []

    def seen(self) -> list[int]:
        """The rows it was asked about, in order."""
        return self._seen

    def evaluate(self, jobs: list[Any]) -> Any:
        self._seen += [response.row for response, _ in jobs]
        for what, file in scripts(jobs):
            if what == "die":
                os._exit(1)
            if what == "fail":
                raise SampleFailed(f"sample {file}: no score")
            if what == "break":
                raise RuntimeError("out of order")
            if what == "wait" and not file.with_suffix(".who").exists():
                write_at_once(file.with_suffix(".who"), self._name)
                wait_for(file)
            if what == "hang" and not file.exists():
                file.touch()
                while True:
                    time.sleep(3600)
            if what == "crack":
                check(jobs, int(file.name))
        evaluations = [answer(*job) for job in jobs]
        asked_tokens = sum(evaluation.asked_tokens for evaluation in evaluations)
        work = Workload(len(jobs), 0, 1, asked_tokens, tokens=10, computed_tokens=20, padding_tokens=3)
        return evaluations, work, 0.5


def answer(response: Response, asked: Question) -> Evaluation:
    """The score, and as the value of a coalition the binary number that its members spell; 15 tokens each."""
    score = response.row + bonus(response) if asked.scored else np.nan
    if asked.coalitions_Cn is None:
        return Evaluation(score, asked_tokens=15)
    lengths_C = np.full(len(asked.coalitions_Cn), 15)
    return Evaluation(
        score, numbers(asked.coalitions_Cn), asked_tokens=15 * (asked.scored + len(lengths_C)), lengths_C=lengths_C
    )


def numbers(coalitions_Cn: np.ndarray) -> np.ndarray:
    """The binary number that the members of each coalition spell."""
    return coalitions_Cn @ (2.0 ** np.arange(coalitions_Cn.shape[1]))


def check(jobs: list[Any], number: int) -> None:
    """Raises where one of the coalitions spells the number."""
    for _, asked in jobs:
        if asked.coalitions_Cn is not None and number in numbers(asked.coalitions_Cn):
            raise OverflowError("it cracks")


def scripts(jobs: list[Any]) -> list[tuple[str, Path]]:
    """The first and the second word of every prompt's text."""
    words = [[*response.prompt.text.split(), "", ""] for response, _ in jobs]
    return [(what, Path(file)) for what, file, *_ in words]


def bonus(response: Response) -> float:
    last = response.prompt.text.rpartition(" ")[2]
    return float(last) if last.replace(".", "").isdigit() else 0.0


def write_at_once(file: Path, text: str) -> None:
    """The file is there when all of the text is."""
    file.with_suffix(".part").write_text(text)
    file.with_suffix(".part").rename(file)


def wait_for(file: Path) -> None:
    """Waits until somebody has made the file; for a minute at most."""
    for _ in range(1200):
        if file.exists():
            return
        time.sleep(0.05)
    raise TimeoutError(file)


def told(response: Response, text: str) -> Response:
    """The same response to the same prompt tokens, with a script for a text."""
    return replace(response, prompt=replace(response.prompt, text=text))


def blank(row: int, text: str = "", units: int = 0) -> tuple[Response, CreditPlan]:
    """A job for a scripted actor: a response of `units` tokens and EOS, with all their coalitions if there are any."""
    spans = ((0, 0),) * (units + 1)
    logprobs = np.zeros(units + 1, np.float32)
    ids = (*range(1, units + 1), 0)
    response = Response(row, replace(prompts(row + 1)[row], text=text), 0, ids, "", spans, True, logprobs, 0, "engine")
    if units == 0:
        return response, CreditPlan()
    return response, CreditPlan(Units(tuple(range(1, units + 1)), tuple(range(units))), shapley(units))


def prompts(count: int) -> list[Prompt]:
    """Prompts of a token, all different."""
    return [Prompt(row, (5 + row,), "") for row in range(count)]


def come_back(actors: list[Any]) -> list[str]:
    """The names of the actors, once all that are being started again are there."""
    names = []
    for actor in actors:
        while True:
            try:
                names.append(ray.get(actor.ready.remote()))
                break
            except ray.exceptions.ActorUnavailableError:
                time.sleep(0.1)
    return names


class Measurer:
    """A reward actor that has measured these seconds, or does not load."""

    def __init__(self, name: str, seconds: dict[str, float | None] | str | None) -> None:
        if isinstance(seconds, str):
            raise ValueError(seconds)
        self._name, self._seconds = name, seconds

    def ready(self) -> str:
        return self._name

    def measure(self, response: Response, plan: CreditPlan) -> Measured | None:
        from scar_ray.scoring.measured import Measured

        assert response.n_tokens == 24
        assert plan.game is not None
        return None if self._seconds is None else Measured(10, 300, self._seconds)


def start(actor_class: type, names: list[str], *arguments: Any, restarts: int = 0) -> list[Any]:
    """Actors with the environment of the product."""
    environment = actor_env(ClusterConfig()) | importing_from(Path(__file__).parent)
    actor = ray.remote(actor_class).options(num_cpus=0.1, max_restarts=restarts, runtime_env={"env_vars": environment})
    return [actor.remote(name, *arguments) for name in names]
