import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.objectives.schedule import lr_multiplier


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1 / 3, 2 / 3, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627]),
    ],
)
def test_six_steps_with_two_of_warm_up(schedule, expected):
    assert [lr_multiplier(step, 6, 2, schedule) for step in range(6)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_decay_is_zero_when_all_steps_are_done_and_stays_zero(schedule):
    assert lr_multiplier(6, 6, 2, schedule) == 0.0
    assert lr_multiplier(9, 6, 2, schedule) == 0.0


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert [lr_multiplier(0, 10, 0, s) for s in ("constant", "linear", "cosine")] == [1.0, 1.0, 1.0]


@given(st.integers(1, 50), st.integers(0, 60), st.sampled_from(["constant", "linear", "cosine"]))
def test_every_step_learns_and_none_above_the_full_rate(total, warmup, schedule):
    rates = [lr_multiplier(step, total, warmup, schedule) for step in range(total)]
    assert all(0.0 < rate <= 1.0 for rate in rates)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    if schedule != "constant":
        assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match=r"optimizer\.schedule='step' must be constant, linear or cosine"):
        lr_multiplier(0, 10, 0, "step")
