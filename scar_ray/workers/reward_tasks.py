"""What the actors of the reward pool are given to do: responses, cut or put together by what they will cost.

Reward models differ in the last bits of a score with what is computed beside it. So what is scored together is a
function of the responses alone, never of the pool's size or of who finishes first: a large response is a task of its
own from the moment it is there, one that is larger than a task is cut along the tree of its coalitions, and small ones
wait for the small ones among their neighbouring rows. What equals a response of the step is not scored again; of equal
small ones the first row is. Costs are estimated in the policy's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import Plan
from scar_ray.records import CreditPlan, Evaluation, Prompt, Response

Job = tuple[Response, CreditPlan]
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


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A response and some of its coalitions."""

    job: Job
    """What the actor is asked: the empty coalition, the full one, and this part's own."""
    rows_C: NDArray[np.intp]
    """The coalitions' rows in the plan of the whole response; empty without a game."""
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


def cut(response: Response, plan: CreditPlan, sizes: TaskSizes) -> list[Part]:
    """The parts of a response; one where it fits a task.

    Parts are runs of coalitions in the depth-first order of their prefix tree, of about equal cost, so that each
    computes little of what another one computes.
    """
    prompt = len(response.prompt.token_ids)
    if plan.game is None or plan.units is None or not plan.units.ends:
        return [Part((response, _asked(plan, None)), _rows(plan), prompt + response.n_tokens)]
    order_C, tokens_C = _depth_first(plan, sizes)
    once = prompt if sizes.sharing != "nothing" else 0
    each = prompt - once
    total = int(tokens_C.sum()) + each * len(tokens_C)
    room = max(sizes.tokens - once, int(once / MAX_REPEATED))
    count = 1 if plan.attention else -(-total // room)
    starts_C = np.cumsum(tokens_C + each) - (tokens_C + each)
    number_C = starts_C * count // total
    parts = []
    for number in range(count):
        own_C = order_C[(number_C == number) & (order_C > 1)]
        rows_C = np.concatenate([np.array([0, 1], dtype=np.intp), own_C])
        tokens = once + int((tokens_C[number_C == number] + each).sum())
        asked = _asked(replace(plan, gold=plan.gold and number == 0), rows_C)
        parts.append(Part((response, asked), rows_C, tokens))
    parts = [part for number, part in enumerate(parts) if number == 0 or len(part.rows_C) > 2]
    return parts if len(parts) > 1 else [Part((response, _asked(plan, None)), _rows(plan), once + total)]


def joined(plan: CreditPlan, parts: Sequence[Part], evaluations: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of the whole response; what several parts computed is the first one's."""
    if len(parts) == 1:
        return evaluations[0]
    assert plan.game is not None
    values_C = np.empty(plan.game.n_coalitions)
    for part, evaluation in reversed(list(zip(parts, evaluations, strict=True))):
        values_C[part.rows_C] = evaluation.values_C
    return replace(evaluations[0], values_C=values_C)


def selected(part: Part, own: Sequence[int] | None) -> Part:
    """A part with some of its own coalitions, by their place among them; with None no coalitions at all."""
    response, plan = part.job
    if own is None:
        return Part((response, CreditPlan()), part.rows_C[:0], part.tokens)
    at_C = np.array([0, 1, *(2 + place for place in own)], dtype=np.intp)
    return Part((response, _asked(plan, at_C)), part.rows_C[at_C], part.tokens)


def halves(part: Part) -> list[Part]:
    """Each half of a part's own coalitions; none where there are fewer than two."""
    count = len(part.rows_C) - 2
    return [selected(part, run) for run in (range(count // 2), range(count // 2, count))] if count > 1 else []


def prompt_identity(prompt: Prompt) -> tuple[object, ...]:
    """Equal for prompts of which a reward model or function reads the same."""
    return prompt.token_ids, prompt.text, prompt.index if prompt.data else None


def identity(response: Response, plan: CreditPlan) -> tuple[object, ...]:
    """Equal for responses of which the same is asked."""
    asked = None if plan.game is None else plan.game.coalitions_Cn.tobytes()
    ends = None if plan.units is None else plan.units.ends
    prompt = prompt_identity(response.prompt)
    return prompt, response.token_ids, response.text, response.finished, ends, asked, plan.attention, plan.gold


def _rows(plan: CreditPlan) -> NDArray[np.intp]:
    return np.arange(0 if plan.game is None else plan.game.n_coalitions)


def _asked(plan: CreditPlan, rows_C: NDArray[np.intp] | None) -> CreditPlan:
    """The coalitions of a plan, without the map from their values to credits, which is many times as large."""
    if plan.game is None:
        return plan
    coalitions_Cn = plan.game.coalitions_Cn if rows_C is None else plan.game.coalitions_Cn[rows_C]
    nothing_nC = np.zeros(coalitions_Cn.shape[::-1], dtype=np.bool_)
    return replace(plan, game=Plan(coalitions_Cn, nothing_nC, plan.game.estimator))


def _depth_first(plan: CreditPlan, sizes: TaskSizes) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Rows of the coalitions in depth-first order; tokens of the response, and EOS, that each adds to those before."""
    assert plan.game is not None
    assert plan.units is not None
    coalitions_Cn = plan.game.coalitions_Cn
    bits_CK = np.packbits(coalitions_Cn, axis=1)
    order_C = np.argsort(bits_CK.view(f"S{bits_CK.shape[1]}")[:, 0], kind="stable")
    rows_Cn = coalitions_Cn[order_C]
    new_Cn = np.ones_like(rows_Cn)
    if sizes.sharing == "trie":
        new_Cn[1:] = np.logical_or.accumulate(rows_Cn[1:] != rows_Cn[:-1], axis=1)
    if not sizes.filled:
        new_Cn &= rows_Cn
    units_n = np.diff((0, *plan.units.ends))
    return order_C, new_Cn @ units_n + 1
