import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.report.plot import path_data, thinned
from scar_ray.report.scale import (
    Axis,
    axis_from,
    duration,
    fitted_axis,
    number,
    round_ticks,
    spread,
    tick_texts,
    time_unit,
)


@pytest.mark.parametrize(
    ("low", "high", "count", "ticks"),
    [
        (0.0, 200.0, 6, [0, 50, 100, 150, 200]),
        (-0.4, 2.1, 6, [0, 0.5, 1, 1.5, 2]),
        (0.0, 3e-4, 4, [0, 1e-4, 2e-4, 3e-4]),
        (1.0, 7.0, 6, [2, 4, 6]),
    ],
)
def test_ticks_are_round_values(low, high, count, ticks):
    assert round_ticks(low, high, count) == pytest.approx(ticks, abs=1e-12)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5), st.integers(4, 8))
def test_ticks_are_inside_the_axis_and_never_too_many(low, width, count):
    ticks = round_ticks(low, low + width, count)
    assert len(ticks) <= count
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)


def test_a_root_axis_has_ticks_with_round_roots_at_even_distances():
    axis = Axis("KL", 0.0, 16.0, root=True)
    assert axis.ticks(6) == [0, 1, 4, 9, 16]
    assert axis.position(np.array([-1.0, 0.0, 1.0, 4.0, 16.0])).tolist() == [0, 0, 0.25, 0.5, 1]


def test_axes_hold_their_values_and_do_without_any():
    axis = fitted_axis("reward", np.array([0.0, math.nan, 1.0]))
    assert (axis.low, axis.high) == (-0.05, 1.05)
    assert (fitted_axis("reward", np.array([])).low, fitted_axis("reward", np.array([])).high) == (0.0, 1.0)
    assert axis_from("step", 0.0, np.array([])).high == 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (-1.5, "−1.50"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (4.5e-6, "4.5e−6"),
        (2.2e-16, "2.2e−16"),
        (math.nan, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


def test_credits_show_their_sign():
    assert [number(value, sign=True) for value in (0.5, -0.5)] == ["+0.500", "−0.500"]


def test_a_mean_has_the_decimals_of_its_deviation():
    assert spread(1.6892, 0.0123) == "1.689 ± 0.012"
    assert spread(-8.88, 1.49) == "−8.9 ± 1.5"
    assert spread(0.5, math.nan) == "0.500"


def test_the_ticks_of_an_axis_share_their_unit():
    assert tick_texts([0, 5000, 10000]) == ["0", "5k", "10k"]
    assert tick_texts([0, 5e5, 1e6]) == ["0", "0.5M", "1M"]
    assert tick_texts([-0.5, 0, 0.5]) == ["−0.5", "0", "0.5"]
    assert tick_texts([0, 1e-4, 2e-4]) == ["0", "1e−4", "2e−4"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.420 s"), (42.3, "42 s"), (192, "3 min 12 s"), (300, "5 min"), (3840, "1 h 4 min"), (183600, "2 d 3 h")],
)
def test_durations_are_told_in_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_compute_is_drawn_in_a_unit_that_fits():
    assert [time_unit(seconds)[1] for seconds in (500, 3600, 86400)] == ["seconds", "minutes", "hours"]


def test_a_path_starts_anew_after_a_gap():
    x, y = np.array([0.0, 0.25, 0.5, 1.0]), np.array([0.0, 0.5, math.nan, 1.0])
    assert path_data(x, y) == "M0 1000L250 500M1000 0"


def test_thinning_keeps_the_ends_and_the_extremes():
    values = np.zeros(20_000)
    values[777], values[15_001] = 5.0, -5.0
    kept = thinned(values, 200)
    assert len(kept) <= 202
    assert {0, 777, 15_001, 19_999} <= set(kept.tolist())


def test_few_values_are_all_drawn():
    assert thinned(np.zeros(5), 200).tolist() == [0, 1, 2, 3, 4]
