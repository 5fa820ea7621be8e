"""Two policies' responses to the same prompts, compared by a language model: in which order, and what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scar_ray.judge.criteria import Verdict
from scar_ray.judge.responses import Answers

RESAMPLES = 10_000
"""Bootstrap resamples of an interval."""
SCORE = {"A": 1.0, "tie": 0.5, "B": 0.0}
"""What a verdict is worth to the response that was shown as A."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question to the judge."""

    pair: int
    """Number of the pair, from 0."""
    swapped: bool
    """True where the second policy's response is shown as A."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Win rate of the first policy over the second, and everything that was counted on the way."""

    pairs: int
    wins: int
    ties: int
    """Pairs without a winner: the verdicts say so or take back one another, or the responses are the same."""
    losses: int
    identical: int
    """Pairs of equal responses, which are ties that nobody was asked about."""
    unparsed: int
    """Pairs left out: an answer held no verdict."""
    unanswered: int
    """Pairs left out: the endpoint gave no answer."""
    win_rate: float
    """(wins + ties / 2) / pairs that count, where half-won pairs count as such; NaN without any."""
    low: float
    """The 95 % bootstrap interval of the win rate, over prompts."""
    high: float
    first_shown: float
    """Share of the verdicts that are no ties for the response shown first; 0.5 without a bias, NaN without any."""
    agreement: float
    """Share of the pairs judged in both orders whose two verdicts agree; NaN without any."""


def plan(first: Answers, second: Answers, *, both_orders: bool, seed: int) -> list[Comparison]:
    """The questions to ask: none about equal responses.

    In both orders, or in one drawn at random such that each policy is shown first in half of the pairs.
    """
    differ = [n for n, (one, other) in enumerate(zip(first.rows, second.rows, strict=True)) if one != other]
    if both_orders:
        return [Comparison(pair, swapped) for pair in differ for swapped in (False, True)]
    half = np.arange(len(differ)) % 2 == 1
    swapped_n = np.random.default_rng(seed).permutation(half)
    return [Comparison(pair, bool(swapped)) for pair, swapped in zip(differ, swapped_n, strict=True)]


def outcome(
    prompts: Sequence[str],
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict | None],
    answered: Sequence[bool],
    seed: int,
) -> Outcome:
    """What the verdicts, one for each comparison, amount to; `prompts` has one for each pair.

    A pair counts with the mean of its verdicts. A verdict that cannot be read is not guessed: its pair is left out.
    """
    scores: dict[int, list[float]] = {pair: [] for pair in range(len(prompts))}
    left_out: dict[int, str] = {}
    for comparison, verdict, there in zip(comparisons, verdicts, answered, strict=True):
        if not there:
            left_out[comparison.pair] = "unanswered"
        elif verdict is None:
            left_out.setdefault(comparison.pair, "unparsed")
        else:
            score = SCORE[verdict]
            scores[comparison.pair].append(1.0 - score if comparison.swapped else score)
    identical = sum(not found for pair, found in scores.items() if pair not in left_out)
    counted = {pair: float(np.mean(found)) if found else 0.5 for pair, found in scores.items() if pair not in left_out}
    reasons = Counter(left_out.values())
    values = np.array(list(counted.values()))
    low, high = interval(values, [prompts[pair] for pair in counted], seed)
    decided = [verdict for verdict in verdicts if verdict in ("A", "B")]
    twice = [found for pair, found in scores.items() if pair not in left_out and len(found) == 2]
    return Outcome(
        pairs=len(prompts),
        wins=int((values > 0.5).sum()),
        ties=int((values == 0.5).sum()),
        losses=int((values < 0.5).sum()),
        identical=identical,
        unparsed=reasons["unparsed"],
        unanswered=reasons["unanswered"],
        win_rate=float(values.mean()) if len(values) else float("nan"),
        low=low,
        high=high,
        first_shown=decided.count("A") / len(decided) if decided else float("nan"),
        agreement=float(np.mean([one == other for one, other in twice])) if twice else float("nan"),
    )


def interval(values: np.ndarray, prompts: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; prompts are drawn, with all their pairs. NaN without values."""
    if not len(values):
        return float("nan"), float("nan")
    _, owner = np.unique(np.array(prompts), return_inverse=True)
    sums, counts = np.bincount(owner, weights=values), np.bincount(owner)
    rng = np.random.default_rng(seed)
    drawn_RK = rng.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=RESAMPLES)
    means = drawn_RK @ sums / (drawn_RK @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
