"""Words as the treebank writes them, and the features of a word that the trained parser sees."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

FEATURES = ("word", "suffix3", "suffix2", "prefix2", "shape")
"""The slots of `features`, in order."""

_SPELLING = {"``": '"', "''": '"', "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "…": "...", "—": "--", "–": "--"}
_SPELLING |= {"-LRB-": "(", "-RRB-": ")", "-LCB-": "{", "-RCB-": "}", "-LSB-": "[", "-RSB-": "]"}
_CLITIC = re.compile(r"(?i)(?<=\w)(n't|'(?:s|re|ve|ll|d|m)|(?<=can)not)$")


def treebank_tokens(words: Sequence[str]) -> tuple[list[str], list[int]]:
    """The words in the treebank's tokens, and the number of the word that each is from.

    "don't" is two tokens, do and n't; "it's" is it and 's; "cannot" is can and not.
    """
    tokens: list[str] = []
    sources: list[int] = []
    for i, word in enumerate(words):
        parts = [part for part in _CLITIC.split(word.replace("’", "'")) if part]
        tokens += parts or [word]
        sources += [i] * max(len(parts), 1)
    return tokens, sources


def features(token: str, first: bool) -> tuple[str, ...]:
    """What the parser sees of a token, one string per slot of FEATURES; `first` for a sentence's first token.

    Digits are all 0 and marks are spelled in one way; the shape holds capitals, hyphens, points and digits.
    """
    token = re.sub(r"\d", "0", _SPELLING.get(token, token))
    lower = token.lower()
    kind = "X" if token[:1].isupper() else "x" if token[:1].islower() else token[:1]
    marks = "".join(mark for mark in "-.0'" if mark in token[1:])
    shape = f"{'^' if first else ''}{kind}{'A' if len(token) > 1 and token.isupper() else ''}{marks}"
    return lower, lower[-3:], lower[-2:], lower[:2], shape


class Vocabulary:
    """Numbers of the features that occur at least twice in the training sentences; 0 is any other."""

    def __init__(self, slots: Sequence[Sequence[str]]) -> None:
        """`slots`: the known features of each slot of FEATURES; number 1 is the first of them."""
        self.slots = tuple(tuple(slot) for slot in slots)
        self._numbers = [{feature: i for i, feature in enumerate(slot, start=1)} for slot in self.slots]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]]) -> Vocabulary:
        counts: list[Counter[str]] = [Counter() for _ in FEATURES]
        for tokens in sentences:
            for i, token in enumerate(tokens):
                for counter, feature in zip(counts, features(token, i == 0), strict=True):
                    counter[feature] += 1
        return cls([sorted(feature for feature, n in counter.items() if n >= 2) for counter in counts])

    def numbers(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Feature numbers (tokens, len(FEATURES)) of a sentence."""
        rows = [features(token, i == 0) for i, token in enumerate(tokens)]
        return np.array(
            [[known.get(feature, 0) for known, feature in zip(self._numbers, row, strict=True)] for row in rows],
            dtype=np.int64,
        ).reshape(len(rows), len(FEATURES))
