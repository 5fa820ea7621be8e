"""The probe's verdict on one masking: the worst of these checks.

| check                                                        | meaningful | use with care | else           |
|--------------------------------------------------------------|------------|---------------|----------------|
| share of values that are not finite                          | 0          | to 1 %        | not meaningful |
| rank correlation with the full score, half removed           | from 0.5   | from 0.3      | not meaningful |
| rank correlation of a unit's effects alone and in the full   | from 0.3   | from 0.1      | not meaningful |
| lift of removing the units that help or hurt most            | from 0.1   | from 0.03     | not meaningful |
| share of the variance that length explains                   | to 0.3     | to 0.9        | not meaningful |
| drift with length, in standard deviations of the full score  | -1 to 1    | beyond        |                |
| change by content words over change by function words        | from 1.1   | below         |                |

Where half the units of equal, independent weight are removed, an additive score correlates with the full one at 0.71.
What could not be measured, such as the correlation of a constant, is not meaningful; the ratio of content words is
judged only where it could be measured (the words of both kinds are English). Recommended is the masking with the best
verdict, of equal ones the one whose rank correlations with the full score (half removed) and of the effects are
largest together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scar_ray.analysis.probe_design import FRACTIONS
from scar_ray.analysis.probe_statistics import Statistics
from scar_ray.config.schema import Masking

Verdict = Literal["meaningful", "use with care", "not meaningful"]
VERDICTS: tuple[Verdict, ...] = ("meaningful", "use with care", "not meaningful")
_HALF = FRACTIONS.index(0.5)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one masking."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """The checks that were not "meaningful", worst first, with the number and the rule; those passed where none."""


def judge(found: Statistics) -> Judgement:
    """The worst of the checks of the table, and what it was."""
    failed = [(level, reason) for level, reason in _checks(found) if level > 0]
    if not failed:
        half, effects, lift = found.spearman[_HALF], found.effect_spearman, found.lift
        return Judgement(
            VERDICTS[0],
            (
                f"with half removed the scores still rank the responses (correlation {half:.2f}), effects of units "
                f"carry over from alone to the full response ({effects:.2f}), and removing what helps or hurts moves "
                f"the score the right way {100 * lift:.0f} points more often than removing at random",
            ),
        )
    failed.sort(key=lambda each: -each[0])
    return Judgement(VERDICTS[failed[0][0]], tuple(reason for _, reason in failed))


def recommended(statistics: Mapping[Masking, Statistics]) -> Masking:
    """The masking to use, by the rule of the module; the first of equal ones."""

    def quality(masking: Masking) -> tuple[int, float]:
        found = statistics[masking]
        total = found.spearman[_HALF] + found.effect_spearman
        return -VERDICTS.index(judge(found).verdict), -math.inf if math.isnan(total) else total

    return max(statistics, key=quality)


def _checks(found: Statistics) -> list[tuple[int, str]]:
    """Level (0 meaningful, 1 with care, 2 not) and reason of every check, in the order of the table."""
    half, effects, ratio = found.spearman[_HALF], found.effect_spearman, found.content_ratio
    return [
        (
            _level(-found.nonfinite, 0.0, -0.01),
            f"{100 * found.nonfinite:.2g} % of the values are not finite; none should be",
        ),
        (
            _level(half, 0.5, 0.3),
            "with half of the units removed the scores do not rank the responses as the full scores do (rank "
            f"correlation {_told(half)}; 0.5 is meaningful)",
        ),
        (
            _level(effects, 0.3, 0.1),
            "what a unit does alone says little about what it does in the full response (rank correlation "
            f"{_told(effects)}; 0.3 is meaningful)",
        ),
        (
            _level(found.lift, 0.1, 0.03),
            "removing the units that help or hurt most moves the score the right way hardly more often than removing "
            f"random ones (lift {_told(found.lift)}; 0.1 is meaningful)",
        ),
        (
            _level(-found.length_r2, -0.3, -0.9),
            f"the number of characters kept explains {100 * found.length_r2:.0f} % of the variance of the scores; "
            "30 % is meaningful",
        ),
        (
            _level(-abs(found.drift), -1.0, -math.inf),
            f"the score drifts with length by itself: {found.drift:+.1f} standard deviations from nothing kept to all "
            "kept; 1 is meaningful",
        ),
        (
            0 if math.isnan(ratio) else _level(ratio, 1.1, -math.inf),
            f"content words change the score no more than function words (ratio {_told(ratio)}; 1.1 is meaningful)",
        ),
    ]


def _level(value: float, meaningful: float, care: float) -> int:
    """0, 1 or 2 by the two lower bounds; 2 for NaN."""
    return 0 if value >= meaningful else 1 if value >= care else 2


def _told(value: float) -> str:
    return "could not be measured" if math.isnan(value) else f"{value:.2f}"
