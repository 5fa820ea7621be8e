"""What a credit method asks of the reward model for one response, in sequences and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np

from scar_ray.config.arithmetic import sample_responses
from scar_ray.config.schema import Config
from scar_ray.credit import build
from scar_ray.games import Lengths
from scar_ray.records import FILLS, CreditPlan


@dataclass(frozen=True, slots=True)
class Reading:
    """Means over responses of one length to one prompt."""

    units: float
    """Players; 0 for methods without any."""
    evaluations: float
    """Sequences asked for, the response itself included."""
    tokens: float
    """Tokens of all of them."""
    computed: float
    """Tokens that go through the reward model: nodes of their prefix tree, where it has one."""


def reading(config: Config, prompt: int, new: int) -> Reading:
    """The mean over stretches of English prose of `new` tokens, each a word or a mark, behind a prompt of `prompt`."""
    method = build(**config.credit.method_options())
    plans = [method.plan(response) for response in sample_responses(prompt, new)]
    found = [_of_plan(config, plan, prompt, new) for plan in plans]
    return Reading(*(fmean(column) for column in zip(*found, strict=True)))


def _of_plan(config: Config, plan: CreditPlan, prompt: int, new: int) -> tuple[float, float, float, float]:
    end = int(config.model.reward.append_eos)
    whole = float(prompt + new + end)
    if plan.game is None or plan.units is None:
        return 0.0, 1.0, whole, whole
    lengths = tuple(np.subtract(plan.units.ends, plan.units.starts).tolist())
    coalitions_Cn, masking = plan.game.coalitions_Cn, config.credit.masking
    C = len(coalitions_Cn)
    tokens = Lengths(prompt, lengths, end, filled=masking != "delete").tokens(coalitions_Cn)
    trie = Lengths(prompt, lengths, end, filled=masking in FILLS).trie_tokens(coalitions_Cn)
    computed = {"plain": tokens, "shared_prompt": tokens - (C - 1) * prompt}.get(config.cluster.reward.engine, trie)
    return float(plan.game.n_players), float(C), float(tokens), float(computed)
