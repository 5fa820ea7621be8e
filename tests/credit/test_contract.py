"""What every credit method must do; a method added to METHODS is tested here without further ado."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response

from scar_ray.credit import METHODS, CandidateRules, build
from scar_ray.credit.advantages import levels
from scar_ray.credit.set_utility import SetUtility
from scar_ray.records import Evaluation, SequenceScore
from scar_ray.text.parse import parse

OPTIONS = {
    "unit": "span",
    "estimator": "auto",
    "alpha": 0.8,
    "budget": 64,
    "max_units": 16,
    "base": "last",
    "budget_tokens": None,
    "masking": "delete",
    "w_max": 32,
    "candidates": CandidateRules(),
}
every_method = pytest.mark.parametrize("name", METHODS)

TOKENS = st.lists(
    st.sampled_from(
        [
            "the",
            " film",
            " was",
            " not",
            " good",
            ",",
            " but",
            " I",
            ".",
            "\n",
            "",
            "電",
            "😀",
            " 1. ",
            " 2",
            ". a",
            '["',
            '", "',
            '"]',
        ]
    ),
    max_size=30,
)
FINITE = st.floats(-1e3, 1e3, allow_nan=False)


@st.composite
def methods(draw, name):
    return build(
        name,
        unit=draw(st.sampled_from(["token", "word", "chunk", "span", "sentence", "paragraph", "auto"])),
        estimator=draw(st.sampled_from(["auto", "paired_tree"])),
        alpha=draw(st.sampled_from([0.0, 0.3, 0.8, 1.0])),
        budget=draw(st.sampled_from([4, 7, 64])),
        max_units=draw(st.sampled_from([1, 5, 40])),
        base=draw(st.sampled_from(["last", "spread", "zero"])),
        w_max=draw(st.sampled_from([1, 3, 32])),
        candidates=CandidateRules(
            form=draw(st.sampled_from(["numbered", "json", "separator"])),
            count=draw(st.sampled_from([1, 2, 4])),
            utility=SetUtility(
                draw(st.sampled_from(["max", "top_m", "dcg", "mean", "max_floor", "coverage"])), 2, ("film", "good")
            ),
            floor=draw(st.sampled_from([None, -1.0])),
            scaling=draw(st.sampled_from(["length_exact", "k_phi", "raw"])),
        ),
    )


@st.composite
def responses(draw):
    """Responses of at least one token: finished, truncated, of an end-of-sequence token only."""
    tokens = draw(TOKENS)
    return make_response(tokens, finished=draw(st.booleans()) or not tokens)


@st.composite
def scores(draw):
    """Plain scores as they are, clipped, punished."""
    raw = draw(FINITE)
    clip = draw(st.sampled_from([None, 0.5, 100.0]))
    scale = 1.0 if clip is None or raw == 0 else float(np.clip(raw, -clip, clip)) / raw
    return SequenceScore(raw=raw, scale=scale, penalty=-draw(st.sampled_from([0.0, 1.0, 7.5])))


def evaluation(plan, response, score, seed):
    """Answers of a made-up reward model to whatever the plan asks."""
    rng = np.random.default_rng(seed)
    values_C = attention_T = None
    if plan.game is not None:
        values_C = rng.normal(scale=10.0, size=plan.game.n_coalitions)
        values_C[1] = score.raw
    if plan.attention:
        attention_T = rng.dirichlet(np.ones(response.n_tokens))
    return Evaluation(score.raw, values_C, attention_T)


def scored(method, plan, response, answers, score):
    """`score` with what the method itself makes of the answers as its raw part."""
    return dataclasses.replace(score, raw=method.score(response, plan, answers))


def noise(score, values_C):
    """Largest difference that rounding explains."""
    sizes = np.abs([score.raw, score.final, *(() if values_C is None else values_C)])
    return 1e-10 * (1 + sizes.max())


@every_method
@given(data=st.data(), response=responses(), score=scores(), seed=st.integers(0, 2**32 - 1))
def test_token_rewards_add_up_to_the_sequence_score(name, data, response, score, seed):
    method = data.draw(methods(name))
    plan = method.plan(response)
    answers = evaluation(plan, response, score, seed)
    score = scored(method, plan, response, answers, score)
    rewards = method.assign(response, plan, answers, score)

    assert rewards.rewards_T.shape == (response.n_tokens,)
    assert rewards.rewards_T.dtype == np.float64
    assert rewards.rewards_T.sum() == pytest.approx(score.final, abs=noise(score, answers.values_C))
    assert abs(rewards.efficiency_residual) <= noise(score, answers.values_C)
    levels_T = levels(rewards)
    assert levels_T.shape == (response.n_tokens,)
    if rewards.levels_T is None or method.candidates.scaling == "length_exact":
        assert levels_T.mean() == pytest.approx(score.final, abs=10 * noise(score, answers.values_C))


@every_method
@given(data=st.data(), response=responses(), score=scores(), seed=st.integers(0, 2**32 - 1))
def test_units_lie_in_the_response_and_have_a_credit_each(name, data, response, score, seed):
    method = data.draw(methods(name))
    plan = method.plan(response)
    rewards = method.assign(response, plan, evaluation(plan, response, score, seed), score)

    ends = rewards.units.ends
    assert rewards.credits_n.shape == (len(ends),)
    assert list(ends) == sorted(set(ends))
    assert all(1 <= end <= response.n_tokens for end in ends)
    if plan.units is not None:
        assert rewards.units == plan.units
        assert ends[-1:] == ((response.n_content,) if response.n_content else ())
    paid = {*(np.asarray(ends, dtype=int) - 1), response.n_tokens - 1}
    unpaid = [t for t in range(response.n_tokens) if t not in paid]
    np.testing.assert_array_equal(rewards.rewards_T[unpaid], 0.0)


@every_method
@given(data=st.data(), response=responses(), score=scores(), seed=st.integers(0, 2**32 - 1))
def test_alpha_zero_is_the_sparse_reward_bit_for_bit(name, data, response, score, seed):
    method = data.draw(methods(name))
    if "alpha" not in {field.name for field in dataclasses.fields(method)}:
        return
    method = dataclasses.replace(method, alpha=0.0)
    plan = method.plan(response)
    rewards = method.assign(response, plan, evaluation(plan, response, score, seed), score)
    sparse = build("sparse", **OPTIONS)
    expected = sparse.assign(response, sparse.plan(response), Evaluation(score.raw), score)
    assert rewards.rewards_T.tobytes() == expected.rewards_T.tobytes()
    assert expected.rewards_T[-1] == score.final


@every_method
@given(data=st.data(), response=responses(), score=scores(), seed=st.integers(0, 2**32 - 1))
def test_a_response_is_rewarded_on_its_own(name, data, response, score, seed):
    """The same response gets the same rewards again, whatever row it is in and whatever came between."""
    method = data.draw(methods(name))
    other = data.draw(responses())
    plan = method.plan(response)
    answers = evaluation(plan, response, score, seed)
    before = None if answers.values_C is None else answers.values_C.copy()
    first = method.assign(response, plan, answers, score)
    method.assign(other, method.plan(other), evaluation(method.plan(other), other, score, seed), score)
    moved = dataclasses.replace(response, row=7)
    again = method.assign(moved, method.plan(moved), answers, score)
    assert first.rewards_T.tobytes() == again.rewards_T.tobytes()
    assert before is None or (before == answers.values_C).all(), "answers must not be changed"


@every_method
@given(data=st.data(), response=responses())
def test_a_plan_keeps_to_the_budget_and_the_number_of_units(name, data, response):
    method = data.draw(methods(name))
    plan = method.plan(response)
    if plan.game is not None:
        assert plan.game.n_players == len(plan.units)
        assert plan.game.n_coalitions <= getattr(method, "budget", plan.game.n_coalitions)
        assert len(plan.units) <= getattr(method, "max_units", len(plan.units))


@every_method
@pytest.mark.parametrize(
    ("tokens", "finished"),
    [([], True), (["Good"], True), (["Good"], False), (["Good", " film", "."], True), ([""], False)],
    ids=["no content", "one unit", "one token", "three tokens", "no characters"],
)
def test_responses_of_few_tokens(name, tokens, finished):
    response = make_response(tokens, finished=finished)
    method = build(name, **OPTIONS)
    plan = method.plan(response)
    score = SequenceScore(raw=4.0, scale=0.5, penalty=-1.0)
    rewards = method.assign(response, plan, evaluation(plan, response, score, seed=1), score)
    assert rewards.rewards_T.sum() == pytest.approx(1.0, abs=1e-9)
    if response.n_tokens == 1:
        np.testing.assert_allclose(rewards.rewards_T, [1.0])


@every_method
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_an_error(name, bad):
    response = make_response(["Good", " film"])
    method = build(name, **OPTIONS)
    plan = method.plan(response)
    answers = evaluation(plan, response, SequenceScore(1.0, 1.0, 0.0), seed=1)
    for score in (SequenceScore(bad, 1.0, 0.0), SequenceScore(1.0, bad, 0.0), SequenceScore(1.0, 1.0, bad)):
        with pytest.raises(ValueError, match="score: must be finite, got raw="):
            method.assign(response, plan, answers, score)


@every_method
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_error(name, bad):
    response = make_response(["The", " plot", " was", " not", " good", ".", " I", " left"])
    method = build(name, **OPTIONS)
    plan = method.plan(response)
    score = SequenceScore(1.0, 1.0, 0.0)
    good = evaluation(plan, response, score, seed=1)
    for field in ("values_C", "attention_T"):
        answers = getattr(good, field)
        for i in range(0 if answers is None else len(answers)):
            spoilt = answers.copy()
            spoilt[i] = bad
            with pytest.raises(ValueError, match=r"finite"):
                method.assign(response, plan, dataclasses.replace(good, **{field: spoilt}), score)


@every_method
def test_a_method_is_built_with_the_options_it_declares_and_no_others(name):
    method = build(name, **OPTIONS)
    assert type(method) is METHODS[name]
    options = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    assert options.items() <= (OPTIONS | {"parser": parse}).items()
    assert method == build(name, **OPTIONS)
    assert type(method).__dataclass_params__.frozen
