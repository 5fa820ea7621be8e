"""Values by completion: against enumeration on a small Markov policy, gaps, seeds, and what is asked of the pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fakes import bench, config, prompts
from make_response import make_response, words

from scar_ray.config.schema import Config
from scar_ray.credit.prefix import PrefixCredit
from scar_ray.games import choose, prefixes
from scar_ray.records import CreditPlan, Evaluation, Prompt, Request, Response, Units
from scar_ray.trainer.agreement import StaleEngine
from scar_ray.trainer.completion import CompletedValues, State, standard_errors
from scar_ray.trainer.experience import value_metrics

PROMPT, OTHER = prompts(2)
END, LONGEST = 0, 4
NEXT = {None: (0.0, 0.5, 0.5), 1: (0.2, 0.7, 0.1), 2: (0.3, 0.1, 0.6)}
"""Probabilities of the end, of token 1 and of token 2 after each token, and at the start."""


def reward(tokens: Sequence[int]) -> float:
    """1 for an ended response whose last two tokens differ."""
    return float(len(tokens) > 2 and tokens[-1] == END and tokens[-2] != tokens[-3])


def exact(tokens: tuple[int, ...]) -> float:
    """Expected reward of what the policy makes of these tokens, by enumeration."""
    if len(tokens) == LONGEST or END in tokens:
        return reward(tokens)
    chances = NEXT[tokens[-1] if tokens else None]
    return sum(chance * exact((*tokens, token)) for token, chance in enumerate(chances) if chance)


class MarkovRollout:
    """Engines with that policy, which answer the requests in any order."""

    def __init__(self, engines: int = 1, version: int = 0) -> None:
        self.engines, self.version = engines, version
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], sampling: object = None) -> Iterator[Response]:
        self.asked = list(requests)
        for engine in range(self.engines):
            for request in reversed(requests[engine :: self.engines]):
                yield self.response(request, f"rollout-{engine}")

    def response(self, request: Request, engine: str = "rollout-0") -> Response:
        rng, tokens = np.random.default_rng(request.seed), list(request.kept)
        while len(tokens) < LONGEST - len(request.after) and END not in tokens:
            tokens.append(int(rng.choice(3, p=NEXT[tokens[-1] if tokens else None])))
        if request.after:
            tokens = [*(token for token in tokens if token != END), *request.after]
        return response_of(tokens, request.row, request.prompt, self.version, engine, len(request.kept))


class FillingRollout(MarkovRollout):
    """Fills every gap that something follows with a 7, and ends the others with an 8."""

    def generate(self, requests: Sequence[Request], sampling: object = None) -> Iterator[Response]:
        self.asked += requests
        for request in requests:
            filled = [7] if request.after else [8, END]
            yield response_of(
                [*request.kept, *filled, *request.after], request.row, request.prompt, kept=len(request.kept)
            )


def response_of(
    tokens: Sequence[int],
    row: int = 0,
    prompt: Prompt = PROMPT,
    version: int = 0,
    engine: str = "rollout-0",
    kept: int = 0,
) -> Response:
    made = make_response([str(token) for token in tokens if token != END], finished=END in tokens, row=row)
    return replace(made, token_ids=tuple(tokens), prompt=prompt, policy_version=version, engine=engine, kept=kept)


class Checker:
    """Scores whole responses with `reward`."""

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        self.expected, self.scores = len(prompts) + more, {}
        self.gold: set[int] = set()
        self.submitted: list[Response] = []

    def submit(self, response: Response, plan: CreditPlan) -> None:
        self.submitted.append(response)
        assert plan.game is None
        assert response.row not in self.scores
        self.scores[response.row] = reward(response.token_ids)
        self.gold |= {response.row} if plan.gold else set()

    def results(self) -> dict[int, Evaluation]:
        assert sorted(self.scores) == list(range(self.expected))
        return {row: Evaluation(score, gold=5.0 if row in self.gold else None) for row, score in self.scores.items()}


def chosen(samples: int, seed: int = 0) -> Config:
    credit = {"method": "prefix", "unit": "token", "value": "complete", "completions": samples}
    return config({"credit": credit, "seed": seed})


def plan_of(response: Response) -> CreditPlan:
    n = response.n_content
    return CreditPlan(Units(tuple(range(1, n + 1)), tuple(range(n)) if n > 1 else 0), prefixes(n))


def shapley_of(response: Response) -> CreditPlan:
    """All coalitions of the tokens."""
    plan = plan_of(response)
    assert plan.units is not None
    return replace(plan, game=choose(plan.units.tree, "shapley", 2 ** len(plan.units)))


def evaluated(
    values: CompletedValues, responses: Sequence[Response], plan: Callable[[Response], CreditPlan] = plan_of
) -> list[Evaluation]:
    values.begin([response.prompt for response in responses])
    for response in reversed(responses):
        values.submit(response, plan(response))
    found = values.results()
    return [found[row] for row in range(len(responses))]


RESPONSES = [
    response_of(tokens, row, (PROMPT, OTHER)[row % 2])
    for row, tokens in enumerate([(1, 1, 2, 0), (2, 1, 0), (1, 1, 1, 1)])
]


def test_values_are_those_of_enumeration_within_their_standard_errors() -> None:
    samples = 1000
    for response, found in zip(
        RESPONSES, evaluated(CompletedValues(chosen(samples), MarkovRollout(), Checker()), RESPONSES), strict=True
    ):
        kept = [(), response.token_ids, *(response.token_ids[:k] for k in range(1, response.n_content))]
        true_C = np.array([exact(tokens) for tokens in kept])
        expected_C = np.sqrt(true_C * (1 - true_C) / samples)
        expected_C[1] = 0.0
        np.testing.assert_allclose(found.stderr_C, expected_C, atol=0.002)
        assert found.values_C[1] == found.score == reward(response.token_ids), "v(all) is the response's own reward"
        assert (np.abs(found.values_C - true_C) <= 4 * found.stderr_C).all(), (found.values_C, true_C)


def test_nothing_depends_on_engines_or_on_what_else_is_asked() -> None:
    whole = evaluated(CompletedValues(chosen(3), MarkovRollout(), Checker()), RESPONSES)
    split = evaluated(CompletedValues(chosen(3), MarkovRollout(engines=3), Checker()), RESPONSES)
    alone = evaluated(CompletedValues(chosen(3), MarkovRollout(), Checker()), [replace(RESPONSES[2], row=0)])
    for one, other in zip([*whole, whole[2]], [*split, *alone], strict=True):
        np.testing.assert_array_equal(one.values_C, other.values_C)
        np.testing.assert_array_equal(one.stderr_C, other.stderr_C)
    seeded = evaluated(CompletedValues(chosen(3, seed=1), MarkovRollout(), Checker()), RESPONSES)
    assert any((one.values_C != other.values_C).any() for one, other in zip(whole, seeded, strict=True))


def test_equal_beginnings_are_completed_once() -> None:
    """The first and the last response answer the same prompt and begin with 1 1."""
    rollout = MarkovRollout()
    values = CompletedValues(chosen(2), rollout, Checker())
    first, _, last = evaluated(values, RESPONSES)
    assert [request.kept for request in rollout.asked[::2]] == [(), (1,), (1, 1), (), (2,), (1, 1, 1)]
    assert len({request.seed for request in rollout.asked}) == len(rollout.asked) == 12
    np.testing.assert_array_equal(first.values_C[[0, 2, 3]], last.values_C[[0, 2, 3]])
    completed = [rollout.response(request) for request in rollout.asked]
    assert values.generated == sum(one.n_tokens - one.kept for one in completed)
    values.begin([PROMPT])
    assert values.generated == 0


def test_the_seed_is_that_of_run_step_prompt_beginning_and_number_and_no_responses() -> None:
    state = State(PROMPT, ((1,), ()), 0)
    others = [(state, 1, 0), (state, 0, 1), (State(OTHER, ((1,), ()), 0), 0, 0), (State(PROMPT, ((1,), ()), 1), 0, 0)]
    others += [(State(PROMPT, (kept, ()), 0), 0, 0) for kept in [(), (2,), (1, 0), (1, 1)]]
    gaps = [((1,), (2,)), ((1,), (2,), ()), ((), (1,)), ((), (1,), ()), ((1,), (1, 2), ()), ((1,), (1,), (2,))]
    others += [(State(PROMPT, kept, 0), 0, 0) for kept in gaps]
    seeds = [state.seed(0, 0), *(one.seed(run, sample) for one, run, sample in others)]
    seeds.append(State(PROMPT, ((1,), (2,), ()), 0).seed(0, 0, gap=1))
    assert len(set(seeds)) == len(seeds) == 16
    it = bench(config({"seed": 0}))
    it.trainer.step(0)
    assert not {request.seed for request in it.rollout.asked} & {
        State(request.prompt, ((), ()), 0).seed(0, sample) for request in it.rollout.asked for sample in range(9)
    }


def test_a_single_completion_has_no_standard_error() -> None:
    assert np.isnan(standard_errors(np.array([[1.0], [0.0]]))).all()
    np.testing.assert_allclose(standard_errors(np.array([[1.0, 0.0, 0.0, 1.0]])), [np.sqrt(1 / 3 / 4)])
    found = evaluated(CompletedValues(chosen(1), MarkovRollout(), Checker()), RESPONSES)
    assert np.isnan(value_metrics(found)["credit/value_stderr"])
    assert value_metrics([Evaluation(1.0)]) == {}


def test_an_engine_that_goes_on_with_other_weights_is_named() -> None:
    values = CompletedValues(chosen(2), MarkovRollout(version=3), Checker())
    with pytest.raises(StaleEngine, match=r"^rollout-0 sampled with policy version 3, the learner is at 0: "):
        evaluated(values, RESPONSES)


def test_what_needs_no_values_passes_through() -> None:
    """A response without players, and a second reward model's score, which completions have not."""
    checker = Checker()
    values = CompletedValues(chosen(2), MarkovRollout(), checker)
    values.begin([PROMPT])
    empty = response_of([END])
    values.submit(empty, replace(PrefixCredit().plan(empty), gold=True))
    assert values.results() == {0: Evaluation(0.0, gold=5.0)}
    values.begin([PROMPT])
    values.submit(RESPONSES[0], replace(plan_of(RESPONSES[0]), gold=True))
    assert values.results()[0].gold == 5.0
    assert checker.gold == {0}


