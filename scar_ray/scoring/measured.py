"""What measuring the engines of a reward model found. Imports nothing heavy: the driver of a run reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace

MARGIN = 0.9
"""A later engine is taken only where it needs less than this share of the time: noise does not decide."""


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
