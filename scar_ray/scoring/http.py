"""A reward behind an HTTP endpoint: `model.reward.function=http model.reward.options.url=http://host:port/score`.

Each call is one POST of JSON, `{"samples": [{"prompt": "...", "response": "...", "data": {...}}, ...]}`, which is
answered by `{"rewards": [0.5, ...]}`: one number for each sample, in their order. `data` is what the task knows about
the prompt. Busy or absent endpoints (no connection, no answer in time, status 408, 429 or 5xx) are asked again with
growing pauses, after `Retry-After` where they say so; other answers are errors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from scar_ray.records import Sample
from scar_ray.scoring.errors import RewardUnavailable

BUSY = (408, 429, 500, 502, 503, 504)


class Endpoint:
    """A JSON service behind a URL."""

    def __init__(
        self, name: str, options: str, url: str, *, timeout_s: float, retries: int, backoff_s: float, key_env: str
    ) -> None:
        """`name` is what asks, `options` the key that its settings stand under; both are for messages.

        `key_env` names an environment variable of the actors; its value is sent as a bearer token. The pause before
        retry k is `backoff_s` * 2^(k-1) seconds, at most two minutes.
        """
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        key = os.environ.get(key_env, "") if key_env else ""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{options}.url={url}: must begin with http:// or https://")
        if key_env and not key:
            raise ValueError(f"{options}.key_env={key_env}: the environment variable is not set; export it")
        self._name, self._options, self._url, self._timeout_s = name, options, url, timeout_s
        self._session = requests.Session()
        self._session.auth = _Bearer(key)
        policy = Retry(
            total=retries,
            backoff_factor=backoff_s,
            status_forcelist=BUSY,
            allowed_methods={"POST"},
            raise_on_status=False,
        )
        adapter = HTTPAdapter(max_retries=policy, pool_maxsize=64)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def ask(self, body: Mapping[str, Any], answer_key: str) -> list[Any]:
        """The list that the answer to `body` holds under `answer_key`.

        RewardUnavailable where there is no answer, ValueError for a wrong one.
        """
        import requests

        try:
            answer = self._session.post(self._url, json=body, timeout=self._timeout_s, allow_redirects=False)
        except requests.RequestException as error:
            raise RewardUnavailable(
                f"{self._name}: {self._url} does not answer ({_reason(error)}); start the endpoint, or "
                f"raise {self._options}.timeout_s or retries"
            ) from error
        if answer.status_code in (*BUSY, 401, 403):
            raise RewardUnavailable(
                f"{self._name}: {self._url} answers {answer.status_code} {answer.reason}; see to the "
                f"endpoint, its key is the environment variable that {self._options}.key_env names"
            )
        if answer.status_code != 200:
            raise ValueError(f"{self._url} answers {answer.status_code} {answer.reason}: {answer.text[:200]}")
        try:
            found = answer.json()[answer_key]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ValueError(
                f'{self._url} must answer {{"{answer_key}": [...]}}, it answers {answer.text[:100]!r}'
            ) from None
        return found if isinstance(found, list) else [found]


class HttpReward:
    """The function `http`; its options are the arguments, those of `Endpoint`."""

    waits = True

    def __init__(
        self, url: str, *, timeout_s: float = 60.0, retries: int = 6, backoff_s: float = 0.5, key_env: str = ""
    ) -> None:
        self._endpoint = Endpoint(
            "model.reward.function=http",
            "model.reward.options",
            url,
            timeout_s=timeout_s,
            retries=retries,
            backoff_s=backoff_s,
            key_env=key_env,
        )

    def __call__(self, samples: Sequence[Sample]) -> list[Any]:
        """The endpoint's rewards. RewardUnavailable where it does not answer, ValueError for a wrong answer."""
        asked = [{"prompt": s.prompt, "response": s.response, "data": dict(s.data)} for s in samples]
        return self._endpoint.ask({"samples": asked}, "rewards")


class _Bearer:
    """Sends the key where there is one, and never what a .netrc file holds."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: Any) -> Any:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _reason(error: Exception) -> str:
    """The innermost reason of what requests and urllib3 wrap."""
    inner = error
    while wrapped := [one for one in (getattr(inner, "reason", None), *inner.args) if isinstance(one, Exception)]:
        inner = wrapped[0]
    return f"{type(inner).__name__}: {' '.join(str(inner).split())[:200]}"
