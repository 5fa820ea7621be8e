"""Which input a reward model failed on, and how that is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from scar_ray.records import Response
from scar_ray.scoring import name_of
from scar_ray.workers.reward_tasks import Part, halves, selected

MAX_TOLD = 5
"""Failed responses that a message names with their reasons."""


def failed_coalition(fails: Callable[[Part], bool], part: Part) -> int | None:
    """Row of a coalition, in the plan of the whole response, that the model fails on by itself.

    None where it fails on the response as it is, or on no coalition alone. Asks about log2(C) times.
    """
    if part.job[1].coalitions_Cn is None or fails(selected(part, None)):
        return None
    while parts := halves(part):
        part = parts[0] if fails(parts[0]) else parts[1]
    return int(part.rows_C[0]) if fails(part) else None


def renumbered(message: str, part: Part) -> str:
    """A message on a sample, with the coalition's number in the plan of the whole response."""
    name = name_of(part.job[0])
    if not message.startswith(name):
        return message
    reason = re.sub(
        r"\bcoalition (\d+)\b", lambda found: f"coalition {part.rows_C[int(found[1])]}", message.removeprefix(name)
    )
    return name + reason


def located(response: Response, coalition: int | None, reason: str) -> str:
    """A message on a sample whose coalition the model fails on."""
    where = "" if coalition is None else f", coalition {coalition}"
    return f"{name_of(response)}{where}: {reason}"


def several(failures: Mapping[int, str], responses: int) -> str:
    """One line on the rows that failed."""
    reasons = [failures[row] for row in sorted(failures)]
    if len(reasons) == 1:
        return reasons[0]
    more = f"; and {len(reasons) - MAX_TOLD} more" if len(reasons) > MAX_TOLD else ""
    return f"{len(reasons)} of {responses} responses could not be scored: {'; '.join(reasons[:MAX_TOLD])}{more}"