FILLED = {
    (): [8, 0],
    (0,): [1, 8, 0],
    (1,): [7, 2, 8, 0],
    (2,): [7, 3, 0],
    (0, 1): [1, 2, 8, 0],
    (0, 2): [1, 7, 3, 0],
    (1, 2): [7, 2, 3, 0],
    (0, 1, 2): [1, 2, 3, 0],
}
"""What becomes of a response of three tokens and an end, by the tokens that are kept."""


def test_kept_units_stay_in_place_and_every_gap_is_filled() -> None:
    response, checker, rollout = response_of([1, 2, 3, END]), Checker(), FillingRollout()
    values = CompletedValues(chosen(1), rollout, checker)
    evaluated(values, [response], shapley_of)
    game = shapley_of(response).game
    order = [tuple(np.flatnonzero(row).tolist()) for row in np.delete(game.coalitions_Cn, 1, axis=0)]
    assert sorted([*order, (0, 1, 2)]) == sorted(FILLED)
    found = {one.row: list(one.token_ids) for one in checker.submitted}
    assert found == {0: FILLED[0, 1, 2], **{1 + at: FILLED[kept] for at, kept in enumerate(order)}}
    assert values.generated == sum((token in (7, 8)) + (token == 8) for kept in order for token in FILLED[kept])
    told = {(request.kept, request.after) for request in rollout.asked}
    assert ((), (2,)) in told, "the first gap is told what is kept behind it"
    assert ((7, 2), ()) in told, "the second gap goes on from the first one's filling"
    assert ((), (2, 3, END)) in told, "the end is kept with the last unit"


