"""What a set of candidates is worth to its reader, and each candidate's Shapley share of that."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scar_ray.games import sets
from scar_ray.records import FloatArray

UtilityName = Literal["max", "top_m", "dcg", "mean", "max_floor", "coverage", "function"]
SetFunction = Callable[[Sequence[str], Sequence[float]], float]
"""Worth of a set from its candidates' texts and rewards, in the order of the response; also of the empty set."""


@dataclass(frozen=True, slots=True)
class SetUtility:
    """U(S) of a set S of candidates with texts and rewards r; `scar_ray.games.sets` has the closed forms."""

    name: UtilityName = "max"
    """max: the best r; top_m: the sum of the m best; dcg: the r in falling order, divided by log2(1 + rank); mean;
    max_floor: the best r, at least the floor; coverage: how many of `aspects` are named in the texts, whatever r;
    function: what a Python function says, by enumeration of all subsets."""
    m: int = 1
    aspects: tuple[str, ...] = ()
    function: SetFunction | None = None

    def value(self, texts: Sequence[str], rewards_K: FloatArray, floor: float) -> float:
        """U of all candidates; of none: the floor, 0 for coverage, what the function says."""
        if self.name == "function":
            return self._asked(texts, rewards_K, range(len(texts)))
        if self.name == "coverage":
            return float(self._covers(texts).any(axis=0).sum())
        if len(rewards_K) == 0:
            return floor
        falling_K = np.sort(rewards_K)[::-1]
        match self.name:
            case "top_m":
                return float(falling_K[: self.m].sum())
            case "dcg":
                return float(falling_K @ _discounts(len(falling_K)))
            case "mean":
                return float(falling_K.mean())
            case "max_floor":
                return max(floor, float(falling_K[0]))
            case _:
                return float(falling_K[0])

    def shapley(self, texts: Sequence[str], rewards_K: FloatArray, floor: float) -> FloatArray:
        """phi_K, which add up to U of all less U of none: the floor for max_floor, a function's own, else 0."""
        match self.name:
            case "top_m":
                return sets.top_m_sum(rewards_K, self.m)
            case "dcg":
                return sets.sorted_dcg(rewards_K, _discounts(len(rewards_K)))
            case "mean":
                return sets.mean(rewards_K)
            case "max_floor":
                return sets.max_with_floor(rewards_K, floor)
            case "coverage":
                return sets.coverage(self._covers(texts), np.ones(len(self.aspects)))
            case "function":
                return sets.enumerate_set_game(lambda S: self._asked(texts, rewards_K, S), len(texts))
            case _:
                return sets.max_values(rewards_K)

    def of_none(self, floor: float) -> float:
        """U of no candidate, in the game whose values `shapley` gives."""
        if self.name == "function":
            return self._asked((), np.zeros(0), ())
        return floor if self.name == "max_floor" else 0.0

    def _asked(self, texts: Sequence[str], rewards_K: FloatArray, S: Iterable[int]) -> float:
        """What the function says of the candidates S."""
        assert self.function is not None, "utility=function comes with one"
        members = tuple(S)
        return float(self.function(tuple(texts[k] for k in members), tuple(float(rewards_K[k]) for k in members)))

    def _covers(self, texts: Sequence[str]) -> np.ndarray:
        """(K, aspects): whether each text has the aspect's words, in any case."""
        patterns = [re.compile(rf"\b{re.escape(aspect)}\b", re.IGNORECASE) for aspect in self.aspects]
        return np.array([[bool(p.search(text)) for p in patterns] for text in texts], dtype=np.bool_).reshape(
            len(texts), len(patterns)
        )


def _discounts(K: int) -> FloatArray:
    return np.array([1.0 / math.log2(rank + 1) for rank in range(1, K + 1)])
