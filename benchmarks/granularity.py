"""Is unit=auto as good as the best fixed unit at equal reward-model tokens? Responses of 8 to 48 tokens.

The target are the Shapley values of the single tokens. A unit's credit is placed at its last token, where it is
rewarded, and the error is that of the rewards summed up to each token (root mean square over tokens, relative to that
of the target): what reward-to-go sees. "spread" is the relative L2 error with each credit spread over its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
from long_responses import next_of_length
from numpy.typing import NDArray
from review_games import Scorer, deletion_game, sampled_shapley

from scar_ray.credit import ScarCredit
from scar_ray.games import shapley
from scar_ray.records import Units
from scar_ray.text.units import Unit, segment

LENGTHS = (8, 12, 16, 24, 32, 48)
BUDGETS = (8, 16, 32, 64, 128, 256)
UNITS: tuple[Unit, ...] = get_args(Unit)
MOST_EXACT = 12
"""Longer responses have sampled reference values."""


def compare(reviews: Iterator[str], tokenizer: Any, scorer: Scorer, each: int, pairs: int) -> dict[str, Any]:
    """One row for each response, unit and budget: what was taken, tokens and both errors."""
    rows = []
    for number, length in enumerate(np.repeat(LENGTHS, each).tolist()):
        response = next_of_length(reviews, tokenizer, length)
        every_token = segment(response, "token", length)
        fine = deletion_game(response, every_token, scorer, {})
        if length <= MOST_EXACT:
            target_T, _ = fine.credits(shapley(length))
        else:
            target_T, _ = sampled_shapley(fine, length, pairs, number)
        for unit in UNITS:
            for budget in BUDGETS:
                plan = ScarCredit(unit=unit, budget=budget).plan(response)
                assert plan.units is not None
                assert plan.game is not None
                game = deletion_game(response, plan.units, scorer, fine.known)
                credits_n, tokens = game.credits(plan.game)
                rows.append(
                    {"response": number, "length": length, "unit": unit, "budget": budget}
                    | {"taken": plan.units.granularity, "n": len(plan.units), "estimator": plan.game.estimator}
                    | {"evaluations": plan.game.n_coalitions, "tokens": tokens}
                    | unit_errors(credits_n, plan.units, target_T)
                )
    return {"rows": rows, "order_pairs": pairs}


def unit_errors(credits_n: NDArray[np.float64], units: Units, target_T: NDArray[np.float64]) -> dict[str, float]:
    """The errors of unit credits against those of the tokens."""
    ends, lengths = np.array(units.ends), np.subtract(units.ends, units.starts)
    placed_T = np.zeros(len(target_T))
    placed_T[ends - 1] = credits_n
    spread_T = np.repeat(credits_n / lengths, lengths)
    sums_T = np.cumsum(target_T)
    return {
        "placed": float(np.linalg.norm(np.cumsum(placed_T) - sums_T) / np.linalg.norm(sums_T)),
        "spread": float(np.linalg.norm(spread_T - target_T) / np.linalg.norm(target_T)),
    }
