"""What went wrong in an actor, in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import ray
import ray.exceptions

MAX_CHARS = 500
"""Longest explanation of a failure."""

_FRAME = re.compile(r'^ +(?:File ".*|[~^]+)\n(?:[ \t]+.*\n)*', re.MULTILINE)
"""One frame of a traceback; what follows the last one is the exception."""
_DEATH = re.compile(r"The actor is dead because (.*?)(?: Some common causes include.*)?$", re.MULTILINE)


class ActorFailed(RuntimeError):
    """An actor died or raised: the message says which one and why."""


def explain(error: BaseException) -> str:
    """One line on the cause of an exception that came out of `ray.get`."""
    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        error = error.cause
    text = str(error).strip()
    if isinstance(error, ActorFailed):  # an actor that called another one has said it all
        return text
    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.RayTaskError):
        frames = list(_FRAME.finditer(text))
        if frames:  # raised in the actor's constructor, whose traceback is all that Ray hands over
            return _one_line(text[frames[-1].end() :])
        death = _DEATH.search(text)
        return _one_line(f"died: {death.group(1) if death else text}")
    return f"{type(error).__name__}: {_one_line(text) or 'no message'}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_CHARS]


def died(error: BaseException) -> bool:
    """True when the actor's process is gone, false when the actor answered with an exception."""
    return isinstance(error, ray.exceptions.RayActorError)


def get_all(refs: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """The answers of several actors, in order.

    Raises ActorFailed for the first one that fails, without waiting for the others: they may wait for it.
    """
    waiting = list(refs)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        try:
            ray.get(done[0])
        except Exception as error:
            raise ActorFailed(f"{names[refs.index(done[0])]}: {explain(error)}") from error
    return list(ray.get(list(refs)))
