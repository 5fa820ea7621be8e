"""What the reward pool makes tasks of: the estimate of their cost, and the cut of a response along its tree."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np
import pytest
import reward_bench
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_actors import blank, numbers
from transformers import PreTrainedTokenizerFast

from scar_ray.games import balanced, owen, shapley
from scar_ray.games.plan import Plan
from scar_ray.records import FILLS, CreditPlan, Evaluation, Excerpt, Prompt, Question, Response, Units
from scar_ray.scoring import RewardModel
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.forest import plant
from scar_ray.scoring.function import reduced_texts
from scar_ray.text.units import segment
from scar_ray.workers.reward_tasks import Part, TaskSizes, cut, halves, identity, joined, sequence_keys

BLANK, EOS = 9999, 0


def job(lengths: list[int], coalitions_Cn: np.ndarray, prompt: int = 7) -> tuple[Response, CreditPlan]:
    """A response whose units have so many tokens, all of them different."""
    ends = tuple(int(end) for end in np.cumsum(lengths))
    ids = (*range(100, 100 + ends[-1]), EOS)
    spans = (*((i, i + 1) for i in range(ends[-1])), (ends[-1], ends[-1]))
    text = "x" * ends[-1]
    asked = Prompt(0, tuple(range(1, prompt + 1)), "")
    response = Response(0, asked, 0, ids, text, spans, True, np.zeros(len(ids), np.float32), 0, "engine")
    game = Plan(coalitions_Cn, np.zeros(coalitions_Cn.shape[::-1]), "owen")
    return response, CreditPlan(Units(ends, tuple(range(len(lengths)))), game)


def sequences(response: Response, asked: Question, *, filled: bool) -> list[Encoded]:
    """What a model that reads the policy's tokens is given for the coalitions."""
    assert asked.units is not None
    assert asked.coalitions_Cn is not None
    unit_T = np.repeat(np.arange(len(asked.units)), np.diff((0, *asked.units.ends)))
    content = np.array(response.token_ids[:-1])
    rows = [np.where(here[unit_T], content, BLANK) if filled else content[here[unit_T]] for here in asked.coalitions_Cn]
    return [Encoded((*response.prompt.token_ids, *row.tolist(), EOS)) for row in rows]


@st.composite
def games(draw: st.DrawFn) -> tuple[Response, CreditPlan]:
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=7))
    n = len(lengths)
    some = draw(st.lists(st.integers(0, 2**n - 1), max_size=40, unique=True))
    members = [0, 2**n - 1, *(number for number in some if 0 < number < 2**n - 1)]
    coalitions = np.array([[number >> i & 1 for i in range(n)] for number in members], dtype=np.bool_)
    return job(lengths, coalitions, draw(st.integers(1, 30)))


@given(games(), st.booleans())
def test_the_estimate_is_what_each_way_to_share_computes(asked: tuple[Response, CreditPlan], filled: bool) -> None:
    [whole] = cut(*asked, TaskSizes(10**9, filled=filled))
    texts = sequences(*asked, filled=filled)
    assert whole.tokens == len(plant(texts, [len(text) - 1 for text in texts]))
    [by_prompt] = cut(*asked, TaskSizes(10**9, sharing="prompt", filled=filled))
    prompt = len(asked[0].prompt.token_ids)
    assert by_prompt.tokens == prompt + sum(len(text) - prompt for text in texts)
    [plainly] = cut(*asked, TaskSizes(10**9, sharing="nothing", filled=filled))
    assert plainly.tokens == sum(map(len, texts))


@settings(deadline=None)
@given(games(), st.integers(20, 200), st.sampled_from(["trie", "prompt", "nothing"]), st.booleans())
def test_parts_have_every_coalition_once_and_give_its_value_back(
    asked: tuple[Response, CreditPlan], tokens: int, sharing: str, filled: bool
) -> None:
    response, plan = asked
    assert plan.game is not None
    parts = cut(response, plan, TaskSizes(tokens, sharing=sharing, filled=filled))
    own = np.concatenate([part.rows_C for part in parts])
    assert sorted(own) == list(range(plan.game.n_coalitions))
    answers = []
    for number, part in enumerate(parts):
        coalitions_Cn = part.job[1].coalitions_Cn
        assert np.array_equal(coalitions_Cn, plan.game.coalitions_Cn[part.rows_C])
        assert part.job[1].scored == (1 in part.rows_C)
        answers.append(Evaluation(float(number), numbers(coalitions_Cn), asked_tokens=2, lengths_C=part.rows_C + 1))
    whole = joined(plan, parts, answers)
    assert whole.score == next(number for number, part in enumerate(parts) if 1 in part.rows_C)
    assert np.array_equal(whole.values_C, numbers(plan.game.coalitions_Cn))
    assert np.array_equal(whole.lengths_C, np.arange(plan.game.n_coalitions) + 1)
    assert whole.asked_tokens == 2 * len(parts)


