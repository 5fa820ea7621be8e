"""NDCG as a reward function: values of rewrites and of their parts, lists of rewrites, and what goes wrong."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue_files import GAINS, write_files
from make_response import make_response, words

from scar_ray import cli
from scar_ray.config.load import load
from scar_ray.config.schema import RewardModelConfig
from scar_ray.credit import build
from scar_ray.records import Response, Sample, SequenceScore
from scar_ray.scoring import FunctionReward, RewardUnavailable, SampleFailed
from scar_ray.search import SearchReward

SECOND = 1 / math.log2(3)
"""Discount of the second rank."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def sample(text: str, query: str = "shoes for running") -> Sample:
    return Sample(f"Query: {query}", text, {"query": query, "gains": GAINS[query]})


def reward(folder: Path, **options: object) -> SearchReward:
    return SearchReward(str(write_files(folder)[0]), **options)


def function(folder: Path, **options: object) -> FunctionReward:
    options = {"products": str(write_files(folder)[0]), **options}
    return FunctionReward(RewardModelConfig(function="scar_ray.search:SearchReward", options=options))


def response_to(text: str, query: str = "shoes for running") -> Response:
    response = make_response(words(text))
    return replace(response, prompt=replace(response.prompt, data={"query": query, "gains": GAINS[query]}))


def test_a_rewrite_is_worth_the_ndcg_of_what_it_finds(tmp_path: Path) -> None:
    found = reward(tmp_path)([sample("running shoes"), sample("Red shoes!"), sample("lamp"), sample("zebra")])
    # "Red shoes!" finds A, then B and C, which share one word each; C is irrelevant.
    assert found == pytest.approx([1.0, 1.0, 0.0, 0.0])
    [value] = reward(tmp_path)([sample("red towels", "towel")])
    # C, A (not judged), D or D, A: red and towels are in two texts each, so rows decide: C, A, D.
    assert value == pytest.approx((1 + 0.1 / 2) / (1 + 0.1 * SECOND))


def test_an_empty_query_finds_nothing_whatever_the_retriever(tmp_path: Path) -> None:
    finder = tmp_path / "finder.py"
    finder.write_text("class All:\n  def __init__(self, c): pass\n  def search(self, q, k): return [[0, 1]] * len(q)\n")
    for retriever in ("bm25", "ngrams", f"{finder}:All"):
        assert reward(tmp_path, retriever=retriever)([sample(""), sample(" \n"), sample("?!")]) == [0.0, 0.0, 0.0]
    assert reward(tmp_path, retriever=f"{finder}:All")([sample("x")]) == [1.0]


def test_a_query_may_be_searched_together_with_what_is_added_to_it(tmp_path: Path) -> None:
    added = [sample("", "towel"), sample("towels red", "towel"), sample("", "shoes for running"), sample("lamp lamp")]
    alone, whole = reward(tmp_path)(added), reward(tmp_path, keep_query=True)(added)
    assert alone[0] == alone[2] == 0.0
    assert whole == pytest.approx([0.0, alone[1], 1.0, (SECOND + 0.5) / (1 + SECOND)])  # the lamp, A, B
    known = reward(tmp_path, keep_query=True, judgements=[str(write_files(tmp_path)[1])])
    assert known([Sample("shoes for running", "", {})]) == [1.0], "v(empty) is the NDCG of the query"


def test_products_that_were_not_judged_take_their_places(tmp_path: Path) -> None:
    assert reward(tmp_path, k=1)([sample("lamp", "towel"), sample("lamp lamp towels", "towel")]) == [0.0, 0.0]
    assert reward(tmp_path, k=2)([sample("towels lamp lamp", "towel")]) == pytest.approx([SECOND / (1 + 0.1 * SECOND)])


def test_a_list_is_worth_its_best_rewrite(tmp_path: Path) -> None:
    listed = reward(tmp_path, best_of=2)
    texts = ["1. lamp\n2. running", "\n1. lamp\n2. towels\n3. running", "no list", "1. \n2. running"]
    assert listed([sample(text) for text in texts]) == [1.0, 0.0, 0.0, 1.0]


TEXTS = [
    "1. lamp\n2. running shoes\n3. red",
    "1. red\n2. red\n3. red",
    "1. shoes",
    "no list",
    "\n1. \n2. lamp 3. shoes",
]


@pytest.mark.parametrize("keep_query", [False, True])
def test_shapley_shares_and_plain_grpo_have_the_same_reward_of_the_set(tmp_path: Path, keep_query: bool) -> None:
    each, whole = (function(tmp_path, keep_query=keep_query, best_of=best_of) for best_of in (None, 3))
    shapley, plain = (build(**load([f"credit={word}"]).credit.method_options()) for word in ("shape_grpo", "sparse"))
    for text in TEXTS:
        response = response_to(text)
        plan = shapley.plan(response)
        [evaluation] = each.evaluate([(response, plan)])[0]
        [of_the_set] = whole.evaluate([(response, plain.plan(response))])[0]
        assert shapley.score(response, plan, evaluation) == of_the_set.score
        credited = shapley.assign(response, plan, evaluation, SequenceScore(of_the_set.score, 1.0, 0.0))
        assert credited.rewards_T.sum() == pytest.approx(of_the_set.score)


def test_equal_rewrites_share_equally_and_one_alone_has_all(tmp_path: Path) -> None:
    for text, count, credits in (("1. red\n2. red", 2, [0.5, 0.5]), ("1. running shoes", 1, [1.0])):
        method = build(**load(["credit=shape_grpo", f"credit.candidates.count={count}"]).credit.method_options())
        response = response_to(text)
        plan = method.plan(response)
        [found] = function(tmp_path).evaluate([(response, plan)])[0]
        score = method.score(response, plan, found)
        shares = method.assign(response, plan, found, SequenceScore(score, 1.0, 0.0)).credits_n
        assert [credit for credit in shares if credit] == pytest.approx([score * each for each in credits])


