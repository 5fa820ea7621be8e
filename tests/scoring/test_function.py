"""Python functions as rewards: values of partial texts, batches, and what goes wrong in a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_response import make_response

from scar_ray.config.schema import RewardModelConfig
from scar_ray.games import choose
from scar_ray.records import CreditPlan, Response, Units
from scar_ray.scoring import FunctionReward, SampleFailed

SOURCE = """
import asyncio, threading
import numpy as np
from neighbour import LETTERS

CALLS, TOGETHER, GATE = [], [], threading.Barrier(2)

def letters(samples, each=1.0):
    CALLS.append([sample.response for sample in samples])
    return [each * sum(letter in LETTERS for letter in sample.response) for sample in samples]

def array(samples):
    return np.array([len(sample.response) for sample in samples], dtype=np.float32)

async def slow(samples):
    await asyncio.sleep(0)
    return [len(sample.response) for sample in samples]

class Weighted:
    waits = True

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, samples):
        GATE.wait(timeout=60)  # returns only when two calls are made at the same time
        return [self.weight * len(sample.response) for sample in samples]

def judged(samples):
    return [float(sample.data["judgements"].get(sample.response, 0)) for sample in samples]

def picky(samples):
    if any(sample.response == " the" for sample in samples):
        raise KeyError("the")
    return [1.0] * len(samples)

def moody(samples):
    if len(samples) > 2:
        raise MemoryError("too many\\nat once")
    return [1.0] * len(samples)

