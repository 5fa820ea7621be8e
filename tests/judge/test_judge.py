"""Judging against a scripted endpoint: order, verdicts, errors, stalls, lies, and going on after a stop."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Deed, Server, completion, failure, serving, shown

from scar_ray import cli
from scar_ray.config.errors import UserError
from scar_ray.judge.cache import Cache, Reply, key_of
from scar_ray.judge.client import Endpoint
from scar_ray.judge.compare import Outcome
from scar_ray.judge.criteria import CRITERIA
from scar_ray.judge.judge import Judge, judge
from scar_ray.judge.responses import Answer, Answers

GOOD, BAD = "a good one", "a bad one"


def answers(name: str, *responses: str) -> Answers:
    rows = tuple(Answer(f"Prompt {n}", response) for n, response in enumerate(responses))
    return Answers(name, Path(f"{name}.jsonl"), "tldr", rows)


def prefers_good(body: dict[str, Any], before: int) -> Deed:
    first, second = shown(body)
    verdict = "tie" if (first == GOOD) == (second == GOOD) else "A" if first == GOOD else "B"
    return completion(f"One is better.\n\nVerdict: {verdict}")


def run(
    server: Server, out: Path, first: Answers, second: Answers, *, both: bool = True, **endpoint: Any
) -> tuple[Outcome, str]:
    settings = {"retries": 2, "timeout_s": 60.0, **endpoint}
    by = Judge(Endpoint(server.url, "key", **settings), "m", CRITERIA["summary"], {"temperature": 0.0}, both)
    return judge(by, first, second, out, lambda done, total: None)


def test_a_judge_that_knows_the_better_one_finds_it_in_either_order(tmp_path: Path) -> None:
    first, second = answers("a", GOOD, GOOD, BAD, BAD, GOOD), answers("b", BAD, BAD, GOOD, "another bad one", GOOD)
    with serving(prefers_good) as server:
        found, reason = run(server, tmp_path, first, second)
    assert (found.wins, found.ties, found.losses, found.identical) == (2, 2, 1, 1)
    assert (found.win_rate, reason) == (0.6, "")
    assert 0.0 < found.low < 0.6 < found.high <= 1.0
    assert (found.first_shown, found.agreement) == (0.5, 1.0)
    assert len(server.asked) == 8, "equal responses are not asked about, all others in both orders"
    assert server.keys == ["Bearer key"] * 8
    assert "key" not in (tmp_path / "result.json").read_text()
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["win_rate"], result["model"], result["criteria"]) == (0.6, "m", "summary")
    verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert [(one["shown_first"], one["verdict"]) for one in verdicts[:2]] == [("a", "A"), ("b", "B")]


def test_a_judge_that_likes_what_comes_first_wins_nothing_for_anybody(tmp_path: Path) -> None:
    first, second = answers("a", *[GOOD] * 6), answers("b", *[BAD] * 6)
    with serving(lambda body, before: completion("Verdict: A")) as server:
        found, _ = run(server, tmp_path / "both", first, second)
        assert (found.win_rate, found.ties, found.first_shown, found.agreement) == (0.5, 6, 1.0, 0.0)
        found, _ = run(server, tmp_path / "once", first, second, both=False)
        assert (found.win_rate, found.wins, found.losses) == (0.5, 3, 3), "each is shown first in half of the pairs"


def test_verdicts_that_cannot_be_read_are_counted_and_not_guessed(tmp_path: Path) -> None:
    said = {"p0": "Verdict: C", "p1": "", "p2": None, "p3": "Verdict: A\nVerdict: B", "p4": "A", "p5": "Verdict: tie"}
    first = answers("a", *(f"p{n} good" for n in range(6)))
    second = answers("b", *(f"p{n} bad" for n in range(6)))
    with serving(lambda body, before: completion(said[shown(body)[0].split()[0]])) as server:
        found, reason = run(server, tmp_path, first, second)
    assert (found.unparsed, found.unanswered, found.ties, reason) == (5, 0, 1, "")
    assert found.win_rate == 0.5


def test_nothing_but_unreadable_verdicts_gives_no_win_rate(tmp_path: Path) -> None:
    with serving(lambda body, before: completion("Both are fine.")) as server:
        found, _ = run(server, tmp_path, answers("a", GOOD), answers("b", BAD))
    assert found.unparsed == 1
    assert found.win_rate != found.win_rate
    assert json.loads((tmp_path / "result.json").read_text())["win_rate"] is None


@pytest.mark.parametrize(
    "trouble",
    [
        failure(500),
        failure(503),
        failure(429, retry_after="0.1"),
        failure(408),
    ],
    ids=["500", "503", "429", "408"],
)
def test_passing_trouble_is_waited_out(tmp_path: Path, trouble: Deed) -> None:
    with serving(lambda body, before: prefers_good(body, before) if before else trouble) as server:
        found, reason = run(server, tmp_path, answers("a", GOOD), answers("b", BAD), concurrency=2)
    assert (found.wins, found.unanswered, reason) == (1, 0, "")
    assert sorted(Counter(json.dumps(body) for body in server.asked).values()) == [2, 2]


def test_an_endpoint_that_stalls_is_given_up_and_asked_again(tmp_path: Path) -> None:
    with serving(lambda body, before: prefers_good(body, before) if before else None) as server:
        found, _ = run(server, tmp_path, answers("a", GOOD), answers("b", BAD), both=False, timeout_s=2.0)
        assert (found.wins, found.unanswered) == (1, 0)
        server.does = lambda body, before: None
        out = tmp_path / "other"
        found, reason = run(server, out, answers("a", GOOD), answers("b", BAD), timeout_s=0.2, retries=0)
    assert (found.unanswered, reason) == (1, "no answer within 0.2 s")


LIES: dict[str, tuple[Callable[[], Deed], str]] = {
    "html": (lambda: (200, "<html>Sorry</html>", {}), "what came is no chat completion: '<html>Sorry</html>'"),
    "empty": (lambda: (200, "", {}), "what came is no chat completion: ''"),
    "wrong JSON": (lambda: (200, '{"answer": 42}', {}), "what came is no chat completion: '{\"answer\": 42}'"),
    "no choices": (lambda: (200, '{"choices": []}', {}), "what came is no chat completion: '{\"choices\": []}'"),
    "a list": (lambda: (200, "[1, 2]", {}), "what came is no chat completion: '[1, 2]'"),
    "no text": (lambda: (200, '{"choices": [{"message": {"content": {"a": 1}}}]}', {}), "what came is no text"),
    "400": (lambda: failure(400, "too long"), "Error code: 400 - too long"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_answer_is_not_kept_and_asked_for_again(tmp_path: Path, lie: str) -> None:
    makes, reason = LIES[lie]
    first, second = answers("a", GOOD, GOOD), answers("b", BAD, BAD)
    with serving(lambda body, before: makes() if "Prompt 1" in str(body) else prefers_good(body, before)) as server:
        found, told = run(server, tmp_path, first, second, retries=0)
        assert (found.wins, found.unanswered, found.win_rate) == (1, 1, 1.0)
        assert told.startswith(reason)
        server.does = prefers_good
        server.asked.clear()
        found, told = run(server, tmp_path, first, second)
    assert (found.wins, found.unanswered, told) == (2, 0, "")
    assert len(server.asked) == 2, "only what had no answer is asked again"


def test_a_stopped_judgement_goes_on_where_it_was_also_after_half_a_line(tmp_path: Path) -> None:
    first, second = answers("a", *[GOOD] * 4), answers("b", *[BAD] * 4)
    with serving(prefers_good) as server:
        run(server, tmp_path, first, second)
        file = tmp_path / "answers.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        assert len(lines) == 8
        file.write_bytes(b"".join(lines[:5]) + b'{"key": "broken"}\n' + lines[5][:20])
        server.asked.clear()
        found, _ = run(server, tmp_path, first, second)
        assert len(server.asked) == 3
        assert found.wins == 4
        server.asked.clear()
        run(server, tmp_path, first, second)
        assert server.asked == []
        for other in ({"temperature": 1.0}, {"max_tokens": 5}):
            by = Judge(Endpoint(server.url, "key"), "m", CRITERIA["summary"], other)
            judge(by, first, second, tmp_path, lambda done, total: None)
        assert len(server.asked) == 16, "another setting is another request"


def test_requests_keep_the_pace_repeated_ones_too(tmp_path: Path) -> None:
    times: list[float] = []

    def note(body: dict[str, Any], before: int) -> Deed:
        times.append(time.monotonic())
        return prefers_good(body, before) if before else failure(500)

    with serving(note) as server:
        run(server, tmp_path, answers("a", GOOD), answers("b", BAD), per_minute=240.0, concurrency=4)
    assert len(times) == 4
    assert max(times) - min(times) > 3 * 0.25 - 0.05


def test_no_more_requests_than_asked_for_are_under_way(tmp_path: Path) -> None:
    now, most = [0], [0]

    def count(body: dict[str, Any], before: int) -> Deed:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.05)
        now[0] -= 1
        return prefers_good(body, before)

    with serving(count) as server:
        run(server, tmp_path, answers("a", *[GOOD] * 6), answers("b", *[BAD] * 6), concurrency=3)
    assert most[0] <= 3


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (401, "refuses the key \\(Error code: 401 .*\\); check the environment variable$"),
        (404, "Error code: 404 .*; check --base-url \\(it usually ends in /v1\\) and --model=m$"),
        (403, "Error code: 403 .*; check --base-url"),
    ],
)
def test_what_no_request_gets_past_ends_it_at_once(tmp_path: Path, status: int, line: str) -> None:
    with serving(lambda body, before: failure(status)) as server, pytest.raises(UserError, match=line):
        run(server, tmp_path, answers("a", *[GOOD] * 4), answers("b", *[BAD] * 4))
    assert len(server.asked) == 1


def test_where_nobody_listens_it_is_one_line(tmp_path: Path) -> None:
    with serving(prefers_good) as server:
        pass
    with pytest.raises(UserError, match=r"^no endpoint answers at http://127.0.0.1:\d+/v1 \(.*\)$"):
        run(server, tmp_path, answers("a", GOOD), answers("b", BAD), retries=0)


def test_two_processes_do_not_write_one_cache(tmp_path: Path) -> None:
    with Cache(tmp_path / "answers.jsonl") as cache:
        cache.put("k", Reply("text", "stop"))
        with (
            pytest.raises(UserError, match=r"another process is judging here; wait for it or give another --out$"),
            Cache(tmp_path / "answers.jsonl"),
        ):
            pass
    with Cache(tmp_path / "answers.jsonl") as cache:
        assert cache.get("k") == Reply("text", "stop")


def test_the_key_of_a_request_does_not_depend_on_the_order_of_its_settings() -> None:
    assert key_of({"a": 1, "b": "ü\ud83d"}) == key_of({"b": "ü\ud83d", "a": 1}) != key_of({"a": 2, "b": "ü\ud83d"})


# the command


def write_rows(file: Path, *responses: str) -> Path:
    rows = [{"prompt": f"Prompt {n}", "response": response} for n, response in enumerate(responses)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_command_prints_the_outcome_and_its_file(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    first, second = write_rows(tmp_path / "one.jsonl", GOOD, GOOD), write_rows(tmp_path / "two.jsonl", BAD, GOOD)
    options = ["--model", "m", "--criteria", "assistant", "--retries", "0"]
    with serving(prefers_good) as server:
        assert cli.main(["judge", str(first), str(second), "--base-url", server.url, *options]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "one against two, judged by m on 2 pairs (assistant)",
            "win rate of one: 75.0 % (95 % interval 50.0 % to 100.0 %)",
            "won 1, tied 1 (of these 1 equal responses), lost 0",
            "left out: 0 without a readable verdict, 0 without an answer",
            "shown first and preferred: 50.0 % of the verdicts that are no ties",
            "the same verdict in both orders: 100.0 % of the pairs",
            "judge/one-vs-two/result.json",
        ]
        assert server.asked[0]["temperature"] == 0
        assert server.asked[0]["max_tokens"] == 1024
        server.does = lambda body, before: failure(500)
        again = ["judge", str(first), str(second), "--base-url", server.url, *options, "--extra", '{"top_k": 3}']
        assert cli.main(again) == 1
        assert server.asked[-1]["top_k"] == 3
        assert capsys.readouterr().err.startswith("scar-ray: 1 pairs without an answer (Error code: 500")


MISTAKES = {
    "--base-url=ftp://x": "--base-url=ftp://x: must be a URL such as http://127.0.0.1:8000/v1",
    "--base-url=https://api.example.com/v1": (
        "--base-url=https://api.example.com/v1: needs a key, and the environment variable OPENAI_API_KEY is not set; "
        "set it, or name another one with --key-env"
    ),
    "--concurrency=0": "--concurrency=0: must be at least 1",
    "--rate=0": "--rate=0: must be above 0",
    "--temperature=warm": "--temperature=warm: must be a number or none",
    "--extra=[1]": '--extra=[1]: must be a JSON object, such as \'{"reasoning_effort": "low"}\'',
    "--criteria=beauty": "--criteria=beauty: neither a file nor one of summary, assistant, review",
    "": "--criteria: which ones? summary, assistant, review, or a text file with your own",
}


@pytest.mark.parametrize("option", MISTAKES)
def test_a_mistake_is_one_line(option: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    first, second = write_rows(tmp_path / "one.jsonl", GOOD), write_rows(tmp_path / "two.jsonl", BAD)
    url = ["--base-url", "http://127.0.0.1:1/v1"]
    assert cli.main(["judge", str(first), str(second), *url, "--model", "m", *([option] if option else [])]) == 2
    assert capsys.readouterr().err == f"scar-ray: error: {MISTAKES[option]}\n"
