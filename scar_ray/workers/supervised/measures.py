"""How good a reward model is on held-out rows: accuracy, margin, calibration."""

from __future__ import annotations

import numpy as np

from scar_ray.records import FloatArray

BINS = 10
"""Bins of equal width, from 0.5 to 1, of the calibration error."""


def quality(margins: FloatArray) -> dict[str, float]:
    """Figures of the margins of the rows: log-odds (nats) that the model gives to the truth.

    The margin of a pair is r(chosen) - r(rejected), that of a labelled text is its reward, negated for label 0.

    - accuracy: share of positive margins; a margin of zero counts half
    - margin: their mean
    - nll: mean of log(1 + exp(-margin)), the negative log-likelihood (nats) of Bradley-Terry or logistic regression;
      0.693 for a model that knows nothing
    - calibration_error: expected calibration error (Guo et al. 2017), the mean over rows of |share of right rows -
      mean confidence| of the row's bin; the confidence is the probability of the likelier answer
    """
    hits = (margins > 0) + 0.5 * (margins == 0)
    confidence = 1.0 / (1.0 + np.exp(-np.abs(margins)))
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, hits - confidence, BINS)
    return {
        "accuracy": float(hits.mean()),
        "margin": float(margins.mean()),
        "nll": float(np.logaddexp(0.0, -margins).mean()),
        "calibration_error": float(np.abs(gaps).sum() / len(margins)),
    }