def short(samples): return [1.0] * (len(samples) - 1)
def one(samples): return 1.0
def text(samples): return ["1.0"] * len(samples)
def nothing(samples): return [None] * len(samples)
def nan(samples): return [float("nan") if not sample.response else 1.0 for sample in samples]
number = 3
"""

WORDS = [" the", " plot", " fell", " apart"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "neighbour.py").write_text("LETTERS = 'aeiou'\n")
    (folder / "my_rewards.py").write_text(SOURCE)
    return folder / "my_rewards.py"


@pytest.fixture
def load(file: Path) -> Callable[..., FunctionReward]:
    def new(name: str, options: dict[str, object] | None = None, **more: object) -> FunctionReward:
        config = RewardModelConfig(function=f"{file}:{name}", options=options or {})
        return FunctionReward(config, **more)  # type: ignore[arg-type]

    return new


def all_coalitions(response: Response) -> CreditPlan:
    """Two units of two words and their four coalitions: none, the first, the second, both."""
    return CreditPlan(Units((2, 4), (0, 1)), choose((0, 1), "shapley", 4))


def job(**changes: object) -> tuple[Response, CreditPlan]:
    response = replace(make_response(WORDS), **changes)  # type: ignore[arg-type]
    return response, all_coalitions(response)


def values(reward: FunctionReward) -> tuple[float, dict[str, float]]:
    """Score and the values by the units that are there."""
    response, plan = job()
    [found], _ = reward.evaluate([(response, plan)])
    assert plan.game is not None
    assert found.values_C is not None
    names = ["".join(u for u, there in zip("ab", row, strict=True) if there) for row in plan.game.coalitions_Cn]
    return found.score, dict(zip(names, found.values_C.tolist(), strict=True))


def test_a_coalition_is_worth_what_the_function_makes_of_its_characters(load: Callable[..., FunctionReward]) -> None:
    # " the plot" has two vowels, " fell apart" three.
    assert values(load("letters")) == (5.0, {"": 0.0, "a": 2.0, "b": 3.0, "ab": 5.0})
    assert values(load("letters", {"each": 0.5})) == (2.5, {"": 0.0, "a": 1.0, "b": 1.5, "ab": 2.5})


def test_a_blank_stands_for_every_token_that_is_left_out(load: Callable[..., FunctionReward]) -> None:
    assert values(load("array")) == (20.0, {"": 0.0, "a": 9.0, "b": 11.0, "ab": 20.0})
    assert values(load("array", masking="blank")) == (20.0, {"": 4.0, "a": 11.0, "b": 13.0, "ab": 20.0})


def test_an_async_function_and_a_class_are_called_as_plain_functions_are(load: Callable[..., FunctionReward]) -> None:
    expected = {"": 0.0, "a": 9.0, "b": 11.0, "ab": 20.0}
    assert values(load("slow")) == (20.0, expected)
    doubled = {name: 2 * value for name, value in expected.items()}
    # Four texts in calls of two: each of the two calls waits until the other one is made.
    assert values(load("Weighted", {"weight": 2}, batch_texts=2)) == (40.0, doubled)


def test_equal_texts_are_asked_once_and_batches_hold_no_more_than_they_may(
    load: Callable[..., FunctionReward],
) -> None:
    reward = load("letters", batch_texts=3)
    first, second = job(), job(row=1, sample=1)
    found, work = reward.evaluate([first, second])
    calls = reward._function.func.__globals__["CALLS"]  # type: ignore[attr-defined]
    assert calls == [[" the plot fell apart", "", " the plot"], [" fell apart"]]
    assert (work.asked, work.unique, work.tokens) == (10, 4, 0)
    assert found[0].score == found[1].score
    assert np.array_equal(found[0].values_C, found[1].values_C)


def test_a_function_sees_what_the_task_knows_about_each_prompt(load: Callable[..., FunctionReward]) -> None:
    response, _ = job()
    jobs = [
        (
            replace(response, prompt=replace(response.prompt, index=i, data={"judgements": {response.text: i}})),
            CreditPlan(),
        )
        for i in range(3)
    ]
    found, work = load("judged").evaluate(jobs)
    assert [one.score for one in found] == [0.0, 1.0, 2.0]
    assert work.unique == 3


FAILURES = {
    "picky": r"^prompt 0, sample 0 \('the'\): .*:picky raised KeyError: 'the'; a function must give every text a num",
    "short": r"^prompt 0, .* and what follows: .*:short returned 3 values for 4 samples; it must return a list with ",
    "one": r"^prompt 0, .*:one returned float 1\.0 for 4 samples; it must return a list",
    "text": r"^prompt 0, sample 0 \('.*'\): .*:text returned str '1\.0'; it must return a number$",
    "nothing": r"^prompt 0, .*:nothing returned NoneType None; it must return a number$",
    "nan": r"^prompt 0, sample 0 \('.*'\), coalition 0: .*:nan returned nan; it must return a finite number$",
}


@pytest.mark.parametrize(("name", "line"), FAILURES.items(), ids=FAILURES)
def test_a_function_that_fails_is_one_line_with_the_sample(
    name: str, line: str, load: Callable[..., FunctionReward]
) -> None:
    jobs = [job()]
    if name == "picky":
        whole = make_response([" the"])
        jobs = [(whole, CreditPlan()), (replace(whole, text=" a"), CreditPlan())]
    with pytest.raises(SampleFailed, match=line) as caught:
        load(name).evaluate(jobs)
    assert "\n" not in str(caught.value)


def test_a_failure_that_only_large_batches_have_names_the_smallest_part_that_failed(
    load: Callable[..., FunctionReward],
) -> None:
    with pytest.raises(
        SampleFailed, match=r"^prompt 0, .* and 3 more: .*:moody raised MemoryError: too many at once; "
    ):
        load("moody").evaluate([job()])


def test_values_that_are_not_finite_come_back_where_the_caller_asks_for_them(
    load: Callable[..., FunctionReward],
) -> None:
    [found], _ = load("nan").evaluate([job()], check_finite=False)
    assert np.isnan(found.values_C).tolist() == [True, False, False, False]


UNUSABLE = {
    "lettres": r":lettres: .* has no function lettres; did you mean letters\?$",
    "number": r":number: .* has no function number$",
}


@pytest.mark.parametrize(("name", "line"), UNUSABLE.items(), ids=UNUSABLE)
def test_a_function_that_is_not_there_is_one_line(name: str, line: str, load: Callable[..., FunctionReward]) -> None:
    with pytest.raises(ValueError, match=line):
        load(name)


def test_options_that_do_not_fit_are_one_line(load: Callable[..., FunctionReward]) -> None:
    with pytest.raises(ValueError, match=r":letters and model.reward.options do not fit: .*unexpected.*'eech'"):
        load("letters", {"eech": 2})
    with pytest.raises(ValueError, match=r":Weighted and model.reward.options do not fit: missing.*'weight'"):
        load("Weighted")
    with pytest.raises(ValueError, match=r"credit\.masking=mask is about a model's tokens.*use delete or blank"):
        load("letters", masking="mask")


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package_here\n")
    for where in (f"{tmp_path}/broken.py", "no_such_package_here"):
        with pytest.raises(ValueError, match=r"cannot be imported \(ModuleNotFoundError: No module named 'no_such"):
            FunctionReward(RewardModelConfig(function=f"{where}:score"))


def test_a_module_is_found_by_its_name_too() -> None:
    reward = FunctionReward(RewardModelConfig(function="statistics:fmean"))
    with pytest.raises(SampleFailed, match=r"model.reward.function=statistics:fmean raised TypeError"):
        reward.evaluate([job()])
