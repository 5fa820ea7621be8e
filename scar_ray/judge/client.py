"""Many requests to an OpenAI-compatible endpoint: side by side, at a pace, tried again, and failures told apart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scar_ray.config.errors import UserError
from scar_ray.judge.cache import Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Request = Mapping[str, Any]
"""Body of a chat completion: model, messages, settings."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and how hard to try."""

    base_url: str
    key: str
    """Sent as a bearer token; never written anywhere."""
    concurrency: int = 8
    """Requests on their way at the same time."""
    per_minute: float | None = None
    """Most requests a minute, repeated ones included; none: as fast as they are answered."""
    timeout_s: float = 120.0
    """An attempt that says nothing for so long has failed."""
    retries: int = 5
    """Further attempts after a failed one, each after about twice the time of the one before."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request that failed for good."""

    reason: str


class Pace:
    """Lets one request go each 60 / `per_minute` seconds."""

    def __init__(self, per_minute: float) -> None:
        self._interval, self._next = 60.0 / per_minute, 0.0

    async def __call__(self, _: object) -> None:
        now = time.monotonic()
        slot = max(now, self._next)
        self._next = slot + self._interval
        await asyncio.sleep(slot - now)


def ask_all(
    endpoint: Endpoint, requests: Mapping[str, Request], answered: Callable[[str, Reply | NoAnswer], None]
) -> None:
    """Asks all requests; `answered` is told the outcome of each, by its key, as it comes in.

    The first request goes alone: UserError where no server is there, the key is refused, or the model is unknown.
    """
    asyncio.run(_ask_all(endpoint, list(requests.items()), answered))


async def _ask_all(
    endpoint: Endpoint,
    requests: Sequence[tuple[str, Request]],
    answered: Callable[[str, Reply | NoAnswer], None],
) -> None:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    # A hook of the transport: repeated attempts keep the pace, too.
    hooks = {"request": [Pace(endpoint.per_minute)]} if endpoint.per_minute is not None else {}
    client = AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.key,
        timeout=endpoint.timeout_s,
        max_retries=endpoint.retries,
        http_client=DefaultAsyncHttpxClient(event_hooks=hooks),
    )
    places = asyncio.Semaphore(endpoint.concurrency)

    async def one(key: str, request: Request, first: bool = False) -> None:
        async with places:
            answered(key, await _ask(client, endpoint, request, first))

    async with client:
        for key, request in requests[:1]:
            await one(key, request, first=True)
        tasks = [asyncio.create_task(one(key, request)) for key, request in requests[1:]]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(client: AsyncOpenAI, endpoint: Endpoint, request: Request, first: bool) -> Reply | NoAnswer:
    """The answer to one request. UserError for what no request to this endpoint will ever get past."""
    import openai

    try:
        raw = await client.chat.completions.with_raw_response.create(**request)
    except openai.AuthenticationError as error:
        raise UserError(
            f"{endpoint.base_url} refuses the key ({_told(error)}); check the environment variable"
        ) from None
    except (openai.PermissionDeniedError, openai.NotFoundError) as error:
        raise UserError(
            f"{endpoint.base_url}: {_told(error)}; check --base-url (it usually ends in /v1) and "
            f"--model={request['model']}"
        ) from None
    except openai.APITimeoutError:
        return NoAnswer(f"no answer within {endpoint.timeout_s:g} s")
    except openai.APIConnectionError as error:
        if first:
            raise UserError(f"no endpoint answers at {endpoint.base_url} ({_told(error.__cause__ or error)})") from None
        return NoAnswer(f"connection failed: {_told(error.__cause__ or error)}")
    except openai.APIError as error:
        return NoAnswer(_told(error))
    return _reply(raw.text)


def _reply(body: str) -> Reply | NoAnswer:
    """The answer in a response body; a body that is not a chat completion is no answer."""
    try:
        choice = json.loads(body)["choices"][0]
        text = choice["message"].get("content") or ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return NoAnswer(f"what came is no chat completion: {body[:60]!r}")
    if not isinstance(text, str):
        return NoAnswer(f"what came is no text: {text!r:.60}")
    return Reply(text, str(choice.get("finish_reason") or ""))


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
