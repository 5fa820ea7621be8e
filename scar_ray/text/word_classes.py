"""A class for every word of a sentence, one letter each, from closed-class vocabulary, endings and neighbours.

| letter | words                    | letter | words                          |
|--------|--------------------------|--------|--------------------------------|
| A      | auxiliaries, modals      | P      | prepositions                   |
| C      | coordinators             | R      | adverbs, negations, degrees    |
| D      | determiners              | S      | subordinators, relatives       |
| G      | possessive endings       | T      | "to"                           |
| O      | pronouns                 | V      | other verbs                    |
| (      | opening marks            | ,      | closing marks, commas          |
| :      | dashes, colons, others   | X      | everything else, mostly nouns  |
"""

from __future__ import annotations

from collections.abc import Sequence

from scar_ray.text import vocabulary as v

_OPENING = frozenset(["``", "`", "“", "‘", "„", "«", "(", "[", "{", "¿", "¡", "（", "「", "『", "【", "《", "〈"])
_BRACKETS = {"-lrb-": "(", "-lsb-": "(", "-lcb-": "(", "-rrb-": ",", "-rsb-": ",", "-rcb-": ","}
"""How treebanks write brackets."""
_JOINING = frozenset(";:—–-…")
_CLOSING = frozenset(".,!?)]}»”’\"'、，。！？）」』】》〉।؟،؛")
_BY_LIST = (
    ("T", frozenset(["to"])),
    ("C", v.COORDINATORS),
    ("R", v.ADVERBS),
    ("G", v.POSSESSIVES),
    ("A", v.AUXILIARIES),
    ("O", v.PRONOUNS),
    ("S", v.SUBORDINATORS),
    ("D", v.DETERMINERS),
    ("P", v.PREPOSITIONS),
)
_CLASS = {word: letter for letter, words in reversed(_BY_LIST) for word in words}


def key(word: str) -> str:
    """`word` as the vocabulary lists it."""
    plain = word.lower().replace("’", "'")
    return plain if plain in _CLASS else plain.strip("'*_-`~")


def word_classes(words: Sequence[str]) -> str:
    """The classes of the n words of a sentence as n letters. Example: "DXARX," for The film is very good "."."""
    keys = [key(word) for word in words]
    classes = [_closed_class(word, name) for word, name in zip(words, keys, strict=True)]
    for number, i in enumerate(i for i, word in enumerate(words) if word == '"'):
        classes[i] = ",("[number % 2 == 0]
    for i, word in enumerate(words):
        if classes[i] == " ":
            capital = i > 0 and word[:1].isupper()
            classes[i] = "V" if keys[i][:1].isalpha() and not capital and _is_verb(keys, classes, i) else "X"
    return "".join(classes)


def _closed_class(word: str, name: str) -> str:
    """The class that the word has anywhere, or a blank."""
    if word in _OPENING:
        return "("
    if word.lower() in _BRACKETS:
        return _BRACKETS[word.lower()]
    if name in _CLASS:
        return _CLASS[name]
    if word and all(char in _CLOSING for char in word):
        return ","
    if word and all(char in _JOINING or char in _CLOSING for char in word):
        return ":"
    return "R" if name.endswith("ly") and len(name) > 4 else " "


def _is_verb(keys: Sequence[str], classes: Sequence[str], i: int) -> bool:
    """Whether the open-class word i is a verb; the classes before i are known, after it the closed ones."""
    name = keys[i]
    k = i - 1
    while k >= 0 and classes[k] == "R":
        k -= 1
    before, before_key = (classes[k], keys[k]) if k >= 0 else ("", "")
    after = classes[i + 1] if i + 1 < len(keys) else ","
    if before == "T" or before_key in v.MODALS or before_key in v.SUBJECT_PRONOUNS:
        return True
    if before == "A" and (name.endswith(("ed", "ing", "en")) or name in v.VERBS):
        return True
    if before in ("D", "G", "P"):
        return before == "P" and name.endswith("ing") and after in "DPTOS"
    if name in v.VERBS or (name.endswith("ing") and len(name) > 5 and after in "DPTOS"):
        return True
    if name.endswith("ed") and len(name) > 4:
        return before == "X" or after != " "
    return before == "X" and after in "DOTS"
