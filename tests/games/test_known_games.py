"""Games whose Shapley, Owen and fixed-context values are known as fractions."""

import numpy as np
import oracle_games
import pytest
from oracle_games import as_tree, credits_of, numbers, table

from scar_ray.games import contiguous, fixed_context, myerson, owen, owen_coalitions, paired_tree, shapley

GAMES = oracle_games.load()["games"]
OWEN = [(game, answer) for game in GAMES for answer in game["owen"]]
LINES = [game for game in GAMES if "contiguous" in game]
FIXED = [(game, answer) for game in GAMES for answer in game.get("shap_fixed_context", [])]

pytestmark = pytest.mark.skipif(not oracle_games.ORACLES.exists(), reason=oracle_games.REASON)


def name(case):
    return case["name"] if "name" in case else str(case["tree"]).replace(" ", "")


def test_the_file_has_all_games():
    assert (len(GAMES), len(OWEN), len(LINES), len(FIXED)) == (23, 29, 6, 6)


@pytest.mark.parametrize("game", GAMES, ids=name)
def test_shapley_values_of_known_games(game):
    expected = numbers(game["shapley"])
    np.testing.assert_allclose(credits_of(shapley(game["n_players"]), table(game)), expected, atol=1e-9)


@pytest.mark.parametrize(("game", "answer"), OWEN, ids=name)
def test_owen_values_of_known_games(game, answer):
    plan = owen(as_tree(answer["tree"]))
    np.testing.assert_allclose(credits_of(plan, table(game)), numbers(answer["answer"]), atol=1e-9)
    assert plan.n_coalitions == owen_coalitions(as_tree(answer["tree"]))


@pytest.mark.parametrize(("game", "answer"), FIXED, ids=name)
def test_the_paired_tree_is_the_mean_of_both_fixed_contexts(game, answer):
    tree = as_tree(answer["tree"])
    np.testing.assert_allclose(credits_of(paired_tree(tree), table(game)), numbers(answer["mean_of_both"]), atol=1e-9)
    assert owen_coalitions(tree) == answer["coalitions_if_run_to_completion"]


@pytest.mark.parametrize(("game", "answer"), FIXED, ids=name)
@pytest.mark.parametrize("context", [0, 1])
def test_fixed_contexts_of_known_games(game, answer, context):
    plan = fixed_context(as_tree(answer["tree"]), context)
    expected = numbers(answer[f"fixed_context_{context}"])
    np.testing.assert_allclose(credits_of(plan, table(game)), expected, atol=1e-9)


@pytest.mark.parametrize("game", LINES, ids=name)
def test_contiguous_values_of_known_games(game):
    n, answers = game["n_players"], game["contiguous"]
    for plan, rule in ((contiguous(n), "ospo_mean_marginal"), (myerson(n), "myerson_line_graph")):
        np.testing.assert_allclose(credits_of(plan, table(game)), numbers(answers[rule]), atol=1e-9)
        asked = plan.coalitions_Cn @ (1 << np.arange(n))
        assert sorted(asked.tolist()) == answers["coalitions"]
