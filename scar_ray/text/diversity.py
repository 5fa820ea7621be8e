"""How much a set of texts repeats itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+|[^\w\s]")


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct-n (Li et al. 2016): the share of n-grams of words and marks, over all texts, that are different ones.

    Words count in lower case, n-grams do not cross texts. NaN where no text has n words. It falls with the number of
    texts, so compare sets of the same size only.

    Example: "the good, the bad" has 4 different ones among its 5 words and marks: 0.8.
    """
    words = [_WORD.findall(text.lower()) for text in texts]
    grams = [tuple(row[start : start + n]) for row in words for start in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")
