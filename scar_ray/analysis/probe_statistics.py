"""The probe's numbers for one masking. Values that are not finite are counted and otherwise left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scar_ray.analysis.probe_values import Values
from scar_ray.records import FloatArray

MIN_PAIRS = 10
"""Statistics of fewer responses are NaN."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the probe measured with one masking; NaN where it could not be measured."""

    nonfinite: float
    """Share of the values that are infinite or NaN."""
    spearman: tuple[float, ...]
    """Rank correlation of the score of what is left with the full score over the responses, for each of FRACTIONS
    removed, and for all removed (the prompt alone)."""
    pearson: tuple[float, ...]
    """The same on the values."""
    mean: tuple[float, ...]
    """Mean value for each of FRACTIONS removed, for all and for none removed."""
    full_std: float
    """Standard deviation of the full scores over the responses."""
    empty_std: float
    """Standard deviation of v(empty) over the responses."""
    drift: float
    """Change of the value from nothing kept to all kept for a response of average score, in `full_std`: b / full_std
    of the least-squares fit v(S) = a + b share + c score + d share score, share of characters kept, score centred."""
    length_r2: float
    """Share of the variance of v(S) that the number of characters kept explains (squared Pearson correlation)."""
    sign_agreement: float
    """Share of the units whose effect alone, v({i}) - v(empty), has the sign of the effect in the full response,
    v(N) - v(N without i); chance is 0.5."""
    effect_spearman: float
    """Rank correlation of these two effects over all units, less the mean of their response."""
    lowered: float
    """Share of the responses that score lower without the units whose effects alone are largest and positive."""
    lowered_random: float
    """The same responses without random ones of the measured units."""
    raised: float
    """Share of the responses that score higher without the units whose effects alone are smallest and negative."""
    raised_random: float
    """The same responses without random ones of the measured units."""
    lift: float
    """Mean of lowered - lowered_random and raised - raised_random; chance, and length alone, are 0."""
    content_ratio: float
    """Mean absolute change of the score by removing content words over that by as many function words."""


def statistics(values: Values, kept_chars_BF: FloatArray, chars_B: FloatArray) -> Statistics:
    """The statistics of one masking; characters kept at each of FRACTIONS, and of the whole responses."""
    full_B, empty_B = values.full_B, values.empty_B
    by_share_BG = np.column_stack([values.removed_BF, empty_B])
    all_shares_BH = np.column_stack([by_share_BG, full_B])
    chars_BH = np.column_stack([kept_chars_BF, np.zeros(len(full_B)), chars_B])
    spread = _spread(full_B)
    lowered, lowered_random = _crossing(full_B - values.top_B, full_B - values.control_B)
    raised, raised_random = _crossing(values.bottom_B - full_B, values.control_B - full_B)
    return Statistics(
        nonfinite=values.nonfinite / values.asked,
        spearman=tuple(spearman(column, full_B) for column in by_share_BG.T),
        pearson=tuple(pearson(column, full_B) for column in by_share_BG.T),
        mean=tuple(_mean(column) for column in all_shares_BH.T),
        full_std=spread,
        empty_std=_spread(empty_B),
        drift=_drift(all_shares_BH, chars_BH / chars_B[:, None], full_B) / spread if spread > 0 else float("nan"),
        length_r2=pearson(all_shares_BH.ravel(), chars_BH.ravel()) ** 2,
        sign_agreement=_same_sign(values.alone_Bs, values.without_Bs),
        effect_spearman=spearman(_centred(values.alone_Bs), _centred(values.without_Bs)),
        lowered=lowered,
        lowered_random=lowered_random,
        raised=raised,
        raised_random=raised_random,
        lift=_mean(np.array([lowered - lowered_random, raised - raised_random])),
        content_ratio=_ratio(values.content_B - full_B, values.function_B - full_B),
    )


def pearson(x: FloatArray, y: FloatArray) -> float:
    """Correlation of the finite pairs; NaN for fewer than MIN_PAIRS, or where x or y is constant."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < MIN_PAIRS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: FloatArray, y: FloatArray) -> float:
    """Pearson correlation of the ranks of the finite pairs; equal values share their mean rank."""
    known = np.isfinite(x) & np.isfinite(y)
    return pearson(_ranks(x[known]), _ranks(y[known]))


def _ranks(x: FloatArray) -> FloatArray:
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    mean_ranks: FloatArray = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[which]


def _mean(x: FloatArray) -> float:
    x = x[np.isfinite(x)]
    return float(x.mean()) if len(x) else float("nan")


def _spread(x: FloatArray) -> float:
    x = x[np.isfinite(x)]
    return float(x.std()) if len(x) else float("nan")


def _centred(effects_Bs: FloatArray) -> FloatArray:
    """Every effect less the mean effect of its response, in one row."""
    known = np.isfinite(effects_Bs)
    means_B = np.where(known, effects_Bs, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    centred_Bs: FloatArray = effects_Bs - means_B[:, None]
    return centred_Bs.ravel()


def _same_sign(x: FloatArray, y: FloatArray) -> float:
    """Share of equal signs among the finite pairs that are not both 0."""
    known = np.isfinite(x) & np.isfinite(y) & ((x != 0) | (y != 0))
    return float((np.sign(x[known]) == np.sign(y[known])).mean()) if known.sum() >= MIN_PAIRS else float("nan")


def _crossing(change_B: FloatArray, control_B: FloatArray) -> tuple[float, float]:
    """Share of positive changes, and of positive controls of the same responses."""
    known = np.isfinite(change_B) & np.isfinite(control_B)
    if known.sum() < MIN_PAIRS:
        return float("nan"), float("nan")
    return float((change_B[known] > 0).mean()), float((control_B[known] > 0).mean())


def _ratio(changes_B: FloatArray, control_B: FloatArray) -> float:
    known = np.isfinite(changes_B) & np.isfinite(control_B)
    below = float(np.abs(control_B[known]).sum())
    return float(np.abs(changes_B[known]).sum()) / below if known.sum() >= MIN_PAIRS and below > 0 else float("nan")


def _drift(values_BH: FloatArray, share_BH: FloatArray, full_B: FloatArray) -> float:
    """b of the fit v = a + b share + c score + d share score over all finite values, score centred."""
    score_BH = np.broadcast_to((full_B - _mean(full_B))[:, None], values_BH.shape)
    known = np.isfinite(values_BH) & np.isfinite(score_BH)
    if known.sum() < MIN_PAIRS:
        return float("nan")
    share, score = share_BH[known], score_BH[known]
    design = np.column_stack([np.ones_like(share), share, score, share * score])
    return float(np.linalg.lstsq(design, values_BH[known], rcond=None)[0][1])
