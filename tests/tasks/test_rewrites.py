"""Prompts and demonstrations of product search, from a small catalogue."""

import re
from pathlib import Path

import pytest
from test_catalogue import JUDGED, PRODUCTS, written

from scar_ray.config.load import load
from scar_ray.config.preflight import missing, preflight_supervised
from scar_ray.config.schema import ArchitectureConfig, Config
from scar_ray.tasks.prompts import load_held_out, load_prompts
from scar_ray.tasks.rewrites import load_rewrites
from scar_ray.tasks.scratch import train_tokenizer

TOKENIZER = train_tokenizer(["red shoes blue"], ArchitectureConfig(vocab_size=300))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def config(folder: Path, *overrides: str, task: str = "product_search") -> Config:
    products, judged = written(folder / "products.jsonl", *PRODUCTS), written(folder / "judged.jsonl", *JUDGED)
    sources = [f"task.products.source={products}", f"task.train.source={judged}", f"task.test.source={judged}"]
    return load(
        [f"task={task}", *sources, "algorithm.batch.prompts=2", "algorithm.batch.minibatch=2", *SMALL, *overrides]
    )


SMALL = [
    "task.keep_query=false",
    "algorithm.batch.prompts=2",
    "algorithm.batch.minibatch=2",
    "cluster.learner.micro_batch=2",
]


def test_prompts_are_queries_and_bring_their_judgements(tmp_path: Path) -> None:
    prompts = load_prompts(config(tmp_path), TOKENIZER)
    assert [prompt.text for prompt in prompts] == ["Query: red shoes\nRewrite:", "Query: blue\nRewrite:"]
    assert [prompt.data for prompt in prompts] == [
        {"query": "red shoes", "gains": {"A": 1.0, "B": 0.1}},
        {"query": "blue", "gains": {"B": 1.0}},
    ]


def test_the_judgements_stay_with_their_query_where_longer_ones_are_left_out(tmp_path: Path) -> None:
    longest = len(TOKENIZER("Query: blue\nRewrite:")["input_ids"])
    short = config(tmp_path, f"task.prompt_tokens_max={longest}", "task.prompt_tokens_min=1")
    [prompt] = load_held_out(short, TOKENIZER)
    assert (prompt.text, prompt.data["gains"]) == ("Query: blue\nRewrite:", {"B": 1.0})


def test_a_rewrite_keeps_the_query_but_for_a_word_and_adds_words_of_a_relevant_product(tmp_path: Path) -> None:
    task = config(tmp_path).task
    rows = load_rewrites(task, "sft_test", 3)
    assert [row.prompt for row in rows] == ["Query: red shoes\nRewrite:", "Query: blue\nRewrite:"]
    assert re.fullmatch(r" (red shoes|red|shoes)( (red|shoes|nix))+", rows[0].completion)
    assert re.fullmatch(r" blue shoes", rows[1].completion)
    assert load_rewrites(task, "sft_test", 3) == rows
    train = load_rewrites(task, "sft_train", 3)
    assert len(train) == 4, "a pseudo-query for each product, too"
    assert all(row.completion.startswith(" ") for row in train)


def test_only_the_added_words_are_learned_where_the_query_is_searched_with_them(tmp_path: Path) -> None:
    rows = load_rewrites(config(tmp_path, "task.keep_query=true").task, "sft_test", 3)
    assert [row.completion for row in rows] == [" nix", " shoes"]


def test_a_list_of_rewrites_is_numbered(tmp_path: Path) -> None:
    rows = load_rewrites(config(tmp_path, task="product_rewrites").task, "sft_train", 2)
    assert all(re.fullmatch(r"\n1\. \S.*\n2\. \S.*", row.completion) for row in rows)
    assert rows[0].prompt == "Query: red shoes\nRewrites:"


def test_what_is_missing_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    lines = missing(config(tmp_path, "task.products.source=gone.jsonl", f"runs={tmp_path}"))
    assert "task.products.source=gone.jsonl: no such data file; give a JSONL, CSV or parquet file" in lines
    assert (
        "model.policy.path=models/product_search/policy: no such model folder; make it with: "
        + ("scar-ray sft task=product_search model=tiny")
        in lines
    )
    with pytest.raises(ValueError, match=r"^task=product_search has no reward model to train, its reward is NDCG"):
        preflight_supervised(config(tmp_path), "rm")


def test_a_prompt_without_the_query_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task\.train\.prompt='Rewrite:': must hold \{query\}"):
        config(tmp_path, "task.train.prompt='Rewrite:'")
