"""Which parts of a response the probe has scored: the same for every masking.

| coalitions                                                     | for                              |
|----------------------------------------------------------------|----------------------------------|
| empty, full                                                    | base, drift with length          |
| one at each of FRACTIONS, that share of the units removed      | correlation with the full score  |
| each of SINGLES units alone, and each of them left out         | do effects carry over?           |
| TOGETHER of these units left out, at random                    | control of the next              |
| those that raise, and that lower, the empty response most      | monotonicity; asked afterwards   |
| some content words left out, and as many function words        | does content count?              |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import Coalitions, Plan
from scar_ray.records import BoolArray, CreditPlan, FloatArray, Response, Units
from scar_ray.scoring.encoding import char_ranges
from scar_ray.text.units import Unit, segment
from scar_ray.text.vocabulary import FUNCTION_WORDS

FRACTIONS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the units removed at random; at least one unit goes and at least one stays."""
MIN_UNITS = 4
"""Responses of fewer units are left out."""
SINGLES = 6
"""Units of a response whose single effects are measured; all, where there are fewer."""
TOGETHER = 2
"""Units removed together."""
WORD_SHARE = 0.2
"""At most this share of the words is removed as content or as function words."""

IndexArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The coalitions of one response. Rows are those of the plan; row 0 is the empty, row 1 the full coalition."""

    response: Response
    plan: CreditPlan
    removed: IndexArray
    """Row of the coalition of each of FRACTIONS."""
    kept_chars: FloatArray
    """Characters of the response that these keep."""
    singles: IndexArray
    """The units whose single effects are measured, s of them, increasing."""
    alone: IndexArray
    """Row of each of these alone."""
    without: IndexArray
    """Row of all but each of these."""
    control: int
    """Row of all but TOGETHER of these."""
    words: CreditPlan | None
    """All but some content words (row 2), all but as many function words (row 3); None without both kinds."""


def design(response: Response, unit: Unit, max_units: int, seed: int) -> Design | None:
    """The coalitions of a response, drawn from (seed, its prompt's index); None when it has too few units."""
    units = segment(response, unit, max_units)
    n = len(units)
    if n < MIN_UNITS:
        return None
    rng = np.random.default_rng([seed, response.prompt.index])
    coalitions = Coalitions(n)
    chars_n = np.array([len(text) for text in unit_texts(response, units)], dtype=np.float64)
    removed, kept_chars = [], []
    for fraction in FRACTIONS:
        gone = rng.permutation(n)[: min(max(round(fraction * n), 1), n - 1)]
        kept_n = all_but(n, gone)
        removed.append(coalitions.row(kept_n))
        kept_chars.append(chars_n[kept_n].sum())
    singles = np.sort(rng.permutation(n)[:SINGLES])
    alone = [coalitions.row(~all_but(n, [i])) for i in singles]
    without = [coalitions.row(all_but(n, [i])) for i in singles]
    control = coalitions.row(all_but(n, rng.permutation(singles)[:TOGETHER]))
    return Design(
        response=response,
        plan=asking(units, coalitions),
        removed=np.array(removed),
        kept_chars=np.array(kept_chars),
        singles=singles,
        alone=np.array(alone),
        without=np.array(without),
        control=control,
        words=_words_removed(response, rng),
    )


def all_but(n: int, units: IndexArray | list[int]) -> BoolArray:
    """The coalition of all n players but these."""
    members_n = np.ones(n, dtype=np.bool_)
    members_n[units] = False
    return members_n


def asking(units: Units, coalitions: Coalitions) -> CreditPlan:
    """A plan that only asks for the values of the coalitions and pays nobody."""
    operator_nC = np.zeros((len(units), len(coalitions)))
    return CreditPlan(units, Plan(coalitions.array(), operator_nC, "probe"))


def unit_texts(response: Response, units: Units) -> list[str]:
    """The characters of each unit."""
    return [response.text[a:b] for a, b in char_ranges(response, units)]


def _words_removed(response: Response, rng: np.random.Generator) -> CreditPlan | None:
    """All but k content words and all but k function words, by the English closed classes; None without both."""
    units = segment(response, "word", response.n_content)
    names = [text.strip(" \t\n\r.,;:!?\"'()[]*-").lower().replace("’", "'") for text in unit_texts(response, units)]
    function = np.array([name in FUNCTION_WORDS for name in names])
    content = ~function & np.array([any(map(str.isalpha, name)) for name in names])
    count = int(min(content.sum(), function.sum(), max(1, WORD_SHARE * len(units))))
    if count == 0:
        return None
    coalitions = Coalitions(len(units))
    for kind in (content, function):
        coalitions.row(all_but(len(units), rng.permutation(np.flatnonzero(kind))[:count]))
    return asking(units, coalitions)