@given(games(), st.data())
def test_some_rows_of_a_plan_are_cut_like_a_plan_of_their_own(
    asked: tuple[Response, CreditPlan], data: st.DataObject
) -> None:
    response, plan = asked
    assert plan.game is not None
    rows_C = np.array(sorted(data.draw(st.sets(st.integers(0, plan.game.n_coalitions - 1)))), dtype=np.intp)
    parts = cut(response, plan, TaskSizes(10**9), rows_C)
    if rows_C.size == 0:
        assert parts == []
        return
    [part] = parts
    assert np.array_equal(part.rows_C, rows_C)
    texts = sequences(*part.job, filled=False)
    assert part.tokens == len(plant(texts, [len(text) - 1 for text in texts]))


def test_the_parts_of_a_response_cost_about_the_same_and_little_more_than_the_whole() -> None:
    """The exact Owen value of 53 tokens behind a prompt of 450."""
    plan = owen(balanced(53))
    asked = job([1] * 53, plan.coalitions_Cn, prompt=450)
    [whole] = cut(*asked, TaskSizes(10**9))
    parts = cut(*asked, TaskSizes(3000))
    nodes = []
    for part in parts:
        texts = sequences(asked[0], part.job[1], filled=False)
        nodes.append(len(plant(texts, [len(text) - 1 for text in texts])))
    assert len(parts) == -(-(whole.tokens - 450) // 2550)
    assert max(nodes) < 3000
    assert min(nodes) > 0.75 * max(nodes)
    assert sum(nodes) < 1.25 * whole.tokens


def test_a_long_prompt_is_not_computed_for_a_handful_of_coalitions() -> None:
    asked = job([1] * 6, blank(0, units=6)[1].game.coalitions_Cn, prompt=1000)
    assert len(cut(*asked, TaskSizes(500))) == 1


def test_what_an_actor_is_asked_holds_no_map_from_values_to_credits() -> None:
    response, plan = blank(0, units=6)
    [part] = cut(response, plan, TaskSizes())
    assert part.job == (response, Excerpt(plan.units, part.job[1].coalitions_Cn))


def test_halves_are_halved_to_single_coalitions() -> None:
    [part] = cut(*blank(0, units=3), TaskSizes())

    def singles(part: Part) -> list[int]:
        return [row for half in halves(part) for row in singles(half)] or part.rows_C.tolist()

    assert singles(part) == list(range(8))


@pytest.mark.parametrize("masking", ["delete", "blank", "pad", "attention"])
@pytest.mark.parametrize(("name", "append_eos"), [("llama", True), ("llama", False), ("llama_other", True)])
def test_equal_keys_are_equal_sequences_to_the_model(
    name: str,
    append_eos: bool,
    masking: str,
    load_reward: Callable[..., RewardModel],
    tok: PreTrainedTokenizerFast,
) -> None:
    """Of every coalition of responses that have words in common, for a model that reads token ids and one that reads
    text; where it reads token ids equal sequences have equal keys, too."""
    model = load_reward(name, append_eos=append_eos).masked(masking)
    sizes = TaskSizes(alike=model.alike, filled=masking in FILLS, fill_token=model.fill_token)
    by_key: dict[Hashable, set[Encoded]] = {}
    by_sequence: dict[Encoded, set[Hashable]] = {}
    texts = (" good film good", " film good good", " not good film", " good film", "good film", " film good")
    for number, text in enumerate(texts):
        response = reward_bench.respond(tok, text, finished=number % 2 == 0)
        units = segment(response, "token", 64)
        plan = CreditPlan(units, shapley(len(units)))
        keys = sequence_keys(response, plan, sizes)
        for key, sequence in zip(keys, model.encoder.sequences(response, plan)[1:], strict=bool(keys)):
            by_key.setdefault(key, set()).add(sequence)
            by_sequence.setdefault(sequence, set()).add(key)
    assert {len(found) for found in by_key.values()} <= {1}
    by_ids = "tokens" if append_eos else "tokens_and_end"
    by_text = "text" if masking == "delete" else "nothing"
    assert model.alike == ("nothing" if masking == "attention" else by_ids if name == "llama" else by_text)
    if model.alike == by_ids:
        assert {len(found) for found in by_sequence.values()} == {1}
    assert bool(by_key) == (model.alike != "nothing")


def test_equal_keys_are_equal_texts_to_a_function(tok: PreTrainedTokenizerFast) -> None:
    response = reward_bench.respond(tok, " good film good")
    units = segment(response, "token", 64)
    plan = CreditPlan(units, shapley(len(units)))
    for filled in (False, True):
        keys = sequence_keys(response, plan, TaskSizes(alike="text", filled=filled))
        _, *texts = reduced_texts(response, plan, "blank" if filled else "delete")
        assert keys == texts


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": (1, 3, 0)},
        {"finished": False},
        {"prompt": Prompt(0, (6,), "")},
        {"prompt": Prompt(0, (5,), "other")},
        {"prompt": Prompt(0, (5,), "", {"year": 1994})},
        {"text": "other"},
    ],
)
def test_other_responses_have_another_identity(change: dict[str, object]) -> None:
    response, plan = blank(0, units=2)
    again = replace(response, row=4, sample=9, prompt=replace(response.prompt, index=3))
    assert identity(again, plan) == identity(response, plan)
    assert identity(replace(response, **change), plan) != identity(response, plan)
    assert identity(response, CreditPlan()) != identity(response, plan)
