import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.objectives.shaping import shape_score

PLAIN = {
    "n_tokens": 5,
    "finished": True,
    "max_new_tokens": 20,
    "clip": None,
    "missing_eos_penalty": 0.0,
    "over_length_penalty": 0.0,
    "over_length_start": None,
}


def test_a_score_without_clipping_and_penalties_stays_as_it_is():
    assert shape_score(-3.5, **PLAIN) == (1.0, 0.0)


@pytest.mark.parametrize(("raw", "scale"), [(8.0, 0.25), (-8.0, 0.25), (2.0, 1.0), (-1.0, 1.0), (0.0, 1.0)])
def test_clipping_is_a_scale_on_the_raw_score(raw, scale):
    assert shape_score(raw, **PLAIN | {"clip": 2.0}) == (scale, 0.0)


def test_a_missing_eos_is_taken_off_after_clipping():
    scale, penalty = shape_score(4.0, **PLAIN | {"clip": 1.0, "finished": False, "missing_eos_penalty": 1.5})
    assert (scale, penalty) == (0.25, -1.5)
    assert scale * 4.0 + penalty == -0.5


@pytest.mark.parametrize(("n_tokens", "penalty"), [(1, 0.0), (19, 0.0), (20, -3.0)])
def test_only_full_length_pays_without_a_start(n_tokens, penalty):
    assert shape_score(1.0, **PLAIN | {"n_tokens": n_tokens, "over_length_penalty": 3.0}) == (1.0, penalty)


@pytest.mark.parametrize(("n_tokens", "penalty"), [(9, 0.0), (10, 0.0), (15, -1.5), (20, -3.0)])
def test_the_over_length_penalty_grows_linearly_from_its_start(n_tokens, penalty):
    changes = {"n_tokens": n_tokens, "over_length_penalty": 3.0, "over_length_start": 10}
    assert shape_score(1.0, **PLAIN | changes) == (1.0, penalty)


def test_both_penalties_add_up():
    changes = {"n_tokens": 20, "finished": False, "missing_eos_penalty": 1.0, "over_length_penalty": 0.5}
    assert shape_score(1.0, **PLAIN | changes) == (1.0, -1.5)


@pytest.mark.parametrize("raw", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_an_error_also_with_clipping(raw):
    with pytest.raises(ValueError, match=rf"reward score is {raw}; every score must be finite"):
        shape_score(raw, **PLAIN | {"clip": 1.0})


@given(raw=st.floats(-1e6, 1e6), clip=st.floats(0.1, 100.0))
def test_the_scaled_score_is_the_clipped_score(raw, clip):
    scale, _ = shape_score(raw, **PLAIN | {"clip": clip})
    assert 0.0 < scale <= 1.0
    assert scale * raw == pytest.approx(min(max(raw, -clip), clip), rel=1e-12)
