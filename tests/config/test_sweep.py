"""`--multirun seed=0,1,2 credit=abc,scar_span`: all combinations, each one a list of plain overrides."""

import pytest

from scar_ray.config.errors import ConfigError
from scar_ray.config.load import load
from scar_ray.config.overrides import expand_sweep


def test_a_sweep_is_all_combinations_with_the_last_override_varying_fastest() -> None:
    assert expand_sweep(["seed=0,1", "trainer.steps=5", "credit=abc,scar_span"]) == [
        ["seed=0", "trainer.steps=5", "credit=abc"],
        ["seed=0", "trainer.steps=5", "credit=scar_span"],
        ["seed=1", "trainer.steps=5", "credit=abc"],
        ["seed=1", "trainer.steps=5", "credit=scar_span"],
    ]


def test_ranges_and_choices_are_sweeps_too() -> None:
    assert expand_sweep(["seed=range(0,3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert expand_sweep(["credit.alpha=choice(0.5,1)"]) == [["credit.alpha=0.5"], ["credit.alpha=1"]]


def test_lists_and_quoted_commas_are_single_values() -> None:
    overrides = ["model.policy.lora.target_modules=[q,v]", "name='a,b'"]
    assert expand_sweep(overrides) == [overrides]


def test_no_override_is_one_job() -> None:
    assert expand_sweep([]) == [[]]


def test_quoted_choices_stay_text() -> None:
    (first, second) = expand_sweep(["name='1','2'"])
    assert (load(first).name, load(second).name) == ("1", "2")


def test_all_unreadable_overrides_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        expand_sweep(["seed", "name=(", "credit=glob(*)"])
    assert caught.value.lines == (
        "seed: an override needs a value, write seed=VALUE",
        "name=(: the value cannot be read; quote it: name='\"(\"'",
        "credit=glob(*): glob() is not understood here; list the values, separated by commas",
    )
