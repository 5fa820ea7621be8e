"""Sums in several steps from the project's own generator: problems, worked answers, and the rule that checks them.

A prompt is "12 + 7 - 5 =", its worked answer one line for each step:

    12 + 7 = 19
    19 - 5 = 14

The reward is 1 where the last number of the response is the answer, else 0: it says nothing about partial responses.
What a step should be is known, and so is the first step that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from scar_ray.records import FloatArray, Response, Sample, TokenRewards, Units

LARGEST = 20
"""All numbers on the way are from 0 to this."""
FEWEST_STEPS, MOST_STEPS = 3, 5
MOST_ADDED = 9
"""Largest number that a step adds or takes away."""
OFF_BY = 3
"""Most that a demonstrated mistake is off by."""
ARITHMETIC_PROBLEMS = {"train": (1, 20_000), "test": (2, 1_000)}
"""Seed and number of the problems of `task=arithmetic`."""

_PROBLEM = re.compile(r"(\d+)((?: [+-] \d+)+) =")


@dataclass(frozen=True, slots=True)
class Problem:
    """A first number, and signed numbers that are added one after the other."""

    first: int
    added: tuple[int, ...]

    @property
    def prompt(self) -> str:
        return " ".join([str(self.first), *map(_signed, self.added), "="])

    @property
    def lines(self) -> list[str]:
        """The steps as they should be."""
        values = list(accumulate(self.added, initial=self.first))
        return [
            f"{before} {_signed(added)} = {after}"
            for added, (before, after) in zip(self.added, pairwise(values), strict=True)
        ]

    @property
    def worked(self) -> str:
        """The completion to learn from."""
        return "".join(f"\n{line}" for line in self.lines)

    def worked_with_mistakes(self, rng: np.random.Generator, share: float) -> str:
        """The same, each step with another result with that probability; what follows goes on from what is written.

        The result is off by at most `OFF_BY`, and all that follows stays in the range of numbers; where no other
        result does, the step is right.
        """
        value, text = self.first, ""
        for step, added in enumerate(self.added):
            right = value + added
            ahead = list(accumulate(self.added[step + 1 :], initial=0))
            possible = [
                right + off
                for off in range(-OFF_BY, OFF_BY + 1)
                if off and all(0 <= right + off + more <= LARGEST for more in ahead)
            ]
            written = int(rng.choice(possible)) if possible and rng.random() < share else right
            text += f"\n{value} {_signed(added)} = {written}"
            value = written
        return text

    @property
    def answer(self) -> int:
        return self.first + sum(self.added)


def _signed(number: int) -> str:
    return f"{'+' if number >= 0 else '-'} {abs(number)}"


def problems(seed: int, count: int) -> list[Problem]:
    """`count` problems of 3-5 steps, the same for the same seed; no two neighbours on the way are equal."""
    rng = np.random.default_rng(seed)
    return [_problem(rng) for _ in range(count)]


def _problem(rng: np.random.Generator) -> Problem:
    value = first = int(rng.integers(1, LARGEST + 1))
    added: list[int] = []
    for _ in range(int(rng.integers(FEWEST_STEPS, MOST_STEPS + 1))):
        possible = [
            number for number in range(-MOST_ADDED, MOST_ADDED + 1) if number != 0 and 0 <= value + number <= LARGEST
        ]
        added.append(possible[int(rng.integers(len(possible)))])
        value += added[-1]
    return Problem(first, tuple(added))


def read_problem(prompt: str) -> Problem:
    """The problem that a prompt asks for. ValueError where it is none."""
    found = _PROBLEM.fullmatch(prompt.strip())
    if found is None:
        raise ValueError(f"{prompt!r} is no sum in steps; write a prompt such as '12 + 7 - 5 ='")
    numbers = found[2].replace("+ ", "").replace("- ", "-").split()
    return Problem(int(found[1]), tuple(map(int, numbers)))


def correct(samples: Sequence[Sample]) -> list[float]:
    """The reward: 1 where the last number of the response is the answer of the prompt, else 0.

    `model.reward.function=scar_ray.tasks.arithmetic:correct`. ValueError for a prompt of another task.
    """
    return [float(final_number(sample.response) == read_problem(sample.prompt).answer) for sample in samples]


def final_number(text: str) -> int | None:
    """The last number of a text; None without any."""
    numbers = re.findall(r"\d+", text)
    return int(numbers[-1]) if numbers else None


def first_wrong_line(problem: Problem, text: str) -> int | None:
    """Character at which the first line begins that is not as it should be; None where there is none.

    Lines that are missing at the end are no wrong ones.
    """
    for number, found in enumerate(re.finditer(r"[^\n]+", text)):
        if number >= len(problem.lines) or found[0] != problem.lines[number]:
            return found.start()
    return None


def wrong_unit(response: Response, units: Units) -> int | None:
    """The unit that holds the beginning of the first wrong line; None without one, or where the answer is right."""
    problem = read_problem(response.prompt.text)
    at = first_wrong_line(problem, response.text)
    if at is None or final_number(response.text) == problem.answer:
        return None
    ends = [response.token_spans[end - 1][1] for end in units.ends]
    return next(number for number, end in enumerate(ends) if at < end)


def rank_of(credits_n: FloatArray, unit: int) -> float:
    """Rank of a unit's credit from the lowest, 1, with mean ranks for ties."""
    below, equal = np.sum(credits_n < credits_n[unit]), np.sum(credits_n == credits_n[unit])
    return float(below + (equal + 1) / 2)


def wrong_step_metrics(credited: Iterable[tuple[Response, TokenRewards]]) -> dict[str, float]:
    """How often the first wrong step of a response of several units and a wrong answer has the lowest credit.

    A lowest credit that several units have counts as one chance among them. Empty without such responses.
    """
    found = list(_found(credited))
    return {"credit/wrong_step_lowest": float(np.mean(found)), "credit/wrong_steps": float(len(found))} if found else {}


def _found(credited: Iterable[tuple[Response, TokenRewards]]) -> Iterator[float]:
    for response, rewards in credited:
        unit = wrong_unit(response, rewards.units)
        if unit is not None and len(rewards.units) > 1:
            lowest = rewards.credits_n == rewards.credits_n.min()
            yield lowest[unit] / lowest.sum()
