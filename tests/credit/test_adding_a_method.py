"""The package docstring tells how to add a credit method; its example is run here."""

import re
import textwrap

import numpy as np
import pytest
from make_response import make_response

import scar_ray.credit
import scar_ray.records
import scar_ray.text.units
from scar_ray.records import Evaluation, SequenceScore


def example() -> str:
    """The indented block after the first "::" of the docstring."""
    block = re.search(r"::\n\n((?: {7}.*\n|\n)+)", scar_ray.credit.__doc__)
    return textwrap.dedent(block[1])


@pytest.fixture
def first_credit():
    names = {"dataclass": __import__("dataclasses").dataclass, "np": np}
    for module in (scar_ray.credit, scar_ray.records, scar_ray.text.units):
        names |= vars(module)
    exec(example(), names)
    return names["FirstCredit"]


def test_the_example_is_short():
    assert 10 < len(example().splitlines()) < 60


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["The film", " was good", "."], [2.4, 0.0, 0.0, 0.6 - 1.0]),
        ([], [3.0 - 1.0]),
    ],
)
def test_the_example_pays_the_first_unit(first_credit, tokens, expected):
    response = make_response(tokens)
    method = first_credit(unit="token")
    score = SequenceScore(raw=6.0, scale=0.5, penalty=-1.0)
    rewards = method.assign(response, method.plan(response), Evaluation(6.0), score)
    np.testing.assert_allclose(rewards.rewards_T, expected, atol=1e-12)


def test_a_registered_method_is_built_by_its_name_with_its_own_options(first_credit, monkeypatch):
    monkeypatch.setitem(scar_ray.credit.METHODS, "first", first_credit)
    options = {"estimator": "auto", "budget": 64, "max_units": 8, "base": "last"}
    method = scar_ray.credit.build("first", unit="sentence", alpha=0.5, **options)
    assert method == first_credit(unit="sentence", alpha=0.5)
