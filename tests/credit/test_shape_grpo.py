"""ShapE-GRPO: what candidates are worth and earn, by hand and against GRPO on the same set rewards."""

from __future__ import annotations

import re

import numpy as np
import oracle_games
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response, unit_texts, words
from oracle_games import numbers

from scar_ray.config.schema import AlgorithmConfig, CandidatesConfig
from scar_ray.credit.advantages import levels
from scar_ray.credit.set_utility import SetUtility
from scar_ray.credit.shape_grpo import CandidateRules, ShapeCredit
from scar_ray.games.sets import enumerate_set_game
from scar_ray.records import Evaluation, Response, SequenceScore, TokenRewards
from scar_ray.trainer.experience import padded
from scar_ray.trainer.groups import group_advantages

ORACLES = {oracle["name"]: oracle for oracle in oracle_games.load()["other_oracles"]}
LIST = "Try 1. red shoes 2. boots 3. flat sandals now"


def response_of(text: str, *, finished: bool = True) -> Response:
    """One token a word or mark, so that markers are tokens of their own."""
    return make_response(words(text), finished=finished)


def rewarded(
    response: Response, rewards: list[float], rules: CandidateRules, *, empty: float = 0.0, penalty: float = 0.0
) -> TokenRewards:
    """Token rewards where the candidates are rewarded so, and the reward model likes the whole list with 99."""
    method = ShapeCredit(rules)
    plan = method.plan(response)
    evaluation = Evaluation(99.0)
    if plan.game is not None:
        values = [empty, 99.0, *rewards]
        if plan.game.n_players == 1:
            values = [empty, *(rewards or [99.0])]
        evaluation = Evaluation(values[1], np.array(values))
    raw = method.score(response, plan, evaluation)
    return method.assign(response, plan, evaluation, SequenceScore(raw, 1.0, penalty))


# units and what is asked


def test_candidates_are_units_and_each_is_asked_for_alone():
    response = response_of(LIST)
    plan = ShapeCredit().plan(response)
    assert unit_texts(response, plan.units) == [*("Try 1.", " red shoes", " 2.", " boots", " 3.", " flat sandals now")]
    assert plan.game.coalitions_Cn[2:].tolist() == [
        [False, True, False, False, False, False],
        [False, False, False, True, False, False],
        [False, False, False, False, False, True],
    ]


def test_a_token_is_the_candidates_that_has_most_of_its_characters():
    response = make_response(["1", ". re", "d 2.", " b", "oots"])
    units = ShapeCredit(CandidateRules(count=2)).plan(response).units
    assert unit_texts(response, units) == ["1", ". re", "d 2.", " boots"]


def test_a_candidate_inside_anothers_token_is_dropped_and_told():
    response = make_response(["1. a 2. bcdefgh"])
    rewards = rewarded(response, [2.0], CandidateRules(count=2))
    assert rewards.dropped == ("1 without a token of its own",)
    assert rewards.rewards_T.sum() == 2.0


# shares


def test_the_best_of_three_is_shared_by_hand():
    """Rewards 5, 4 and 3: shares 2.5, 1.5 and 1, at the last token of each candidate."""
    rewards = rewarded(response_of(LIST), [5.0, 4.0, 3.0], CandidateRules())
    assert rewards.credits_n.tolist() == [0, 2.5, 0, 1.5, 0, 1.0]
    #                                    Try 1  .  red shoes  2  .  boots 3  .  flat sandals now EOS
    assert rewards.rewards_T.tolist() == [0, 0, 0, 0, 2.5, 0, 0, 1.5, 0, 0, 0, 0, 1.0, 0]
    # Six tokens of candidates; 2.5 * 6 / 2, 1.5 * 6 / 1, 1 * 6 / 3; the set's 5 elsewhere.
    assert rewards.levels_T.tolist() == [5, 5, 5, 7.5, 7.5, 5, 5, 9, 5, 5, 2, 2, 2, 5]
    assert rewards.levels_T.mean() == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("scaling", "expected"), [("k_phi", [7.5, 7.5, 4.5, 3, 3, 3]), ("raw", [2.5, 2.5, 1.5, 1, 1, 1])]
)
def test_the_other_scalings_by_hand(scaling, expected):
    levels_T = rewarded(response_of(LIST), [5.0, 4.0, 3.0], CandidateRules(scaling=scaling)).levels_T
    assert levels_T[[3, 4, 7, 10, 11, 12]].tolist() == expected


