"""What the actors of the reward pool are given to do: responses, cut or put together by what they will cost.

Reward models differ in the last bits of a score with what is computed beside it. So what is scored together is a
function of the responses alone, never of the pool's size or of who finishes first: a large response is a task of its
own, one that is larger than a task is cut along the tree of its coalitions, and small ones wait for the small ones
among their neighbouring rows. A sequence of a step is scored once: what a response has in common with an earlier row
is asked for there, so that a row waits for the earlier ones of its prompt. Costs are estimated in the policy's tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.tokens import bit_strings, new_units
from scar_ray.records import CreditPlan, Evaluation, Excerpt, Prompt, Question, Response
from scar_ray.scoring.encoding import Alike
from scar_ray.scoring.function import reduced_texts

Job = tuple[Response, Question]
Sharing = Literal["trie", "prompt", "nothing"]

MAX_REPEATED = 0.25
"""Most that computing the prompt again may add to a part of a response."""


@dataclass(frozen=True, slots=True)
class TaskSizes:
    """How responses are made into tasks."""

    tokens: int = 16_384
    """Computed tokens of a task, about: a response of more is cut."""
    neighbours: int = 8
    """Rows whose small responses are scored together. Small are those that all fit one task."""
    sharing: Sharing = "trie"
    """What the reward model's engine computes only once of the coalitions of a response."""
    filled: bool = False
    """Units that are left out are replaced by as many other tokens."""
    alike: Alike = "tokens"
    """What makes coalitions of two responses equal sequences."""
    fill_token: int = -1
    """What stands in the place of a token that is left out, to a model that reads the policy's tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A response and some of its coalitions."""

    job: Job
    """What the actor is asked."""
    rows_C: NDArray[np.intp]
    """Its coalitions' rows in the plan of the whole response; empty without a game."""
    tokens: int
    """Estimate of what will be computed."""


@dataclass(frozen=True, slots=True)
class TaskSpan:
    """One task, as it was done; times in seconds of `time.perf_counter` of the process that holds the pool."""

    actor: str
    queued: float
    started: float
    ended: float
    rows: tuple[int, ...]
    computed_tokens: int