def test_parts_of_a_rewrite_are_searched_by_themselves(tmp_path: Path) -> None:
    method = build(**load(["credit=scar_word"]).credit.method_options())
    response = response_to("lamp running")
    plan = method.plan(response)
    [found] = function(tmp_path, k=1).evaluate([(response, plan)])[0]
    assert plan.game is not None
    assert found.values_C is not None
    by_coalition = {
        tuple(map(bool, row)): value for row, value in zip(plan.game.coalitions_Cn, found.values_C, strict=True)
    }
    assert by_coalition[False, False] == 0.0
    assert by_coalition[True, False] == 0.0
    assert by_coalition[False, True] == 1.0
    assert by_coalition[True, True] == found.score == 0.0  # the lamp is found first: its idf is larger
    credits = method.assign(response, plan, found, SequenceScore(0.0, 1.0, 0.0)).credits_n
    np.testing.assert_allclose(credits, [-0.5, 0.5])


def test_a_prompt_without_data_is_looked_up_among_the_judgements(tmp_path: Path) -> None:
    asked = reward(tmp_path, judgements=[str(write_files(tmp_path)[1])], prompt="Query: {query}\nRewrite:")
    prompts = ["towel", "Query: towel\nRewrite:", "Query: towel Rewrite:"]
    assert asked([Sample(prompt, "red towels", {}) for prompt in prompts]) == pytest.approx(
        [asked([sample("red towels", "towel")])[0]] * 3
    )
    with pytest.raises(
        ValueError, match=r"prompt 'boots' is no query with judgements; model.reward.options.judgements"
    ):
        asked([Sample("boots", "boots", {})])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retriever": "bm52"}, "model.reward.options.retriever=bm52: must be bm25, ngrams, dense, a URL, "),
        (
            {"retriever": "bm25", "retriever_options": {"k2": 1}},
            "retriever_options do not fit: got an unexpected keyword",
        ),
        ({"retriever": "nowhere:Finder"}, r"model.reward.options.retriever=nowhere:Finder cannot be imported"),
        ({"k": 0}, "model.reward.options.k=0: must be a whole number of at least 1"),
        ({"best_of": 0}, "model.reward.options.best_of=0: must be a whole number of at least 1, or null"),
    ],
)
def test_options_that_cannot_be_are_one_line(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        reward(tmp_path, **options)
    assert "\n" not in str(raised.value)


FAILING = """
class Down:
    def __init__(self, catalogue): pass
    def search(self, queries, k): raise ConnectionError("index is closed")
class Twice(Down):
    def search(self, queries, k): return [[0, 0]] * len(queries)
class Few(Down):
    def search(self, queries, k): return []
"""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Down", "raised ConnectionError: index is closed"),
        ("Twice", r"the retriever finds rows \[0, 0\] for 'boots'; they must be different rows of the catalogue"),
        ("Few", "the retriever answers 0 of 1 queries; it must answer each"),
    ],
)
def test_a_failing_retriever_ends_the_run_with_the_sample(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "finder.py").write_text(FAILING)
    response = response_to("boots")
    plan = build(**load(["credit=sparse"]).credit.method_options()).plan(response)
    with pytest.raises(SampleFailed, match=rf"^prompt 0, sample 0 \('boots'\): .*{problem}"):
        function(tmp_path, retriever=f"{tmp_path / 'finder.py'}:{name}").evaluate([(response, plan)])


class Service(BaseHTTPRequestHandler):
    """Finds A and B for everything, and Z for "bad"."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"products": [["Z"] if q == "bad" else ["A", "B"][: asked["k"]] for q in asked["queries"]]})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/search"
    server.shutdown()
    server.server_close()


def test_a_retriever_may_be_a_service(tmp_path: Path, service: str) -> None:
    assert reward(tmp_path, retriever=service)([sample("x"), sample(""), sample("x", "towel")]) == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="found product 'Z', which is not in the catalogue"):
        reward(tmp_path, retriever=service)([sample("bad")])


def test_a_service_that_is_down_is_named_and_is_no_reward_of_0(tmp_path: Path) -> None:
    options = {"retries": 1, "backoff_s": 0.01}
    url = "http://127.0.0.1:9/search"
    with pytest.raises(
        RewardUnavailable, match=rf"^the retriever: {url} does not answer .*; start the endpoint, or raise"
    ):
        reward(tmp_path, retriever=url, retriever_options=options)([sample("x")])


def test_explain_shows_which_words_of_a_rewrite_found_the_products(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    products, judged = write_files(tmp_path)
    known = [f"model.reward.options.products={products}", f"model.reward.options.judgements=[{judged}]"]
    words = ["explain", "--reward-model", "scar_ray.search:SearchReward", "--prompt", "towel"]
    out = tmp_path / "credits.jsonl"
    assert cli.main([*words, "--response", "red towels", "--out", str(out), "credit=ospo,scar_word", *known]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["credit"] for row in found] == ["ospo", "scar_word"]
    assert found[0]["score"] == pytest.approx((1 + 0.1 / 2) / (1 + 0.1 * SECOND))
    listed = [*words, "--response", "1. lamp\n2. towels", "--out", str(out), "credit=shape_grpo", *known]
    assert cli.main(listed) == 0
    [row] = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["score"] == pytest.approx(1.0)
    assert {unit["text"].strip(): unit["credit"] for unit in row["units"]}["lamp"] == 0.0
    assert cli.main([*words[:-1], "boots", "--response", "boots", "credit=sparse", *known]) == 2
    assert "prompt 'boots' is no query with judgements" in capsys.readouterr().err