def test_an_unfinished_response_ends_with_its_last_kept_unit() -> None:
    response, checker = response_of([1, 2, 3]), Checker()
    evaluated(CompletedValues(chosen(1), FillingRollout(), checker), [response], shapley_of)
    assert [7, 2, 3] in [list(one.token_ids) for one in checker.submitted]
    assert not any(END in one.token_ids for one in checker.submitted if one.token_ids[-1] == 3)


def test_filled_gaps_depend_neither_on_engines_nor_on_what_else_is_asked() -> None:
    whole = evaluated(CompletedValues(chosen(3), MarkovRollout(), Checker()), RESPONSES, shapley_of)
    split = evaluated(CompletedValues(chosen(3), MarkovRollout(engines=3), Checker()), RESPONSES, shapley_of)
    alone = [replace(RESPONSES[2], row=0)]
    one_alone = evaluated(CompletedValues(chosen(3), MarkovRollout(), Checker()), alone, shapley_of)
    assert len(whole[0].values_C) == 8
    assert len(set(whole[0].values_C)) > 2
    for one, other in zip([*whole, whole[2]], [*split, *one_alone], strict=True):
        np.testing.assert_array_equal(one.values_C, other.values_C)


def test_credits_of_a_training_step_telescope_over_the_values() -> None:
    """On the fakes rewards are the numbers of tokens, which differ from sample to sample."""
    settings = chosen(2)
    it = bench(settings)
    values = CompletedValues(settings, it.rollout, it.reward)
    it.trainer._reward = values
    result = it.trainer.step(0)
    assert result.metrics["credit/value_stderr"] > 0.0
    assert not any("audit" in name for name in result.metrics), "audits ask for other coalitions"
    for one in result.scored:
        assert one.rewards.rewards_T.sum() == pytest.approx(one.score.final)
        assert one.rewards.estimator == "prefixes"


def test_words_of_a_line_are_kept_up_to_its_end() -> None:
    """The units of a response with a line break: the break belongs to the line that follows."""
    response = make_response(words("1 + 2 = 3\n3 + 4 = 7"), finished=True)
    units = PrefixCredit(unit="sentence").plan(response).units
    assert [response.text[: response.token_spans[end - 1][1]] for end in units.ends] == ["1 + 2 = 3", response.text]
    assert all(a < b for a, b in pairwise(units.ends))
