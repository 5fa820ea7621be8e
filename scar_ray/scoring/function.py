"""A Python function in place of a reward model.

It reads a list of samples (`scar_ray.records.Sample`: the texts of prompt and response, and what else the task knows
about the prompt) and returns one number for each:

    def score(samples, minimum=3):
        return [float(len(sample.response.split()) >= minimum) for sample in samples]

`model.reward.function=my_rewards:score model.reward.options.minimum=5` uses it. A function may be `async`. A class is
made once in each actor, with the options, and its object is called with the samples; with `waits = True` it says that
its calls wait for something else, so that several are made at the same time (`cluster.reward.parallel_calls`).

v(S) is the function's value of the response reduced to the characters of the units in S. Equal texts are asked once.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.schema import Masking, RewardModelConfig
from scar_ray.records import Evaluation, Question, Response, Sample
from scar_ray.scoring.encoding import Alike, char_ranges
from scar_ray.scoring.errors import RewardUnavailable, SampleFailed, name_of
from scar_ray.scoring.loading import load_function
from scar_ray.scoring.words import Words
from scar_ray.scoring.workload import Workload

WAITING_CALLS = 8
"""Calls at the same time of functions that wait."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A sample and who asks for it first."""

    sample: Sample
    response: Response
    number: int
    """0: the full response; k + 1: coalition k."""

    def __str__(self) -> str:
        return name_of(self.response) + (f", coalition {self.number - 1}" if self.number else "")


