"""A heuristic constituency of any text: sentences of clauses of phrases of words.

No model and no download: sentences end at final punctuation and line breaks, clauses at subordinators,
semicolons and brackets, phrases at punctuation and before closed-class words. English gets linguistic
phrases; other scripts, code and noise get short runs of words (of characters, where a script writes no
spaces), so every text works.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from scar_ray.text import vocabulary as v

MAX_PHRASE_WORDS = 6
"""A longer phrase is cut into equal parts."""

_OPEN = "(\\[{«“‘„¿¡（「『【《〈"
_CLOSE = ".,;:!?…)\\]}»”、，。；：！？）」』】》〉।؟"
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
_INITIALS = re.compile(r"(?:\w\.)*\w$")


@dataclass(frozen=True, slots=True)
class Word:
    """One word or punctuation mark, with the white space before it."""

    end: int
    """Exclusive end in characters; it starts where the word before ends."""
    sentence: int
    clause: int
    phrase: int
    """Numbers of the constituents it is in; each counts from 0 over the whole text."""


@dataclass(frozen=True, slots=True)
class _Lexeme:
    """A word or mark without the white space before it."""

    text: str
    start: int
    end: int
    spaced: bool
    """White space or the start of the text stands before it."""
    new_line: bool
    """A line break stands before it."""

    @property
    def key(self) -> str:
        return self.text.lower().replace("’", "'").strip("'*_-`~")

    @property
    def closes(self) -> bool:
        return self.text[0] in _CLOSE.replace("\\", "") or (self.text == '"' and not self.spaced)

    @property
    def opens(self) -> bool:
        return self.text in _OPEN.replace("\\", "") or (self.text == '"' and self.spaced)

    @property
    def is_content(self) -> bool:
        return not self.closes and not self.opens and self.key not in v.OPENERS and not _DASHES.match(self.text)


def constituents(text: str) -> tuple[Word, ...]:
    """The words of `text`, in order; together they cover it. White space alone is one word; the
    empty text has none.

    Example: "It was great. I left" has the words It, was, great, ".", I, left in two sentences.
    """
    lexemes = _lexemes(text)
    if text and not lexemes:
        return (Word(len(text), 0, 0, 0),)
    words: list[Word] = []
    sentence = clause = phrase = -1
    content = subject = False  # whether the phrase so far has a content word, a pronoun or determiner
    for i, lexeme in enumerate(lexemes):
        if i == 0 or _sentence_ends(lexemes, i):
            level = 3
        elif _clause_starts(lexemes, i, content):
            level = 2
        else:
            level = 1 if _phrase_starts(lexemes, i, content, subject) else 0
        sentence, clause, phrase = sentence + (level > 2), clause + (level > 1), phrase + (level > 0)
        content = (content and level == 0) or lexeme.is_content
        subject = (subject and level == 0) or lexeme.key in v.SUBJECTS
        words.append(Word(lexeme.end, sentence, clause, phrase))
    return _cut_long_phrases(words, len(text))


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
        breaks = "\n" in gap[0] or "<" in gap[0]
        spaced = position == 0 or gap.end() > position
        lexemes.append(_Lexeme(found[0], found.start(), found.end(), spaced, breaks))
        position = found.end()


def _sentence_ends(lexemes: list[_Lexeme], i: int) -> bool:
    """A sentence ends between lexeme i - 1 and lexeme i."""
    here = lexemes[i]
    if here.new_line:
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
        return here.text[0].isupper() and here.key in v.OPENERS
    return True


def _ends_abbreviation(lexemes: list[_Lexeme], i: int) -> bool:
    """Lexeme i is the point of an abbreviation ("Dr.", "U.S.") or of an initial ("J.")."""
    if i == 0 or lexemes[i].text != ".":
        return False
    word = lexemes[i - 1]
    return word.key in v.ABBREVIATIONS or (word.text != "I" and bool(_INITIALS.match(word.text)))


def _clause_starts(lexemes: list[_Lexeme], i: int, content: bool) -> bool:
    """A clause starts at lexeme i, within a sentence; `content` when the phrase before has a content word."""
    here, before = lexemes[i], lexemes[i - 1]
    if here.closes:
        return False
    if here.key in v.COORDINATORS:
        return i + 1 < len(lexemes) and lexemes[i + 1].key in v.SUBJECTS
    if not content:
        return False
    if here.text in ("(", "[", "{", "（") or _DASHES.match(here.text) or here.key in v.SUBORDINATORS:
        return True
    if before.closes and before.text[-1] in ";:)]}；：）":
        return True
    return before.text in (",", "，") and here.key in v.PRONOUNS


def _phrase_starts(lexemes: list[_Lexeme], i: int, content: bool, subject: bool) -> bool:
    """A phrase starts at lexeme i, within a clause; the phrase before has a content word, a subject."""
    here, before = lexemes[i], lexemes[i - 1]
    if here.closes or before.opens:
        return False
    if here.opens:
        return True
    if before.closes and (here.spaced or before.text[-1] in _WIDE):
        return not _ends_abbreviation(lexemes, i - 1)
    if here.key in v.COORDINATORS:
        return True
    if content and here.key in v.EITHER_CASE:
        follows = lexemes[i + 1] if i + 1 < len(lexemes) else None
        return follows is not None and (follows.is_content or follows.key in v.AUXILIARIES)
    if content:
        return here.key in v.OPENERS
    # "it was | a film", but "of the film", "not a film", "all the film"
    return subject and before.key in v.AUXILIARIES and here.key in v.DETERMINERS


def _cut_long_phrases(words: list[Word], length: int) -> tuple[Word, ...]:
    """Cuts phrases of over MAX_PHRASE_WORDS words in equal parts; the last word gets the rest of the text."""
    cut: list[Word] = []
    phrase = -1
    starts = [i for i, word in enumerate(words) if i == 0 or word.phrase != words[i - 1].phrase]
    for start, stop in pairwise([*starts, len(words)]):
        parts = -(-(stop - start) // MAX_PHRASE_WORDS)
        for i in range(start, stop):
            phrase += (i - start) * parts // (stop - start) != (i - 1 - start) * parts // (stop - start)
            end = length if i == len(words) - 1 else words[i].end
            cut.append(Word(end, words[i].sentence, words[i].clause, phrase))
    return tuple(cut)
