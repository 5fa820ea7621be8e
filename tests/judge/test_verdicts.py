"""How verdicts are read and what they add up to; files of responses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.config.errors import UserError
from scar_ray.judge.compare import interval, outcome, plan
from scar_ray.judge.criteria import CRITERIA, OF_TASK, choose_criteria, messages, read_verdict
from scar_ray.judge.responses import (
    Answer,
    Answers,
    check_same_prompts,
    forget_after,
    read_answers,
    write_alpaca,
    write_responses,
)

READ = {
    "A is clearer.\n\nVerdict: A": "A",
    "verdict: b.": "B",
    "**Verdict:** tie": "tie",
    "**Verdict: Response B**": "B",
    "### Verdict: A\n\n": "A",
    "Verdict: A\nso, once more:\nVerdict: A": "A",
    "<think>Verdict: hm</think>\nVerdict: B": "B",
}
UNREADABLE = ["", "A", "Verdict:", "Verdict: A or B", "Verdict: C", "My verdict: A", "Verdict: A\nVerdict: tie"]


@pytest.mark.parametrize("answer", READ)
def test_a_verdict_is_a_line_of_its_own(answer: str) -> None:
    assert read_verdict(answer) == READ[answer]


@pytest.mark.parametrize("answer", UNREADABLE)
def test_anything_else_is_no_verdict(answer: str) -> None:
    assert read_verdict(answer) is None


def test_the_question_shows_both_responses_and_names_every_way_to_end() -> None:
    text = messages(CRITERIA["summary"], "the post", "one", "two")[1]["content"]
    assert text.index("the post") < text.index("Summary A:\n<<<\none\n>>>") < text.index("Summary B:\n<<<\ntwo\n>>>")
    for line in ("Verdict: A", "Verdict: B", "Verdict: tie"):
        assert read_verdict(line) is not None
        assert line in text.splitlines()
    for point in ("Faithful", "Complete", "Brief", "Clear", "Coherent"):
        assert f"- {point}: " in text


def test_criteria_come_from_the_task_a_name_or_a_file(tmp_path: Path) -> None:
    assert {task: choose_criteria(None, task).name for task in OF_TASK} == OF_TASK
    assert choose_criteria("assistant", "tldr").name == "assistant"
    (tmp_path / "mine.txt").write_text("- Short: one line.\n")
    assert choose_criteria(str(tmp_path / "mine.txt"), "").points == "- Short: one line."
    (tmp_path / "mine.txt").write_text(" \n")
    with pytest.raises(UserError, match="the file is empty; write one criterion a line"):
        choose_criteria(str(tmp_path / "mine.txt"), "")


def answers(*responses: str) -> Answers:
    return Answers("x", Path("x"), "", tuple(Answer(str(n), each) for n, each in enumerate(responses)))


@given(st.integers(1, 40), st.integers(0, 5))
def test_in_one_order_each_is_first_in_half_of_the_pairs(n: int, seed: int) -> None:
    first, second = answers(*"a" * n), answers(*"b" * n)
    comparisons = plan(first, second, both_orders=False, seed=seed)
    assert [comparison.pair for comparison in comparisons] == list(range(n))
    assert sum(comparison.swapped for comparison in comparisons) == n // 2
    assert comparisons == plan(first, second, both_orders=False, seed=seed)


def test_which_pairs_are_swapped_is_drawn_at_random() -> None:
    first, second = answers(*"a" * 30), answers(*"b" * 30)
    orders = {tuple(c.swapped for c in plan(first, second, both_orders=False, seed=seed)) for seed in range(5)}
    assert len(orders) == 5
    assert tuple(n % 2 == 1 for n in range(30)) not in orders


def test_two_verdicts_on_a_pair_count_with_their_mean() -> None:
    first, second = answers("a", "a", "a", "same"), answers("b", "b", "b", "same")
    comparisons = plan(first, second, both_orders=True, seed=0)
    assert len(comparisons) == 6
    # Shown swapped, B is the first policy's: won, won and tied, taken back.
    found = outcome([*"0123"], comparisons, ["A", "B", "A", "tie", "B", "B"], [True] * 6, 0)
    assert (found.wins, found.ties, found.losses, found.identical) == (2, 2, 0, 1)
    assert found.win_rate == (1.0 + 0.75 + 0.5 + 0.5) / 4
    assert found.agreement == 1 / 3
    assert found.first_shown == 2 / 5


def test_a_pair_with_an_unreadable_verdict_is_left_out_whole() -> None:
    comparisons = plan(answers("a", "a"), answers("b", "b"), both_orders=True, seed=0)
    found = outcome([*"01"], comparisons, ["A", None, "B", "A"], [True] * 4, 0)
    assert (found.unparsed, found.unanswered, found.wins, found.losses, found.win_rate) == (1, 0, 0, 1, 0.0)
    found = outcome([*"01"], comparisons, [None, None, "B", "A"], [True, False, True, True], 0)
    assert (found.unparsed, found.unanswered) == (0, 1)


def test_the_interval_is_that_of_the_binomial_where_every_prompt_has_one_pair() -> None:
    values = np.array([1.0] * 60 + [0.0] * 40)
    low, high = interval(values, [str(n) for n in range(100)], seed=0)
    deviation = math.sqrt(0.6 * 0.4 / 100)
    assert (low, high) == pytest.approx((0.6 - 1.96 * deviation, 0.6 + 1.96 * deviation), abs=0.015)


def test_pairs_of_one_prompt_are_drawn_together() -> None:
    values = np.array([1.0] * 60 + [0.0] * 40)
    apart = interval(values, [str(n) for n in range(100)], seed=0)
    together = interval(values, [str(n // 10) for n in range(100)], seed=0)
    assert together[1] - together[0] > 2.5 * (apart[1] - apart[0])


# files of responses


def record(index: int, sample: int, prompt: str, response: str) -> dict[str, object]:
    return {"prompt_index": index, "sample": sample, "prompt": prompt, "response": response}


def test_responses_come_back_from_a_run_a_file_and_alpacas_json(tmp_path: Path) -> None:
    rows = [record(3, 0, "P", " one"), record(3, 1, "P", " two"), record(7, 0, "Q", " ü\n")]
    run = tmp_path / "run"
    for step in (0, 50, 1_000_000):
        write_responses(run / f"eval/step-{step:06d}.jsonl", [{**row, "response": f"{step}"} for row in rows])
    (run / "run.json").write_text('{"task": "tldr"}')
    found = read_answers(run)
    assert (found.name, found.task, found.file.name) == ("run", "tldr", "step-1000000.jsonl")
    assert found.rows == (Answer("P", "1000000"), Answer("P", "1000000"), Answer("Q", "1000000"))
    file = write_alpaca(tmp_path / "run.alpaca.json", rows, "run", "imdb")
    assert json.loads(file.read_text()) == [
        {"instruction": "P", "output": " one", "generator": "run", "dataset": "imdb"},
        {"instruction": "Q", "output": " ü\n", "generator": "run", "dataset": "imdb"},
    ]
    assert read_answers(file).rows == (Answer("P", " one"), Answer("Q", " ü\n"))
    assert read_answers(write_responses(tmp_path / "x.jsonl", rows)).rows[2] == Answer("Q", " ü\n")


def test_the_task_of_a_file_is_that_of_the_evaluation_beside_it(tmp_path: Path) -> None:
    rows = [record(0, 0, "P", "one")]
    (tmp_path / "results.json").write_text(json.dumps([{"name": "a-1.5", "task": "hh"}, {"name": "b", "task": "tldr"}]))
    for name, task in (("a-1.5.jsonl", "hh"), ("b.alpaca.json", "tldr"), ("c.jsonl", "")):
        found = read_answers(write_responses(tmp_path / name, rows))
        assert (found.name, found.task) == (name.partition(".json")[0].removesuffix(".alpaca"), task)


def test_a_resumed_run_forgets_the_responses_of_steps_that_it_does_again(tmp_path: Path) -> None:
    for step in (0, 50, 100, 1_000_000):
        write_responses(tmp_path / f"eval/step-{step:06d}.jsonl", [])
    forget_after(tmp_path, 50)
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["step-000000.jsonl", "step-000050.jsonl"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "holds no responses"),
        ("{", "neither JSON lines nor a JSON list of responses"),
        ('{"prompt": "a"}\n', "response 1: has neither prompt and response nor instruction and output as text"),
        ("[3]", "response 1: has neither prompt"),
    ],
)
def test_a_file_without_responses_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=line) as caught:
        read_answers(file)
    assert "\n" not in str(caught.value)


def test_what_is_no_run_and_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no responses to held-out prompts; make them with: scar-ray eval"):
        read_answers(tmp_path)
    with pytest.raises(UserError, match=r"no such run folder or file of responses$"):
        read_answers(tmp_path / "none")


def test_runs_on_different_prompts_are_not_compared() -> None:
    first, second = answers("a", "b"), answers("a", "b", "c")
    with pytest.raises(UserError, match="x has 2 responses, x 3; evaluate both on the same prompts with scar-ray eval"):
        check_same_prompts(first, second)
    other = Answers("y", Path("y"), "", (Answer("0", "a"), Answer("another", "b")))
    with pytest.raises(UserError, match=r"x and y answer different prompts, from number 2 on \('1' and 'another'\);"):
        check_same_prompts(first, other)
