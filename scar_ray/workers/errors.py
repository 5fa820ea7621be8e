"""What went wrong in an actor, in one line."""

from __future__ import annotations

import re

import ray.exceptions

MAX_CHARS = 500
"""Longest explanation of a failure."""


class ActorFailed(RuntimeError):
    """An actor died or raised: the message says which one and why."""


class SampleFailed(ValueError):
    """The reward model could not score one sample: the message says which one and why."""


def explain(error: BaseException) -> str:
    """One line on the cause of an exception that came out of `ray.get`."""
    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        error = error.cause
    if isinstance(error, ray.exceptions.ActorDiedError | ray.exceptions.RayTaskError):
        text = str(error).strip()
        # The actor's own traceback ends with the exception that its constructor raised.
        lines = re.split(r"\n(?=\S)", text)
        return _one_line(lines[-1]) if "Traceback" in text or "creation task" in text else f"died: {_one_line(text)}"
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return f"died: {_one_line(str(error))}"
    return f"{type(error).__name__}: {_one_line(str(error)) or 'no message'}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_CHARS]


def died(error: BaseException) -> bool:
    """True when the actor's process is gone, false when the actor answered with an exception."""
    return isinstance(error, ray.exceptions.RayActorError)
