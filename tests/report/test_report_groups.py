import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import write_run

from scar_ray.report.groups import first_mean, group_runs, last_mean, moving_average
from scar_ray.report.runs import read_run


def runs(folder, *settings):
    return [read_run(write_run(folder / str(index), **setting)) for index, setting in enumerate(settings)]


def test_runs_that_differ_in_their_seed_only_form_a_group_ordered_by_seed(tmp_path):
    groups = group_runs(
        runs(
            tmp_path,
            {"credit": "abc", "seed": 2, "steps": 4},
            {"credit": "sparse", "seed": 0, "steps": 4},
            {"credit": "abc", "seed": 1, "steps": 2, "planned": 4, "settings": {"cluster.device": "cuda"}},
        )
    )
    assert [(group.label, [run.seed for run in group.runs]) for group in groups] == [("abc", [1, 2]), ("sparse", [0])]
    assert groups[0].steps.tolist() == [1, 2]


def test_runs_of_one_method_with_other_settings_are_groups_that_say_what_differs(tmp_path):
    groups = group_runs(
        runs(tmp_path, {"settings": {"algorithm.kl.coef": 0.1}}, {"settings": {"algorithm.kl.coef": 0.2}})
    )
    assert [group.label for group in groups] == ["scar_span kl.coef=0.1", "scar_span kl.coef=0.2"]


def test_a_group_is_told_by_what_sets_it_apart_from_the_others_of_its_method(tmp_path):
    usual = {"credit.alpha": 0.8, "credit.base": "last"}
    others = [{**usual, "credit.alpha": 0.0}, {**usual, "credit.alpha": 1.0}, {**usual, "credit.base": "zero"}]
    groups = group_runs(runs(tmp_path, *({"settings": settings} for settings in [usual, *others])))
    assert [group.label for group in groups] == [
        "scar_span",
        "scar_span credit.alpha=0.0",
        "scar_span credit.alpha=1.0",
        "scar_span credit.base=zero",
    ]


def test_the_mean_over_seeds_covers_the_steps_that_all_have_reached(tmp_path):
    (group,) = group_runs(runs(tmp_path, {"seed": 0, "steps": 3}, {"seed": 1, "steps": 2, "planned": 3}))
    both = [run.series("reward/mean")[:2] for run in group.runs]
    assert group.mean("reward/mean").tolist() == ((both[0] + both[1]) / 2).tolist()


def test_the_moving_average_keeps_the_first_value_and_ends_on_a_mean():
    values = np.array([0.0, 3.0, 6.0, 9.0, 3.0])
    assert moving_average(values, 3).tolist() == [0.0, 3.0, 6.0, 6.0, 6.0]
    assert moving_average(values, 1).tolist() == values.tolist()


def test_the_moving_average_leaves_out_what_is_missing():
    averaged = moving_average(np.array([math.nan, 2.0, math.nan, 4.0]), 3)
    assert math.isnan(averaged[0])
    assert averaged[1:].tolist() == [2.0, 3.0, 4.0]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(1, 30))
def test_the_moving_average_stays_between_the_extremes(values, window):
    averaged = moving_average(np.array(values), window)
    assert len(averaged) == len(values)
    assert min(values) - 1e-6 <= averaged.min()
    assert averaged.max() <= max(values) + 1e-6


@pytest.mark.parametrize(("count", "last", "first"), [(1, 0.0, 0.0), (5, 4.0, 0.0), (20, 18.5, 0.5), (200, 189.5, 9.5)])
def test_the_final_reward_is_the_mean_of_the_last_tenth_of_the_steps(count, last, first):
    values = np.arange(count, dtype=float)
    assert (last_mean(values), first_mean(values)) == (last, first)


def test_no_steps_have_no_final_reward():
    assert math.isnan(last_mean(np.array([])))
