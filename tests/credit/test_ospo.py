"""OSPO: units, marginals and normalisation by hand, and the advantages that it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response, unit_texts, words

from scar_ray.config.schema import AlgorithmConfig
from scar_ray.credit.ospo import OspoCredit, normalised
from scar_ray.games import contiguous
from scar_ray.records import Evaluation, SequenceScore
from scar_ray.trainer.experience import padded
from scar_ray.trainer.groups import group_advantages

SHOES = make_response(words("Red shoes for women are cheap"))
"""Seven tokens, the EOS included, in the chunks Red shoes | for women | are | cheap."""


def credits_of(values: dict[str, float], *, base: str = "zero", **options):
    """Credits of `SHOES` cut as chunks, where v(S) is looked up by the text that S leaves."""
    method = OspoCredit(base=base, **options)
    plan = method.plan(SHOES)
    texts = unit_texts(SHOES, plan.units)
    left = ["".join(text for text, here in zip(texts, row, strict=True) if here) for row in plan.game.coalitions_Cn]
    evaluation = Evaluation(values[SHOES.text], np.array([values[text] for text in left]))
    score = SequenceScore(evaluation.score, 1.0, 0.0)
    return plan, method.assign(SHOES, plan, evaluation, score)


WORTH = {"": 0.0, "Red shoes": 3.0, " for women": 1.0, " are": 0.0, " cheap": 0.0}


def additive(factor: float = 1.0, interaction: float = 0.0) -> dict[str, float]:
    """Worth of every interval: what its phrases are worth, and more where shoes are for women."""
    phrases, values = list(WORTH)[1:], {"": 0.0}
    for start in range(4):
        for end in range(start + 1, 5):
            text = "".join(phrases[start:end])
            both = start == 0 and end > 1
            values[text] = factor * sum(WORTH[phrase] for phrase in phrases[start:end]) + interaction * both
    return values


def test_an_additive_game_gives_every_phrase_its_worth():
    plan, rewards = credits_of(additive())
    assert unit_texts(SHOES, plan.units) == ["Red shoes", " for women", " are", " cheap"]
    assert plan.game.n_coalitions == 4 * 5 // 2 + 1
    np.testing.assert_allclose(rewards.credits_n, [3, 1, 0, 0], atol=1e-12)
    assert rewards.estimator == "contiguous"


def test_marginals_are_multiplied_to_add_up_by_hand():
    """Shoes for women are worth 2 more: v(all) = 6."""
    values = additive(interaction=2.0)
    _, rewards = credits_of(values)
    plan = contiguous(4, 64, 32)
    phrases = list(WORTH)[1:]
    left = ["".join(p for p, here in zip(phrases, row, strict=True) if here) for row in plan.coalitions_Cn]
    phi = plan.credits(np.array([values[text] for text in left]))
    # shoes joins "", women, women are, women are cheap: 3, 5, 5, 5; women joins "", shoes, are, are cheap: 1, 3, 1, 1
    np.testing.assert_allclose(phi, [4.5, 1.5, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(rewards.credits_n, [4.5, 1.5, 0, 0], atol=1e-12)
    # With v(all) = 2 the marginals that complete it are 4 less: 3.5, 1.5, 0 and -1; the sum of 4 becomes 2.
    _, less = credits_of({**values, SHOES.text: 2.0})
    np.testing.assert_allclose(less.credits_n, [1.75, 0.75, 0, -0.5], atol=1e-12)


def test_a_width_of_one_asks_for_nothing_but_single_phrases():
    plan, rewards = credits_of(additive(), w_max=1)
    assert plan.game.n_coalitions == 6  # nobody, all, each alone
    np.testing.assert_allclose(rewards.credits_n, [3, 1, 0, 0], atol=1e-12)


@given(n=st.integers(1, 40), budget=st.integers(4, 64), w_max=st.integers(1, 8))
def test_every_phrase_has_marginals_within_the_budget_and_the_width(n, budget, w_max):
    plan = contiguous(n, budget, w_max)
    sizes = plan.coalitions_Cn.sum(axis=1)
    assert plan.n_coalitions <= budget
    assert not plan.coalitions_Cn[0].any()
    assert plan.coalitions_Cn[1].all()
    if n + 2 <= budget:
        assert (sizes[2:] <= w_max).all()
    assert (np.abs(plan.operator_nC).sum(axis=1) > 0).all()
    np.testing.assert_allclose(plan.operator_nC.sum(axis=1), 0, atol=1e-12)


# normalisation


@pytest.mark.parametrize(
    ("phi", "total", "expected"),
    [
        ([1.0, 3.0], 2.0, [0.5, 1.5]),
        ([-1.0, -3.0], -2.0, [-0.5, -1.5]),
        ([3.0, -1.0], 4.0, [6.0, -2.0]),
        ([1.0, -3.0], 2.0, [3.0, -1.0]),  # a negative sum would turn the signs: equal parts
        ([1.0, 3.0], -2.0, [-2.0, 0.0]),
        ([5.0, -4.9], 1.0, [5.45, -4.45]),  # 0.1 of 9.9 would be blown up tenfold
        ([1.0, 3.0], 0.0, [-1.0, 1.0]),
        ([0.0, 0.0], 0.0, [0.0, 0.0]),
    ],
)
def test_the_normalisation_by_hand(phi, total, expected):
    np.testing.assert_allclose(normalised(np.array(phi), total), expected, atol=1e-12)


@given(phi=st.lists(st.floats(-10, 10), min_size=1, max_size=6), total=st.floats(-10, 10))
def test_the_normalisation_adds_up_and_keeps_the_order(phi, total):
    found = normalised(np.array(phi), total)
    assert found.sum() == pytest.approx(total, abs=1e-9)
    order = np.argsort(phi, kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()


# advantages


def advantages(values: dict[str, float], other: float, tokens: str):
    """Of `SHOES` and of another response with that score, sparse."""
    _, rewards = credits_of(values)
    algorithm = AlgorithmConfig.model_validate(
        {
            "name": "grpo",
            "batch": {"prompts": 1, "samples": 2, "minibatch": 2},
            "kl": {"place": "loss"},
            "group": {"std": False, "tokens": tokens},
        }
    )
    finals = np.array([rewards.rewards_T.sum(), other])
    mask = np.ones((2, SHOES.n_tokens), dtype=bool)
    rows = padded([rewards.rewards_T, np.full(SHOES.n_tokens, other / SHOES.n_tokens)], SHOES.n_tokens)
    same = credits_of(additive(factor=other / 4))[1]
    return group_advantages([rewards, same], finals, rows, mask, algorithm).advantages_BT[0]


def test_the_papers_advantages_by_hand():
    """R = 4, A = 1 against 2: T * share * A with shares 3/4 and 1/4 on two tokens each."""
    found = advantages(additive(), 2.0, "shared")
    assert SHOES.n_tokens == 7
    np.testing.assert_allclose(found, [7 * 3 / 8, 7 * 3 / 8, 7 / 8, 7 / 8, 0, 0, 0], atol=1e-12)
    assert found.mean() == pytest.approx(1.0)


def test_a_response_below_the_mean():
    """A = -1: as published the best phrase is punished most; ordered, it gets the highest advantage."""
    shared, ordered = (advantages(additive(), 6.0, tokens) for tokens in ("shared", "ordered"))
    np.testing.assert_allclose(shared, [-7 * 3 / 8, -7 * 3 / 8, -7 / 8, -7 / 8, 0, 0, 0], atol=1e-12)
    levels = np.array([21 / 2, 21 / 2, 7 / 2, 7 / 2, 0, 0, 0])
    np.testing.assert_allclose(ordered, levels - 5.0, atol=1e-12)
    assert shared.mean() == pytest.approx(-1.0)
    assert ordered.mean() == pytest.approx(-1.0)


def test_a_score_of_zero_is_grpo_and_not_no_signal():
    """All is worth 0, its parts are not; the response is below the mean by 1."""
    found = advantages({**additive(), SHOES.text: 0.0}, 2.0, "shared")
    np.testing.assert_allclose(found, -1.0)


def test_a_negative_score_is_grpo_and_no_share_is_turned_around():
    found = advantages(additive(factor=-1.0), 2.0, "shared")
    np.testing.assert_allclose(found, -3.0)