class FunctionReward:
    """A user's function as reward r(x, y) and game v(S)."""

    gives_attention = False
    appends_eos = False
    engine = "function"
    """Every text is scored for itself."""
    alike: Alike = "text"
    fill_token = -1

    def __init__(
        self,
        config: RewardModelConfig,
        *,
        masking: Masking = "delete",
        batch_texts: int = 256,
        parallel_calls: int | None = None,
    ) -> None:
        """ValueError where the function cannot be loaded or does not take its options."""
        self.tokenizer = Words()
        self._name, self._batch_texts = config.function, batch_texts
        self._function = load_function(config)
        waits = getattr(self._function, "waits", False) or is_async(self._function)
        self._calls = parallel_calls or (WAITING_CALLS if waits else 1)
        self._masking = self._checked(masking)
        log.info("%s: texts are scored by %d calls at a time of %d texts", self._name, self._calls, batch_texts)

    def masked(self, masking: Masking) -> FunctionReward:
        """The same function with another masking. ValueError when texts cannot be masked that way."""
        other = copy.copy(self)
        other._masking = self._checked(masking)
        return other

    def _checked(self, masking: Masking) -> Masking:
        if masking not in ("delete", "blank"):
            raise ValueError(
                f"credit.masking={masking} is about a model's tokens, model.reward.function={self._name} reads text; "
                "use delete or blank"
            )
        return masking

    def evaluate(
        self, jobs: Sequence[tuple[Response, Question]], *, check_finite: bool = True
    ) -> tuple[list[Evaluation], Workload]:
        """Evaluations of the jobs, in their order; see `RewardModel.evaluate`.

        Raises SampleFailed, naming sample and function, where the function raises, answers with something else than
        one number for each sample, or with one that is not finite; RewardUnavailable where it cannot be reached.
        """
        assert not any(question.attention for _, question in jobs), "a function has no attention"
        rows: dict[tuple[object, ...], int] = {}
        asked: list[_Asked] = []
        wanted: list[list[int]] = []
        for response, question in jobs:
            wanted.append([])
            texts = enumerate(reduced_texts(response, question, self._masking))
            for number, text in texts if question.scored else islice(texts, 1, None):
                prompt = response.prompt
                key = (prompt.text, text, prompt.index if prompt.data else None)
                if key not in rows:
                    rows[key] = len(asked)
                    asked.append(_Asked(Sample(prompt.text, text, prompt.data), response, number))
                wanted[-1].append(rows[key])
        values = self._values(asked)
        if check_finite:
            self._check_finite(values, asked)
        evaluations = []
        for own, (_, question) in zip(wanted, jobs, strict=True):
            plain, values_C = np.split(values[own], [int(question.scored)])
            score = float(plain[0]) if question.scored else float("nan")
            evaluations.append(Evaluation(score, None if question.coalitions_Cn is None else values_C))
        return evaluations, Workload(asked=sum(map(len, wanted)), unique=len(asked))

    def _values(self, asked: Sequence[_Asked]) -> NDArray[np.float64]:
        batches = [asked[start : start + self._batch_texts] for start in range(0, len(asked), self._batch_texts)]
        if self._calls == 1:
            answers = list(map(self._call, batches))
        else:
            with ThreadPoolExecutor(self._calls) as threads:
                answers = list(threads.map(self._call, batches))
        return np.array([value for answer in answers for value in answer], dtype=np.float64)

    def _call(self, batch: Sequence[_Asked]) -> list[float]:
        """The function's values of a batch."""
        try:
            answer = self._ask(batch)
        except RewardUnavailable:
            raise
        except Exception as error:  # whatever a user's function raises; it is told with the sample that it failed on
            failed, cause = self._culprits(batch, error)
            others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise SampleFailed(
                f"{failed[0]}{others}: model.reward.function={self._name} raised {type(cause).__name__}: "
                f"{_one_line(cause)}; a function must give every text a number, an empty response too"
            ) from cause
        numbers = answer.tolist() if hasattr(answer, "tolist") else answer
        if not isinstance(numbers, list | tuple) or len(numbers) != len(batch):
            got = f"{len(numbers)} values" if isinstance(numbers, list | tuple) else _described(numbers)
            raise SampleFailed(
                f"{batch[0]} and what follows: model.reward.function={self._name} returned {got} for {len(batch)} "
                "samples; it must return a list with one number for each"
            )
        return [self._number(value, one) for value, one in zip(numbers, batch, strict=True)]

    def _ask(self, batch: Sequence[_Asked]) -> Any:
        answer = self._function([one.sample for one in batch])
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer

    def _culprits(self, batch: Sequence[_Asked], error: Exception) -> tuple[Sequence[_Asked], Exception]:
        """The part of a failed batch that fails by itself, one sample where possible, and how it fails."""
        halves = [batch[: len(batch) // 2], batch[len(batch) // 2 :]] if len(batch) > 1 else []
        for half in halves:
            try:
                self._ask(half)
            except Exception as again:
                return self._culprits(half, again)
        return batch, error

    def _number(self, value: Any, one: _Asked) -> float:
        number = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
        if not isinstance(number, Real):
            raise SampleFailed(
                f"{one}: model.reward.function={self._name} returned {_described(value)}; it must return a number"
            )
        return float(number)

    def _check_finite(self, values: NDArray[np.float64], asked: Sequence[_Asked]) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise SampleFailed(
                f"{asked[bad[0]]}: model.reward.function={self._name} returned {values[bad[0]]}; it must return a "
                "finite number"
            )


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calls of it are to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def reduced_texts(response: Response, question: Question, masking: Masking) -> Iterator[str]:
    """The response's text, then that of every coalition that is asked for.

    delete cuts the characters of the other units out, blank puts one blank for each of their tokens.
    """
    yield response.text
    if question.coalitions_Cn is None:
        return
    units = question.units
    assert units is not None
    pieces = [response.text[start:end] for start, end in char_ranges(response, units)]
    fills = [" " * (stop - first) for first, stop in zip(units.starts, units.ends, strict=True)]
    if masking == "delete":
        fills = [""] * len(pieces)
    for present_n in question.coalitions_Cn.tolist():
        yield "".join(piece if present else fill for piece, fill, present in zip(pieces, fills, present_n, strict=True))


def _described(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