def cut(response: Response, plan: CreditPlan, sizes: TaskSizes, rows_C: NDArray[np.intp] | None = None) -> list[Part]:
    """The parts of a response, or of some rows of its plan; one where it fits a task, none where nothing is asked.

    Parts are runs of coalitions in the depth-first order of their prefix tree, of about equal cost, so that each
    computes little of what another one computes. The plain score comes with the full coalition, whose sequence it is.
    """
    prompt = len(response.prompt.token_ids)
    if plan.game is None:
        return [Part((response, plan), np.zeros(0, np.intp), prompt + response.n_tokens)]
    rows_C = np.arange(plan.game.n_coalitions) if rows_C is None else rows_C
    if rows_C.size == 0:
        return []
    order_C, tokens_C = _depth_first(plan, rows_C, sizes)
    once = prompt if sizes.sharing != "nothing" else 0
    each = prompt - once
    total = int(tokens_C.sum()) + each * len(tokens_C)
    room = max(sizes.tokens - once, int(once / MAX_REPEATED))
    count = 1 if plan.attention else -(-total // room)
    starts_C = np.cumsum(tokens_C + each) - (tokens_C + each)
    number_C = starts_C * count // total
    parts = []
    for number in np.unique(number_C):
        own_C = number_C == number
        tokens = once + int((tokens_C[own_C] + each).sum())
        rows_C = np.sort(order_C[own_C])
        parts.append(Part((response, _excerpt(plan, rows_C)), rows_C, tokens))
    return parts


def joined(plan: CreditPlan, parts: Sequence[Part], evaluations: Sequence[Evaluation]) -> Evaluation:
    """What the parts say of the whole response; NaN for what none of them was asked."""
    if plan.game is None:
        return evaluations[0]
    values_C, lengths_C = np.full(plan.game.n_coalitions, np.nan), np.zeros(plan.game.n_coalitions, np.int64)
    whole = Evaluation(float("nan"), values_C, lengths_C=lengths_C)
    for part, one in zip(parts, evaluations, strict=True):
        values_C[part.rows_C] = one.values_C
        if one.lengths_C is not None:
            lengths_C[part.rows_C] = one.lengths_C
        whole = replace(whole, asked_tokens=whole.asked_tokens + one.asked_tokens)
        if part.job[1].scored:
            whole = replace(whole, score=one.score, gold=one.gold, attention_T=one.attention_T)
    return whole


def selected(part: Part, own: Sequence[int] | None) -> Part:
    """A part with some of its coalitions, by their place among them; with None the plain response."""
    response, asked = part.job
    if own is None:
        return Part((response, CreditPlan()), part.rows_C[:0], part.tokens)
    assert asked.coalitions_Cn is not None
    some = Excerpt(asked.units, asked.coalitions_Cn[list(own)], scored=False)
    return Part((response, some), part.rows_C[list(own)], part.tokens)


def halves(part: Part) -> list[Part]:
    """Each half of a part's coalitions; none where there are fewer than two."""
    count = len(part.rows_C)
    return [selected(part, run) for run in (range(count // 2), range(count // 2, count))] if count > 1 else []


def sequence_keys(response: Response, plan: CreditPlan, sizes: TaskSizes) -> list[Hashable]:
    """A key of each coalition: among the responses to a prompt, equal ones are equal sequences to the reward model.

    None at all where that cannot be said, or where more is asked than values.
    """
    if plan.game is None or plan.units is None or plan.attention or plan.gold or sizes.alike == "nothing":
        return []
    if sizes.alike == "text":
        _, *texts = reduced_texts(response, plan, "blank" if sizes.filled else "delete")
        return list(texts)
    content_T = np.array(response.token_ids[: response.n_content])
    present_CT = np.repeat(plan.game.coalitions_Cn, np.diff((0, *plan.units.ends)), axis=1)
    if sizes.filled:
        kept = [row_T.tobytes() for row_T in np.where(present_CT, content_T, sizes.fill_token)]
    else:
        kept = [content_T[present_T].tobytes() for present_T in present_CT]
    end = response.finished and sizes.alike == "tokens_and_end"
    return [(tokens, end) for tokens in kept]


def prompt_identity(prompt: Prompt) -> tuple[object, ...]:
    """Equal for prompts of which a reward model or function reads the same."""
    return prompt.token_ids, prompt.text, prompt.index if prompt.data else None


def identity(response: Response, plan: CreditPlan) -> tuple[object, ...]:
    """Equal for responses of which the same is asked."""
    asked = None if plan.game is None else plan.game.coalitions_Cn.tobytes()
    ends = None if plan.units is None else plan.units.ends
    prompt = prompt_identity(response.prompt)
    return prompt, response.token_ids, response.text, response.finished, ends, asked, plan.attention, plan.gold


def _excerpt(plan: CreditPlan, rows_C: NDArray[np.intp]) -> Excerpt:
    """These coalitions of a plan; what else it asks comes with the full one."""
    assert plan.game is not None
    full = 1 in rows_C
    coalitions_Cn = plan.game.coalitions_Cn[rows_C]
    return Excerpt(plan.units, coalitions_Cn, full, plan.attention and full, plan.gold and full)


def _depth_first(
    plan: CreditPlan, rows_C: NDArray[np.intp], sizes: TaskSizes
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The rows in depth-first order; tokens of the response, and EOS, that each adds to those before."""
    assert plan.game is not None
    assert plan.units is not None
    if not plan.units.ends:
        return rows_C, np.ones(len(rows_C), np.int64)
    coalitions_Cn = plan.game.coalitions_Cn[rows_C]
    order_C = np.argsort(bit_strings(coalitions_Cn), kind="stable")
    rows_Cn = coalitions_Cn[order_C]
    if sizes.sharing == "trie":
        new_Cn = new_units(rows_Cn, filled=sizes.filled)
    else:
        new_Cn = np.ones_like(rows_Cn) if sizes.filled else rows_Cn
    units_n = np.diff((0, *plan.units.ends))
    return rows_C[order_C], new_Cn @ units_n + 1
