"""Noun, adjective and verb phrases without anything inside or around them: shallow chunks of a text.

No parser: the classes of `word_classes` and one pattern. A chunk is a noun or adjective phrase ("the very old house"),
a pronoun, or the verbs of a verb phrase with their adverbs ("was not watching"). Prepositions, conjunctions and opening
marks go with the chunk that follows, closing marks with the one before, so that the chunks cover all words.
"""

from __future__ import annotations

import re
from itertools import pairwise

from scar_ray.text.parse import Parse
from scar_ray.text.word_classes import word_classes

_CHUNK = re.compile(
    r"[(:PSC]*"  # what opens it
    r"(?:(?:T?R*[AV])+(?:R+(?![RXD]))?"  # wants to have seen twice; adverbs before a noun or adjective are its own
    r"|T?D*R*X+(?:G+[RX]*)*"  # the union 's old lawyers, very good
    r"|[ODG]+|R+|T)?"
    r"[,]*"  # what closes it
)


def chunk_ends(classes: str) -> list[int]:
    """Exclusive end of each chunk of a sentence whose words have these classes.

    Example: "DXARX," for The film is very good "." has the chunks The film | is | very good "." and gives [2, 3, 6].
    """
    return [match.end() for match in _CHUNK.finditer(classes) if match[0]]


def chunk_of_words(text: str, parsed: Parse) -> list[tuple[int, int]]:
    """For every word of `text` the number of its sentence, and of its chunk in the sentence."""
    places: list[tuple[int, int]] = []
    starts = [0, *parsed.word_ends[:-1]]
    words = [text[start:end].strip() for start, end in zip(starts, parsed.word_ends, strict=True)]
    for sentence, (first, stop) in enumerate(pairwise([0, *parsed.sentences])):
        ends = chunk_ends(word_classes(words[first:stop]))
        for chunk, (start, end) in enumerate(pairwise([0, *ends])):
            places += [(sentence, chunk)] * (end - start)
    return places
