"""Batch arithmetic and evaluation counts with literal numbers, and the text of the dry run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.config.arithmetic import BatchArithmetic, Evaluations, batch_arithmetic, evaluations, typical_job
from scar_ray.config.describe import describe
from scar_ray.config.load import load
from scar_ray.config.schema import Config
from scar_ray.records import CreditPlan


def test_a_batch_is_cut_into_mini_batches_and_micro_batches() -> None:
    config = load(
        [
            "algorithm.batch.prompts=32",
            "algorithm.batch.samples=4",
            "algorithm.batch.minibatch=32",
            "algorithm.epochs=2",
            "cluster.learner.ranks=2",
            "cluster.learner.micro_batch=4",
            "trainer.steps=10",
        ]
    )
    assert batch_arithmetic(config) == BatchArithmetic(
        responses=128,
        minibatches=4,
        optimizer_steps=8,
        micro_batches=4,
        new_tokens=128 * 24,
        total_responses=1280,
        total_optimizer_steps=80,
    )


@pytest.mark.parametrize("credit", ["sparse", "uniform", "abc"])
def test_methods_without_units_need_the_plain_score_only(credit: str) -> None:
    assert evaluations(load([f"credit={credit}"])) == Evaluations(typical=1, most=1, tokens=27, computed=27, units=0)


def test_prefixes_need_one_evaluation_a_unit_and_the_empty_one() -> None:
    counts = evaluations(load(["credit=prefix", "task=imdb"]))
    # 25 times a prompt of 6 tokens, and beginnings of 0 to 24 tokens.
    assert counts == Evaluations(typical=25, most=25, tokens=25 * 6 + 24 * 25 // 2, computed=6 + 24, units=24)


def test_completions_are_responses_and_their_tokens_are_generated() -> None:
    config = load(["credit=prefix_complete", "credit.unit=token", "credit.completions=3", "task=imdb"])
    # 3 completions from after 0 to 23 of 24 tokens, each response read as a whole behind a prompt of 6 tokens.
    read = (1 + 3 * 24) * (6 + 24)
    expected = Evaluations(typical=73, most=73, tokens=read, computed=read, units=24, generated=3 * 24 * 25 // 2)
    assert evaluations(config) == expected
    assert describe(config).splitlines()[-1] == (
        "  values by 3 completions each: at most 900 more generated tokens per response, 28,800 per step; "
        "what responses share is written once"
    )


def test_spans_need_fewer_evaluations_than_the_budget() -> None:
    counts = evaluations(load(["credit=scar_span"]))
    assert counts.most == 128
    assert 4 <= counts.units <= 12
    assert 2 * counts.units < counts.typical < 128


def test_tokens_at_full_length_are_all_units() -> None:
    counts = evaluations(load(["credit=scar_token", "credit.estimator=paired_tree", "task=imdb"]))
    # Paired tree: 2n + 2 coalitions on a flat tree, 4n - 4 on a binary one. They hold half of the response on average.
    assert (counts.most, counts.units) == (128, 24)
    assert 50 < counts.typical <= 92
    assert counts.tokens == pytest.approx(counts.typical * (6 + 12), rel=0.01)


def test_fills_keep_the_length_of_the_response() -> None:
    counts = evaluations(load(["credit=scar_token", "credit.masking=attention", "credit.budget=256", "task=imdb"]))
    assert counts.tokens == 256 * (6 + 24)
    assert counts.computed < 256 * 12, "what is not attended to is not computed"


def test_a_budget_of_tokens_bounds_what_is_computed() -> None:
    counts = evaluations(load(["credit=scar_token", "credit.budget_tokens=200", "task=imdb"]))
    assert 100 < counts.computed <= 200 - counts.typical, "each sequence has an end as well"
    assert counts.tokens > 200
    assert counts.units < 24


def test_units_are_merged_to_fit_a_small_budget() -> None:
    counts = evaluations(load(["credit=scar_token", "credit.budget=20"]))
    assert counts.most == 20
    assert counts.units <= 10


def test_longer_responses_of_sentences_have_more_units() -> None:
    short = evaluations(load(["credit=scar_sentence", "task.sampling.max_new_tokens=16"]))
    long = evaluations(load(["credit=scar_sentence", "task.sampling.max_new_tokens=160"]))
    assert (short.units, short.typical < 10) == (2, True)
    assert 8 <= long.units <= 14


def test_exact_shapley_needs_all_coalitions() -> None:
    counts = evaluations(
        load(["credit=scar_token", "credit.estimator=shapley", "credit.max_units=8", "credit.budget=256"])
    )
    assert counts.most == 256
    assert 128 <= counts.typical <= 256, "merging may leave fewer than 8 units"


@given(
    unit=st.sampled_from(["token", "word", "span", "sentence", "paragraph", "auto"]),
    estimator=st.sampled_from(["auto", "owen", "paired_tree", "shapley", "permutations", "myerson"]),
    method=st.sampled_from(["scar", "prefix"]),
    tokens=st.integers(1, 40),
    budget=st.integers(4, 600),
    max_units=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_the_estimate_stays_below_the_bound(
    unit: str, estimator: str, method: str, tokens: int, budget: int, max_units: int
) -> None:
    if estimator in ("owen", "shapley"):
        max_units = min(max_units, budget.bit_length() - 1)
    config = Config.model_validate(
        {
            "credit": {
                "unit": unit,
                "estimator": estimator,
                "method": method,
                "budget": budget,
                "max_units": max_units,
            },
            "task": {"sampling": {"max_new_tokens": tokens}},
        }
    )
    counts = evaluations(config)
    assert 1 <= counts.typical <= counts.most
    assert counts.most <= (budget if method == "scar" else max_units + 1)


def test_the_dry_run_tells_placement_batch_and_evaluations() -> None:
    text = describe(
        load(["algorithm=ppo", "cluster=gpu8", "cluster.rollout.tensor_parallel=2", "cluster.rollout.engines=2"])
    )
    assert text.startswith("Configuration\n  seed: 0\n  name: null\n  runs: runs\n  task:\n    name: demo\n")
    _, _, plan = text.partition("\n\n")
    assert plan.startswith(
        """Placement (separate GPUs)
  role        actors   CPUs each   GPUs each  bundles
  rollout          2           2           2  0-3
  learner          2           1           1  4-5
  reward           2           1           1  6-7
  in all: 8 bundles, 8 CPUs, 8 GPUs

Batch of a step
  responses: 64 prompts x 1 samples = 64, at most 1,536 new tokens
  optimizer steps: 4 epochs x 1 mini-batches of 64 = 4
  each optimizer step: 2 ranks x 4 micro-batches of 8
  held-out prompts: up to 128 x 1 samples before the first step, every 50 steps and after the last
  the run: 200 steps, 12,800 responses, 800 optimizer steps

"""
    )


def test_the_dry_run_of_abc_counts_plain_scores() -> None:
    assert describe(load(["credit=abc"])).endswith(
        "plain scores included\n  per response: 1 (plain score and attention)\n  per step: 64"
    )


def test_the_typical_response_has_the_lengths_and_coalitions_of_the_run() -> None:
    config = load(["task.prompt_tokens_min=30", "task.prompt_tokens_max=41", "task.sampling.max_new_tokens=20"])
    response, plan = typical_job(config)
    assert (len(response.prompt.token_ids), response.n_tokens) == (36, 20)
    assert len(response.prompt.text.split()) > 20
    assert plan.game is not None
    assert plan.game.n_coalitions > 1
    assert typical_job(load(["credit=abc"]))[1] == CreditPlan(attention=True)
