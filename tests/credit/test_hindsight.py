"""What Shapley credit promises to policy gradients, and what it does not.

All methods redistribute the sequence score: the rewards of a response add up to its score, so every policy has the
same expected return J, and the policies that maximise J are the same. That is the whole of the paper's invariance
(Theorem 3.1). It does not say that PPO follows the gradient of J. PPO weighs an action by what is paid from that
action on (reward-to-go), and a Shapley credit is hindsight: the credit of "not" depends on the word that comes after
it. Part of what the second word is worth is then paid to the first one, before the second was chosen, and is missing
when the second word is judged.

The smallest case: after "not", the reward model gives "not terrible" 1 and "not great" 0, alone "terrible" is -2 and
"great" 1. The second credits are -1/2 for "terrible" and +1/2 for "great", so at alpha = 1 reward-to-go prefers the
worse word, with the best possible baseline too. Mixing with the sparse reward turns this round only for alpha < 1/2.
Prefix potentials, paid as Phi(so far and this word) - Phi(so far), have it right at every alpha.
"""

import numpy as np
import pytest
from make_response import make_response

from scar_ray.credit.prefix import PrefixCredit
from scar_ray.credit.scar import ScarCredit
from scar_ray.records import Evaluation, SequenceScore

VALUES = {
    # v(empty), v(not), v(second word), v(both)
    "terrible": (0.0, 0.0, -2.0, 1.0),
    "great": (0.0, 0.0, 1.0, 0.0),
}


def second_reward_to_go(method, word):
    """What is paid from the second word on, in "not <word>"."""
    response = make_response(["not", f" {word}"], finished=False)
    plan = method.plan(response)
    masks = plan.game.coalitions_Cn @ np.array([1, 2])
    values_C = np.array(VALUES[word])[masks]
    score = SequenceScore(raw=VALUES[word][3], scale=1.0, penalty=0.0)
    return method.assign(response, plan, Evaluation(score.raw, values_C), score).rewards_T[1]


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.49, 0.5, 0.8, 1.0])
def test_shapley_reward_to_go_prefers_the_worse_word_unless_alpha_is_below_one_half(alpha):
    method = ScarCredit(unit="token", estimator="shapley", alpha=alpha)
    terrible, great = (second_reward_to_go(method, word) for word in ("terrible", "great"))
    assert terrible == pytest.approx(1 - 3 * alpha / 2)
    assert great == pytest.approx(alpha / 2)
    assert (terrible > great + 1e-9) == (alpha < 0.5)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_prefix_potentials_prefer_the_better_word_at_every_alpha(alpha):
    method = PrefixCredit(unit="token", alpha=alpha)
    terrible, great = (second_reward_to_go(method, word) for word in ("terrible", "great"))
    assert terrible - great == pytest.approx(1.0)


def test_the_returns_of_whole_responses_are_the_same_under_every_method():
    for word, values in VALUES.items():
        response = make_response(["not", f" {word}"], finished=False)
        for method in (ScarCredit(unit="token", alpha=1.0), PrefixCredit(unit="token", alpha=1.0)):
            plan = method.plan(response)
            values_C = np.array(values)[plan.game.coalitions_Cn @ np.array([1, 2])]
            score = SequenceScore(values[3], 1.0, 0.0)
            got = method.assign(response, plan, Evaluation(values[3], values_C), score)
            assert got.rewards_T.sum() == pytest.approx(values[3])
