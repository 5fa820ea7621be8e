"""The candidates that a response lists, as character ranges: tolerant of what models write, and open about it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from scar_ray.text.offsets import Span

ListFormat = Literal["numbered", "json", "separator"]

_MARKER = re.compile(r"(?:^|(?<=\s))\(?(\d{1,3})[.):](?=\s)")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was found in one response."""

    spans: tuple[Span, ...]
    """Half-open character range of each candidate, in order, apart from each other; markers, separators, quotes and
    white space around are outside."""
    dropped: tuple[str, ...]
    """What was left out or is missing and why, a line each."""


def find_candidates(text: str, form: ListFormat, count: int, separator: str = "\n") -> Candidates:
    """The first `count` candidates of `text`.

    "numbered": 1. 2) (3) 4: at the start of a line or in it, as long as each number follows on the one before; what
    stands before the first is a preamble, a blank line ends the last. "json": the strings of the first list, which need
    not be closed. "separator": what stands between separators. Empty candidates, elements that are no text, an
    unfinished last string and those beyond `count` are dropped. A text without any such form has no candidates.

    Example: "Try: 1. red shoes 2. boots" as "numbered" holds red shoes and boots.
    """
    reader: dict[ListFormat, Callable[[], tuple[list[Span], list[str]]]] = {
        "numbered": lambda: _numbered(text),
        "json": lambda: _json(text),
        "separator": lambda: _separated(text, separator),
    }
    found, dropped = reader[form]()
    spans = [span for span in (_stripped(text, span) for span in found) if span[0] < span[1]]
    if len(spans) < len(found):
        dropped.append(f"{len(found) - len(spans)} empty")
    if len(spans) > count:
        dropped.append(f"{len(spans) - count} more than the {count} asked for")
    if len(spans) < count:
        dropped.append(f"{count - len(spans)} of {count} missing")
    return Candidates(tuple(spans[:count]), tuple(dropped))


def _numbered(text: str) -> tuple[list[Span], list[str]]:
    all_markers = list(_MARKER.finditer(text))
    if not all_markers:
        return [], []
    # "Top 3: 1. ...": a list starts with 1, unless there is none.
    markers = [next((marker for marker in all_markers if int(marker[1]) == 1), all_markers[0])]
    for marker in all_markers:
        if marker.start() > markers[-1].start() and int(marker[1]) == int(markers[-1][1]) + 1:
            markers.append(marker)
    spans = [(marker.end(), following.start()) for marker, following in pairwise(markers)]
    blank = _BLANK_LINE.search(text, markers[-1].end())
    end = blank.start() if blank else len(text)
    after = text[end:].strip()
    return [*spans, (markers[-1].end(), end)], [f"{len(after)} characters after the list"] if after else []


def _json(text: str) -> tuple[list[Span], list[str]]:
    spans: list[Span] = []
    dropped: list[str] = []
    at = text.find("[") + 1
    while at:
        between = _BETWEEN.match(text, at)
        assert between is not None
        at = between.end()
        if text[at : at + 1] == '"':
            string = _STRING.match(text, at)
            if string is None:
                dropped.append("1 not finished")
                break
            spans.append(string.span(1))
            at = string.end()
        elif text[at : at + 1] in ("]", ""):
            after = text[at + 1 :].strip()
            dropped += [f"{len(after)} characters after the list"] if after else []
            break
        else:
            try:
                _, at = json.JSONDecoder().raw_decode(text, at)
            except (ValueError, RecursionError):
                dropped.append(f"{len(text) - at} characters that are no JSON")
                break
            dropped.append("1 that is no text")
    return spans, dropped


def _separated(text: str, separator: str) -> tuple[list[Span], list[str]]:
    spans: list[Span] = []
    start = 0
    for part in text.split(separator):
        spans.append((start, start + len(part)))
        start += len(part) + len(separator)
    # White space between two separators, or at the end, is nobody's candidate.
    return [span for span in spans if text[slice(*span)].strip()], []


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
