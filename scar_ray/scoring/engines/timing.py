"""Which of the engines that suit a model is the fastest on work of a given shape, by the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.classifier import Engine

MARGIN = 0.9
"""A later engine is taken only where it needs less than this share of the time: noise does not decide."""
TRIAL = 8
"""An engine that needs longer for one sequence of so many than another one for all of them is given up."""
REPEATS = 2


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each engine on the same sequences."""

    sequences: int
    tokens: int
    seconds: dict[str, float | None]
    """By engine, in the order of preference; None where it was given up as slower than the best one before it."""

    @property
    def fastest(self) -> str:
        best, *others = self.seconds
        for name in others:
            if (self.seconds[name] or float("inf")) < MARGIN * (self.seconds[best] or float("inf")):
                best = name
        return best

    def beside(self, other: Measured) -> Measured:
        """With the seconds of engines that were measured in another process, on sequences of the same number."""
        assert self.sequences == other.sequences, (self, other)
        return replace(self, seconds=self.seconds | other.seconds)

    def __str__(self) -> str:
        times = ", ".join(f"{name} {'slower' if s is None else f'{s:.3g} s'}" for name, s in self.seconds.items())
        return f"{self.sequences} sequences of {self.tokens / self.sequences:.0f} tokens: {times}"


def measure(engines: Sequence[Engine], sequences: Sequence[Encoded]) -> Measured:
    """Seconds of the engines, the least of some runs, on the sequences of one response.

    A first run on a part of them warms caches and threads up, and does not count.
    """
    part = sequences[::TRIAL]
    seconds: dict[str, float | None] = {}
    for engine in engines:
        best = min((known for known in seconds.values() if known is not None), default=float("inf"))
        if all(_seconds(engine, part) > best for _ in range(REPEATS)):
            seconds[engine.name] = None
        else:
            seconds[engine.name] = min(_seconds(engine, sequences) for _ in range(REPEATS))
    return Measured(len(sequences), sum(map(len, sequences)), seconds)


def _seconds(engine: Engine, sequences: Sequence[Encoded]) -> float:
    started = time.perf_counter()
    engine.scores(sequences, [range(len(sequences))])
    return time.perf_counter() - started
