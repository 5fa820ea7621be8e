"""Rewards behind an HTTP endpoint, against a real server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from make_response import make_response

from scar_ray.config.schema import RewardModelConfig
from scar_ray.records import CreditPlan
from scar_ray.scoring import FunctionReward, RewardUnavailable, SampleFailed


class Endpoint(ThreadingHTTPServer):
    """Answers with the lengths of the responses, after the statuses of `script`; keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[int] = []
        self.body: bytes | None = None
        self.seen: list[tuple[dict[str, Any], str | None]] = []
        self.gate: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/score"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((sent, self.headers["Authorization"]))
        if self.server.gate is not None:
            self.server.gate.wait(timeout=60)
        status = self.server.script.pop(0) if self.server.script else 200
        rewards = [len(sample["response"]) for sample in sent["samples"]]
        body = self.server.body or json.dumps({"rewards": rewards}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def reward(url: str, batch_texts: int = 256, **options: object) -> FunctionReward:
    config = RewardModelConfig(function="http", options={"url": url, "backoff_s": 0.01, **options})
    return FunctionReward(config, batch_texts=batch_texts)


JOB = (make_response([" so", " good"]), CreditPlan())


def test_a_batch_is_one_post_of_json(endpoint: Endpoint) -> None:
    response = replace(JOB[0], prompt=replace(JOB[0].prompt, data={"query": 7}))
    [found], _ = reward(endpoint.url).evaluate([(response, CreditPlan())])
    assert found.score == 8.0
    sample = {"prompt": "A prompt", "response": " so good", "data": {"query": 7}}
    assert endpoint.seen == [({"samples": [sample]}, None)]


def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.script = [503, 429, 500]
    [found], _ = reward(endpoint.url).evaluate([JOB])
    assert found.score == 8.0
    assert len(endpoint.seen) == 4


def test_several_requests_are_under_way_at_the_same_time(endpoint: Endpoint) -> None:
    endpoint.gate = threading.Barrier(4)  # nobody is answered before all four have asked
    jobs = [(replace(JOB[0], text=" so good"[:n]), CreditPlan()) for n in range(4)]
    found, _ = reward(endpoint.url, batch_texts=1).evaluate(jobs)
    assert [one.score for one in found] == [0.0, 1.0, 2.0, 3.0]


def test_the_key_comes_from_the_environment_only(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_REWARD_KEY", "secret")
    reward(endpoint.url, key_env="MY_REWARD_KEY").evaluate([JOB])
    assert endpoint.seen[0][1] == "Bearer secret"
    monkeypatch.delenv("MY_REWARD_KEY")
    with pytest.raises(ValueError, match=r"options\.key_env=MY_REWARD_KEY: the environment variable is not set"):
        reward(endpoint.url, key_env="MY_REWARD_KEY")


def test_an_endpoint_that_stays_away_ends_the_run_and_is_never_a_zero(endpoint: Endpoint) -> None:
    endpoint.script = [503] * 3
    with pytest.raises(RewardUnavailable, match=r"127\.0\.0\.1:\d+/score answers 503 Service Unavailable; see to the"):
        reward(endpoint.url, retries=2).evaluate([JOB])
    assert len(endpoint.seen) == 3
    endpoint.script = [401]
    with pytest.raises(RewardUnavailable, match=r"answers 401 Unauthorized; .*key_env names$"):
        reward(endpoint.url).evaluate([JOB])
    with pytest.raises(
        RewardUnavailable, match=r"127\.0\.0\.1:9/.* does not answer \(.*refused.*\); start the endpoint"
    ):
        reward("http://127.0.0.1:9/", retries=1).evaluate([JOB])


WRONG = {
    b'{"rewards": [1, 2]}': r"returned 2 values for 1 samples",
    b'{"rewards": [null]}': r"returned NoneType None; it must return a number",
    b'{"rewards": [NaN]}': r"returned nan; it must return a finite number",
    b'{"scores": [1]}': r'raised ValueError: .*/score must answer \{"rewards": \[\.\.\.\]\}, it answers \'\{"scores"',
    b"<html>": r"raised ValueError: .* it answers '<html>'",
}


@pytest.mark.parametrize(("body", "line"), WRONG.items())
def test_a_wrong_answer_names_the_sample(body: bytes, line: str, endpoint: Endpoint) -> None:
    endpoint.body = body
    with pytest.raises(SampleFailed, match=r"^prompt 0, sample 0 \('so good'\).*" + line):
        reward(endpoint.url).evaluate([JOB])


def test_a_request_that_the_endpoint_refuses_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.script = [422]
    with pytest.raises(SampleFailed, match=r"raised ValueError: http://.* answers 422 "):
        reward(endpoint.url).evaluate([JOB])
    assert len(endpoint.seen) == 1


def test_an_address_must_be_one_of_http() -> None:
    with pytest.raises(ValueError, match=r"^model\.reward\.options\.url=localhost: must begin with http:// or https"):
        reward("localhost")
