"""Sums in steps: problems, worked answers, the reward, and the first wrong step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response, words

from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.config.preflight import preflight_supervised
from scar_ray.credit.prefix import PrefixCredit
from scar_ray.records import Prompt, Response, Sample, TokenRewards, Units
from scar_ray.tasks.arithmetic import (
    LARGEST,
    OFF_BY,
    Problem,
    correct,
    final_number,
    first_wrong_line,
    problems,
    rank_of,
    read_problem,
    wrong_step_metrics,
    wrong_unit,
)
from scar_ray.tasks.dialogues import load_demonstrations, load_prompt_texts

PROBLEM = Problem(12, (7, -5, 20))


def response_to(problem: Problem, text: str) -> Response:
    made = make_response(words(text))
    return Response(
        **{name: getattr(made, name) for name in made.__slots__} | {"prompt": Prompt(0, (1,), problem.prompt)}
    )


def test_a_problem_and_its_worked_answer() -> None:
    assert PROBLEM.prompt == "12 + 7 - 5 + 20 ="
    assert PROBLEM.worked == "\n12 + 7 = 19\n19 - 5 = 14\n14 + 20 = 34"
    assert PROBLEM.answer == 34


@given(st.integers(0, 10**6))
def test_problems_are_read_back_and_their_worked_answers_are_right(seed: int) -> None:
    [problem] = problems(seed, 1)
    assert read_problem(problem.prompt) == problem
    assert 3 <= len(problem.lines) <= 5
    for line in problem.lines:
        left, result = line.split(" = ")
        assert eval(left) == int(result)
        assert 0 <= int(result) <= 20
    assert correct([Sample(problem.prompt, problem.worked, {})]) == [1.0]
    assert first_wrong_line(problem, problem.worked) is None


def test_demonstrated_mistakes_are_as_many_as_asked_and_what_follows_goes_on_from_them() -> None:
    rng, wrong, steps = np.random.default_rng(0), 0, 0
    for problem in problems(3, 400):
        assert problem.worked_with_mistakes(rng, 0.0) == problem.worked
        value = problem.first
        for added, line in zip(problem.added, problem.worked_with_mistakes(rng, 0.2).split("\n")[1:], strict=True):
            left, written = line.split(" = ")
            assert eval(left) == value + added
            assert left.startswith(f"{value} ")
            assert abs(int(written) - value - added) <= OFF_BY
            assert 0 <= int(written) <= LARGEST
            wrong, steps, value = wrong + (int(written) != value + added), steps + 1, int(written)
    assert wrong / steps == pytest.approx(0.2, abs=0.03)


def test_demonstrations_have_the_mistakes_that_the_task_asks_for() -> None:
    whole, some, again = (
        load_demonstrations(load(["task=arithmetic", "task.train.limit=2000", f"task.mistakes={share}"]).task, "train")
        for share in (0, 0.3, 0.3)
    )
    assert len(whole) == 2000
    assert [one.prompt for one in whole] == [one.prompt for one in some]
    rewards = [np.mean(correct([Sample(one.prompt, one.completion, {}) for one in rows])) for rows in (whole, some)]
    assert rewards[0] == 1.0
    assert 0.2 < rewards[1] < 0.6
    assert some == again


def test_the_reward_is_about_the_last_number_alone() -> None:
    texts = {"\n12 + 7 = 34": 1.0, "34": 1.0, "\n12 + 7 = 19": 0.0, "": 0.0, "no number": 0.0, "34 or 35": 0.0}
    assert correct([Sample(PROBLEM.prompt, text, {}) for text in texts]) == list(texts.values())
    assert final_number("") is None
    with pytest.raises(ValueError, match=r"^'Hello' is no sum in steps; write a prompt such as '12 \+ 7 - 5 ='$"):
        correct([Sample("Hello", "3", {})])


WRONG = {
    "\n12 + 7 = 19\n19 - 5 = 15\n15 + 20 = 35": 1,
    "\n12 + 7 = 18\n18 - 5 = 13": 0,
    "\n12 + 7 = 19\n19 - 5 = 14\n14 + 20 = 34\n34 + 1 = 35": 3,
    "\n12 + 7 = 19\n19 - 4 = 15\n15 + 20 = 35": 1,
    "\n12 + 7 = 18\n18 - 5 = 14\n14 + 20 = 34": None,  # two errors that cancel
    "\n12 + 7 = 19\n19 - 5 = 14": None,  # ends too early
}


@pytest.mark.parametrize(("text", "line"), WRONG.items())
def test_the_first_wrong_step_is_the_unit_of_the_first_line_that_is_not_as_it_should_be(
    text: str, line: int | None
) -> None:
    response = response_to(PROBLEM, text)
    units = PrefixCredit(unit="sentence").plan(response).units
    assert len(units) == text.count("\n")
    assert wrong_unit(response, units) == line


def test_a_run_logs_how_often_the_wrong_step_has_the_lowest_credit() -> None:
    def credited(text: str, credits: list[float]) -> tuple[Response, TokenRewards]:
        response = response_to(PROBLEM, text)
        units: Units = PrefixCredit(unit="sentence").plan(response).units
        return response, TokenRewards(np.zeros(response.n_tokens), units, np.array(credits))

    first, second, *_ = WRONG
    found = wrong_step_metrics([credited(first, [0.1, -0.6, 0.0]), credited(first, [-0.5, -0.5, 0.2])])
    assert found == {"credit/wrong_step_lowest": 0.75, "credit/wrong_steps": 2.0}
    assert wrong_step_metrics([credited(second, [0.0, -0.1])])["credit/wrong_step_lowest"] == 0.0
    assert wrong_step_metrics([credited(PROBLEM.worked, [0.1, 0.1, 0.1])]) == {}
    assert [rank_of(np.array([0.1, -0.6, 0.1]), unit) for unit in range(3)] == [2.5, 1.0, 2.5]


def test_the_task_needs_no_files_and_its_parts_differ() -> None:
    task = load(["task=arithmetic", "task.train.limit=50"]).task
    rows = load_demonstrations(task, "sft_train")
    assert len(rows) == 50
    assert load_prompt_texts(task, "train") == [row.prompt for row in rows]
    held_out = load_prompt_texts(task, "test")
    assert len(held_out) == 1000
    assert rows[0].prompt != held_out[0]
    assert len(set(held_out)) > 990


def test_there_is_no_reward_model_to_train() -> None:
    with pytest.raises(UserError, match=r"^task=arithmetic has no reward model to train, its reward is whether "):
        preflight_supervised(load(["task=arithmetic"]), "rm")