@pytest.mark.skipif(not ORACLES, reason=oracle_games.REASON)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shape_token_broadcast_equal_lengths", "1. a b c d 2. e f g h 3. i j k l"),
        ("shape_token_broadcast_unequal_lengths", "1. a b 2. e f g h 3. i j k l m n"),
    ],
)
def test_the_known_rewards_of_tokens(name, text):
    oracle = ORACLES[name]
    response = response_of(text)
    rewards = rewarded(response, numbers(oracle["given"]["rewards"]), CandidateRules())
    ends = [end - 1 for end, credit in zip(rewards.units.ends, rewards.credits_n, strict=True) if credit]
    np.testing.assert_allclose(rewards.credits_n[[1, 3, 5]], numbers(oracle["phi"]), atol=1e-9)
    expected = oracle.get("token_reward_phi_times_total_over_length", oracle["token_reward_K_phi"])
    np.testing.assert_allclose(rewards.levels_T[ends], numbers(expected), atol=1e-9)
    scaled = rewarded(response, numbers(oracle["given"]["rewards"]), CandidateRules(scaling="k_phi"))
    np.testing.assert_allclose(scaled.levels_T[ends], numbers(oracle["token_reward_K_phi"]), atol=1e-9)


def test_a_penalty_concerns_all_tokens_and_no_share():
    rewards = rewarded(response_of(LIST), [5.0, 4.0, 3.0], CandidateRules(), penalty=-1.0)
    assert rewards.credits_n.sum() == 5.0
    assert rewards.rewards_T.sum() == 4.0
    assert rewards.levels_T.mean() == pytest.approx(4.0)


def spread_of(texts, rewards):
    """A function of a set: the best less the worst."""
    assert len(texts) == len(rewards)
    return max(rewards) - min(rewards) if rewards else 0.0


UTILITIES = {
    SetUtility("max"): (5.0, 0.0),
    SetUtility("top_m", m=2): (8.0, 0.0),
    SetUtility("dcg"): (5 + 3 / np.log2(3) - 0.5, 0.0),
    SetUtility("mean"): (7 / 3, 0.0),
    SetUtility("max_floor"): (5.0, 2.0),
    SetUtility("coverage", aspects=("Shoes", "boots", "hats", "sand")): (2.0, 0.0),
    SetUtility("function", function=spread_of): (6.0, 0.0),
}


@pytest.mark.parametrize("utility", UTILITIES, ids=lambda utility: utility.name)
def test_every_worth_of_a_set_is_shared_as_enumeration_does(utility):
    value, of_none = UTILITIES[utility]
    texts, rewards, floor = ("red shoes", "boots", "flat sandals"), np.array([5.0, -1.0, 3.0]), 2.0
    assert utility.value(texts, rewards, floor) == pytest.approx(value)
    phi = utility.shapley(texts, rewards, floor)
    assert utility.of_none(floor) == of_none
    assert phi.sum() == pytest.approx(value - of_none)

    def worth(S):
        if not S:
            return utility.of_none(floor)
        return utility.value(tuple(texts[k] for k in S), rewards[list(S)], floor)

    np.testing.assert_allclose(phi, enumerate_set_game(worth, 3), atol=1e-12)


# against GRPO


def advantages(some: list[TokenRewards], *, std: bool = True) -> np.ndarray:
    algorithm = AlgorithmConfig.model_validate(
        {
            "name": "grpo",
            "batch": {"prompts": 1, "samples": len(some), "minibatch": len(some)},
            "kl": {"place": "loss"},
            "group": {"tokens": "ordered", "std": std},
        }
    )
    width = max(len(one.rewards_T) for one in some)
    mask = np.arange(width) < np.array([[len(one.rewards_T)] for one in some])
    finals = np.array([one.rewards_T.sum() for one in some])
    rows = padded([one.rewards_T for one in some], width)
    return group_advantages(some, finals, rows, mask, algorithm).advantages_BT


EQUAL_LENGTHS = "1. a b 2. e f 3. i j"


def grpo(sets: list[list[float]]) -> np.ndarray:
    best = np.array([max(rewards) for rewards in sets])
    return (best - best.mean()) / (best.std() or 1.0)


def shape(sets: list[list[float]], rules: CandidateRules | None = None) -> np.ndarray:
    response = response_of(EQUAL_LENGTHS)
    return advantages([rewarded(response, rewards, rules or CandidateRules()) for rewards in sets])


@pytest.mark.parametrize("scaling", ["length_exact", "k_phi"])
def test_equal_candidates_are_exactly_grpo(scaling):
    sets = [[2.0] * 3, [5.0] * 3, [-1.0] * 3]
    found = shape(sets, CandidateRules(scaling=scaling))
    np.testing.assert_allclose(found, np.broadcast_to(grpo(sets)[:, None], found.shape), atol=1e-12)


