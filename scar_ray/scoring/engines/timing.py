"""Which of the engines that suit a model is the fastest on work of a given shape, by the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.classifier import Engine
from scar_ray.scoring.measured import Measured

TRIAL = 8
"""An engine that needs longer for one sequence of so many than another one for all of them is given up."""
REPEATS = 2


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
