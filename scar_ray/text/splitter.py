"""Words, sentences and paragraphs of any text.

No model and no download: sentences end at final punctuation and line breaks, paragraphs at blank lines. Where a
script writes no spaces, every character is a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from scar_ray.text import vocabulary as v

_OPEN = "(\\[{«“‘„¿¡（「『【《〈"
_CLOSE = ".,;:!?…)\\]}»”、，。；：！？）」』】》〉।؟،؛"
_OPENING, _CLOSING = frozenset(_OPEN) - {"\\"}, frozenset(_CLOSE) - {"\\"}
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana and Han
)
_WORD = f'[^\\s{_OPEN}{_CLOSE}{_UNSPACED}"—]'
_GAP = re.compile(r"(?:\s|<br\s*/?>)*", re.IGNORECASE)
_LEXEME = re.compile(
    # A run of closing marks; one opening mark, quote or dash; one character of a script without spaces;
    # a word, with the points inside "3.14" and "U.S".
    rf"[{_CLOSE}]+|[{_OPEN}\"—]|[{_UNSPACED}]|(?:(?!<br\s*/?>){_WORD}|(?<=\d)[.,:](?=\d)|(?<=\b\w)\.(?=\w\b))+",
    re.IGNORECASE,
)
_FINAL = re.compile(r"[.!?…。！？।؟]")
_WIDE = "、，。；：！？।؟"
"""Marks that no space follows."""
_DASHES = re.compile(r"[-—–]+$")
_BREAK = re.compile(r"\n|<br\s*/?>", re.IGNORECASE)
_INITIALS = re.compile(r"(?:\w\.)*\w$")


Kind = Literal["word", "function", "opens", "closes"]
"""Of a word: open-class words, function words that open phrases, opening marks and dashes, closing marks."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word or punctuation mark."""

    start: int
    end: int
    """Characters start..end of the text are the word without the white space before it."""
    kind: Kind
    sentence: int
    paragraph: int
    """Numbers of those that it is in, from 0 over the whole text."""


class _Lexeme(NamedTuple):
    """A word or mark without the white space before it."""

    text: str
    start: int
    end: int
    spaced: bool
    """White space, an opening mark or the start of the text stands before it."""
    line_breaks: int
    """Line breaks before it."""

    @property
    def key(self) -> str:
        return self.text.lower().replace("’", "'").strip("'*_-`~")

    @property
    def closes(self) -> bool:
        return self.text[0] in _CLOSING or (self.text == '"' and not self.spaced)

    @property
    def opens(self) -> bool:
        return self.text in _OPENING or (self.text == '"' and self.spaced)

    @property
    def kind(self) -> Kind:
        if self.closes:
            return "closes"
        if self.opens or _DASHES.match(self.text):
            return "opens"
        return "function" if self.key in v.OPENERS else "word"


def split(text: str) -> tuple[Word, ...]:
    """The words of `text`, in order, without the white space between them.

    Example: "It was great. I left" has the words It, was, great, ".", I, left in two sentences.
    """
    lexemes = _lexemes(text)
    words: list[Word] = []
    sentence = paragraph = 0
    for i, lexeme in enumerate(lexemes):
        if i > 0 and _sentence_ends(lexemes, i):
            sentence += 1
            paragraph += lexeme.line_breaks > 1
        words.append(Word(lexeme.start, lexeme.end, lexeme.kind, sentence, paragraph))
    return tuple(words)


def _lexemes(text: str) -> list[_Lexeme]:
    lexemes: list[_Lexeme] = []
    position = 0
    while True:
        gap = _GAP.match(text, position)
        assert gap is not None
        if gap.end() == len(text):
            return lexemes
        found = _LEXEME.match(text, gap.end())
        assert found is not None, text[gap.end() :]
        breaks = 0 if gap[0] in ("", " ") else len(_BREAK.findall(gap[0]))
        spaced = position == 0 or gap.end() > position or lexemes[-1].opens
        lexemes.append(_Lexeme(found[0], found.start(), found.end(), spaced, breaks))
        position = found.end()


def _sentence_ends(lexemes: list[_Lexeme], i: int) -> bool:
    """A sentence ends between lexeme i - 1 and lexeme i."""
    here = lexemes[i]
    if here.line_breaks:
        return True
    j = i - 1
    while j >= 0 and lexemes[j].closes and not _FINAL.search(lexemes[j].text) and not lexemes[j].spaced:
        j -= 1  # quotes and brackets that close after the final mark
    if j < 0 or here.closes or not lexemes[j].closes or not _FINAL.search(lexemes[j].text):
        return False
    mark = lexemes[j].text
    if not here.spaced and mark[-1] not in _WIDE:
        return False
    if mark in ("...", "…") and here.text[0].islower():
        return False
    if _ends_abbreviation(lexemes, j):
        return here.text[0].isupper() and here.key in v.FUNCTION_WORDS
    return True


def _ends_abbreviation(lexemes: list[_Lexeme], i: int) -> bool:
    """Lexeme i is the point of an abbreviation ("Dr.", "U.S.") or of an initial ("J.")."""
    if i == 0 or lexemes[i].text != ".":
        return False
    word = lexemes[i - 1]
    return word.key in v.ABBREVIATIONS or (word.text != "I" and bool(_INITIALS.match(word.text)))