@given(
    sets=st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=4).filter(
        lambda sets: np.std([max(rewards) for rewards in sets]) > 1e-3
    )
)
def test_at_equal_lengths_the_advantage_is_a_reweighting_of_grpos(sets):
    """Proposition 4.1: with weights K phi_k / U, whose mean is 1, A_k = w_k A + (w_k - 1) mean R / sigma."""
    found, plain = shape(sets), grpo(sets)
    best = np.array([max(rewards) for rewards in sets])
    response = response_of(EQUAL_LENGTHS)
    for row, advantage, rewards, worth in zip(found, plain, sets, best, strict=True):
        phi = SetUtility().shapley(("", "", ""), np.array(rewards), 0.0)
        ends = [end - 1 for end in rewarded(response, rewards, CandidateRules()).units.ends]
        of_candidates = row[[ends[1], ends[3], ends[5]]]
        assert of_candidates.mean() == pytest.approx(advantage, abs=1e-6)
        if abs(worth) > 1e-3:
            weights = 3 * phi / worth
            assert weights.mean() == pytest.approx(1.0)
            expected = weights * advantage + (weights - 1) * best.mean() / best.std()
            np.testing.assert_allclose(of_candidates, expected, rtol=1e-6, atol=1e-6)


def test_a_poor_candidate_beside_a_strong_one_does_not_ride_free():
    """Sets worth 5 and 3. GRPO gives all tokens of the first +1; its poor candidate (1) has the level 1 and gets -3."""
    sets = [[5.0, 1.0, 1.0], [3.0, 3.0, 3.0]]
    assert grpo(sets).tolist() == [1.0, -1.0]
    found = shape(sets)
    strong, poor = found[0, 2], found[0, 6]  # 1 . a b 2 . e f
    np.testing.assert_allclose([strong, poor], [(13.0 - 4.0) / 1.0, (1.0 - 4.0) / 1.0])
    assert poor < 0 < grpo(sets)[0] < strong
    np.testing.assert_allclose(found[1, 2:4], -1.0)


# bad input


@pytest.mark.parametrize("empty", [0.0, -2.5])
def test_an_empty_list_is_worth_the_reward_of_the_empty_response_unless_a_floor_is_set(empty):
    for text in ("no list", ""):
        rewards = rewarded(response_of(text), [], CandidateRules(), empty=empty)
        expected = empty if text else 99.0  # without units the plain score is that of the empty response
        assert rewards.rewards_T.sum() == expected
        assert np.count_nonzero(rewards.rewards_T[:-1]) == 0
        assert levels(rewards).tolist() == [expected] * len(rewards.rewards_T)
        assert rewards.dropped == ("3 of 3 missing",)
        assert rewarded(response_of(text), [], CandidateRules(floor=-7.0), empty=empty).rewards_T.sum() == -7.0


def test_missing_candidates_count_with_the_floor_and_their_share_is_nobodys():
    """Mean of 6, 0 and a missing one at -3: 1; what the two there do not earn is paid at the end."""
    rules = CandidateRules(utility=SetUtility("mean"), floor=-3.0)
    rewards = rewarded(response_of("1. a b 2. e f"), [6.0, 0.0], rules)
    phi = SetUtility("mean").shapley(("", "", ""), np.array([6.0, 0.0, -3.0]), 0.0)
    np.testing.assert_allclose(rewards.credits_n, [0, phi[0], 0, phi[1]])
    assert rewards.rewards_T.sum() == pytest.approx(1.0)
    assert rewards.rewards_T[-1] == pytest.approx(phi[2])
    assert rewards.levels_T.mean() == pytest.approx(1.0)
    assert rewards.efficiency_residual == pytest.approx(0.0, abs=1e-12)
    assert rewards.dropped == ("1 of 3 missing",)


@pytest.mark.parametrize("text", ["1. a b", "1. a b 2. c"])
def test_one_candidate_earns_everything(text):
    rewards = rewarded(response_of(text), [4.0], CandidateRules(count=1))
    assert rewards.credits_n.sum() == 4.0
    assert rewards.levels_T.tolist() == [4.0] * len(rewards.rewards_T)


def test_a_response_that_is_nothing_but_one_candidate():
    """The full coalition is the candidate's own."""
    rewards = rewarded(response_of("red shoes"), [4.0], CandidateRules(form="separator", count=1))
    assert rewards.credits_n.tolist() == [4.0]
    assert rewards.rewards_T.sum() == 4.0


def test_all_candidates_equal_share_equally():
    assert rewarded(response_of(LIST), [3.0] * 3, CandidateRules()).credits_n.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (
            "nowhere_at_all:f",
            " cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all'); see to the module",
        ),
        ("math:sqr", ": math has no function sqr; did you mean sqrt?"),
    ],
)
def test_a_function_that_is_not_there_is_one_line(path, line):
    chosen = CandidatesConfig.model_validate({"utility": "function", "function": path})
    with pytest.raises(ValueError, match="^" + re.escape(f"credit.candidates.function={path}{line}") + "$"):
        chosen.rules()
