import numpy as np
import pytest

from scar_ray.workers.supervised.measures import quality
from scar_ray.workers.supervised.pairs import cropped


def test_accuracy_margin_and_likelihood_of_three_pairs() -> None:
    found = quality(np.array([np.log(3.0), -np.log(3.0), 0.0]))  # probability of the truth: 0.75, 0.25, 0.5
    assert found["accuracy"] == 0.5
    assert found["margin"] == pytest.approx(0.0)
    assert found["nll"] == pytest.approx(-np.mean(np.log([0.75, 0.25, 0.5])))


def test_the_calibration_error_is_the_gap_of_confidence_and_hits_in_each_bin() -> None:
    sure = np.log(0.92 / 0.08)  # confidence 0.92, right in 3 of 4: a gap of 0.17; the others 0.52, right in 1 of 2
    unsure = np.log(0.52 / 0.48)
    found = quality(np.array([sure, sure, sure, -sure, unsure, -unsure]))
    assert found["calibration_error"] == pytest.approx((4 * 0.17 + 2 * 0.02) / 6)


def test_a_calibrated_model_has_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0.0, 2.0, 50_000)
    truth = np.where(rng.random(50_000) < 1 / (1 + np.exp(-log_odds)), 1.0, -1.0)
    assert quality(log_odds * truth)["calibration_error"] < 0.01
    assert quality(4 * log_odds * truth)["calibration_error"] > 0.1


def test_both_completions_are_cut_at_the_same_fraction_and_end_with_the_eos() -> None:
    eos, prompt = 0, (90, 91)
    better, worse = ((*prompt, *range(1, 41)), 2), ((*prompt, *range(50, 60)), 2)
    rng = np.random.default_rng(0)
    for _ in range(50):
        pair = cropped(better, worse, (eos,), rng)
        kept, kept_worse = len(pair.chosen) - 3, len(pair.rejected) - 3
        assert 4 <= kept <= 40
        assert kept_worse == max(1, round(kept / 4))
        assert pair.chosen == (*prompt, *range(1, kept + 1), eos)
        assert pair.rejected == (*prompt, *range(50, 50 + kept_worse), eos)
