"""How near credits are to the truth, where it is known: responses of the demo's grammar.

The true contribution of a word is its Shapley value in the compositional sentiment of the whole text
(`scar_ray.tasks.sentiment`), the words of the prompt being there whatever is left out. A unit's truth is the sum over
its words; a word that several units share is divided by characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scar_ray.records import FloatArray, Response, TokenRewards, Units
from scar_ray.tasks.sentiment import Reading, read

SMALLEST = 1e-9
"""Contributions and credits nearer to 0 than this are 0: what is left of sums that cancel."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The true contributions of a response's words."""

    reading: Reading
    """Of prompt and response."""
    given: tuple[int, ...]
    """Words of the reading that begin in the prompt."""
    words: tuple[int, ...]
    """The other ones, W of them."""
    contributions_W: FloatArray

    def of_units(self, shares_Wn: FloatArray) -> FloatArray:
        """True contributions (n,) of units with these shares of the words."""
        return self.contributions_W @ shares_Wn


def truth_of(response: Response) -> Truth:
    """The truth about the words of `response`; they sum to its sentiment beyond that of the prompt alone."""
    start = len(response.prompt.text)
    reading = read(response.prompt.text + response.text)
    given = tuple(word for word, (first, _) in enumerate(reading.spans) if first < start)
    words = tuple(range(len(given), len(reading.words)))
    return Truth(reading, given, words, reading.contributions(given)[len(given) :])


def word_shares(truth: Truth, response: Response, units: Units) -> FloatArray:
    """Share (W, n) of each word's characters that each unit has; rows sum to 1."""
    start, bounds = len(response.prompt.text), [0, *(response.token_spans[end - 1][1] for end in units.ends)]
    shares_Wn = np.zeros((len(truth.words), len(units)))
    for row, word in enumerate(truth.words):
        first, last = (place - start for place in truth.reading.spans[word])
        shared_n = np.diff(np.clip(bounds, first, last))
        shares_Wn[row] = shared_n / (last - first)
    return shares_Wn


def rank_correlation(credits_n: FloatArray, truth_n: FloatArray) -> float | None:
    """Spearman's correlation with mean ranks for ties; 0 where all credits are equal, None where the truth is."""
    credits_n, truth_n = (_mean_ranks(_without_noise(values_n)) for values_n in (credits_n, truth_n))
    if len(truth_n) == 0 or np.ptp(truth_n) == 0:
        return None
    return 0.0 if np.ptp(credits_n) == 0 else float(np.corrcoef(credits_n, truth_n)[0, 1])


def sign_accuracy(credits_n: FloatArray, truth_n: FloatArray) -> float | None:
    """Share of the units with a true contribution whose credit has its sign, credits of 0 counted half; or None."""
    credits_n, truth_n = _without_noise(credits_n), _without_noise(truth_n)
    counted_n = truth_n != 0
    if not counted_n.any():
        return None
    return float(np.mean((1 + np.sign(credits_n[counted_n]) * np.sign(truth_n[counted_n])) / 2))


def truth_metrics(credited: Iterable[tuple[Response, TokenRewards]]) -> dict[str, float]:
    """Means of `truth_rank_correlation` and `truth_sign_accuracy` over the responses where they are defined.

    A measure that is defined for none of them is left out.
    """
    found: dict[str, list[float]] = {"truth_rank_correlation": [], "truth_sign_accuracy": []}
    for response, rewards in credited:
        truth = truth_of(response)
        truth_n = truth.of_units(word_shares(truth, response, rewards.units))
        for values, measure in zip(found.values(), (rank_correlation, sign_accuracy), strict=True):
            value = measure(rewards.credits_n, truth_n)
            if value is not None:
                values.append(value)
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def _without_noise(values_n: FloatArray) -> FloatArray:
    return np.where(np.abs(values_n) < SMALLEST, 0.0, values_n)


def _mean_ranks(values_n: FloatArray) -> FloatArray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse_n, counts = np.unique(values_n.round(9), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_ranks: FloatArray = last - (counts + 1) / 2
    return mean_ranks[inverse_n]
