"""Small responses for tests: the text is given token by token."""

from __future__ import annotations

import re
from itertools import accumulate

import numpy as np

from scar_ray.records import Prompt, Response, Units


def words(text: str) -> list[str]:
    """`text` cut into words and marks, white space before them."""
    return re.findall(r"\s*\w+|\s*[^\w\s]|\s+$", text)


def make_response(tokens: list[str], *, finished: bool = True, row: int = 0) -> Response:
    """A response of these tokens, and an end-of-sequence token when finished."""
    ends = list(accumulate(map(len, tokens)))
    spans = list(zip([0, *ends[:-1]], ends, strict=True)) if tokens else []
    if finished:
        length = ends[-1] if ends else 0
        spans.append((length, length))
    return Response(
        row=row,
        prompt=Prompt(index=row, token_ids=(1, 2), text="A prompt"),
        sample=0,
        token_ids=tuple(range(10, 10 + len(spans))),
        text="".join(tokens),
        token_spans=tuple(spans),
        finished=finished,
        logprobs_T=np.zeros(len(spans), np.float32),
        policy_version=0,
        engine="engine",
    )


def unit_texts(response: Response, units: Units) -> list[str]:
    """The characters of each unit."""
    spans = response.token_spans
    ranges = zip(units.starts, units.ends, strict=True)
    return [response.text[spans[start][0] : spans[end - 1][1]] for start, end in ranges]
