"""A constituency tree of any sentence without a model: `heuristic_tree`.

Word classes (`word_classes`) find the first finite verb; what stands before it is the subject, the rest its verb
phrase. Verb phrases branch to the right, noun phrases take the prepositional phrases that follow them, and commas,
dashes and coordinators cut. A language without these words, code and noise become runs of a few words each, so
every text has a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from scar_ray.games.tree import Tree, halved
from scar_ray.text.word_classes import key, word_classes

MAX_RUN = 4
"""Words of a phrase without inner structure; a longer one is cut into equal parts."""
MAX_WORDS = 64
"""A longer sentence is cut into equal parts first; it bounds the depth of the tree."""
MAX_SPEAKER = 6
"""Words of ", she said" and its like after a clause."""


def heuristic_tree(words: Sequence[str]) -> Tree:
    """The tree over the word numbers 0..n-1 of a sentence of n >= 1 words and marks, in order.

    Example: `((0, 1), (2, (3, 4)), 5)` for The film | is | very good | ".".
    """
    sentence = _Sentence(words)
    cuts = _equal_parts(0, len(words), MAX_WORDS)
    return halved(tuple(_node(sentence.clauses_and_marks(start, stop)) for start, stop in pairwise(cuts)))


def _equal_parts(start: int, stop: int, longest: int) -> list[int]:
    """Where to cut start..stop, both ends included, into the fewest equal parts of at most `longest`."""
    parts = -(-(stop - start) // longest)
    return [start + (stop - start) * part // parts for part in range(parts + 1)]


def _node(children: Sequence[Tree]) -> Tree:
    """The children under one node; a node that would be empty or unary is left out."""
    children = tuple(child for child in children if child != ())
    return children[0] if len(children) == 1 else children


def _children(tree: Tree) -> tuple[Tree, ...]:
    return tree if isinstance(tree, tuple) else (tree,)


class _Sentence:
    """Recursive descent over a sentence. Methods take a range start..stop of its words and give subtrees of it."""

    def __init__(self, words: Sequence[str]) -> None:
        self._keys = [key(word) for word in words]
        self._classes = word_classes(words)

    def clauses_and_marks(self, start: int, stop: int) -> list[Tree]:
        """Children: the marks around, and within them what commas and dashes cut."""
        first, last = start, stop
        while first < last and self._classes[first] in ",:(":
            first += 1
        while first < last and self._classes[last - 1] in ",:(":
            last -= 1
        return [*range(start, first), *self._segments(first, last), *range(last, stop)]

    def _segments(self, start: int, stop: int) -> list[Tree]:
        """Children of a range that neither starts nor ends with a mark."""
        for mark in ":,":
            marks = [k for k in range(start, stop) if self._classes[k] == mark]
            if not marks:
                continue
            if mark == ":" or (self._finite(start, marks[0]) is None and self._classes[start] not in "PSRCT"):
                return self._split(start, stop, marks)
            comma = marks[0]
            if self._classes[start] in "PSRCT":  # an introduction
                return [_node(self._segments(start, comma)), comma, *self._segments(comma + 1, stop)]
            return self._continued(start, comma, stop)
        return self._clause(start, stop)

    def _split(self, start: int, stop: int, marks: Sequence[int]) -> list[Tree]:
        """Children: the parts between the marks, flat, or a subject with an apposition and its verb phrase."""
        if self._classes[marks[0]] == ",":
            for mark in marks[1:]:
                if self._classes[mark + 1] in "AVR" and self._finite(mark + 1, stop) is not None:
                    apposition = _node(self._segments(marks[0] + 1, mark))
                    subject = _node([_node(self._segments(start, marks[0])), marks[0], apposition, mark])
                    return [subject, _node(self._verb_phrase(mark + 1, stop))]
        children: list[Tree] = []
        for mark in [*marks, stop]:
            children.append(_node(self._segments(start, mark)))
            children += [mark] if mark < stop else []
            start = mark + 1
        return children

    def _continued(self, start: int, comma: int, stop: int) -> list[Tree]:
        """Children of a clause, a comma and more: another clause, or something that the verb phrase takes in."""
        left, after = self._clause(start, comma), comma + 1
        another = self._finite(after, stop) is not None
        if another and self._classes[after] == "C":
            return [_node(left), comma, after, _node(self._segments(after + 1, stop))]
        rest = self._segments(after, stop)
        if another and self._classes[after] in "OXD" and stop - after <= MAX_SPEAKER:  # ", she said"
            return [_node(left), comma, *rest]
        return [*left[:-1], _node([*_children(left[-1]), comma, _node(rest)])]

    def _finite(self, start: int, stop: int) -> int | None:
        """The first verb that can be the main verb of a clause."""
        for k in range(start, stop):
            if self._classes[k] == "A":
                return k
            infinitive = k > start and self._classes[k - 1] in "TP"
            if self._classes[k] == "V" and not infinitive and not self._keys[k].endswith("ing"):
                return k
        return None

    def _clause(self, start: int, stop: int) -> list[Tree]:
        """Children of a clause without commas: a conjunction, a subject, a verb phrase."""
        classes = self._classes
        if stop - start <= 1:
            return list(range(start, stop))
        if classes[start] == "C":
            return [start, *self._clause(start + 1, stop)]
        if classes[start] == "S":
            return [start, _node(self._clause(start + 1, stop))]
        if classes[start] in "AV":
            return self._verb_phrase(start, stop)
        verb = self._finite(start, stop)
        if verb is None:
            return list(_children(self._phrase(start, stop)))
        end = verb
        while end > start and classes[end - 1] == "R":
            end -= 1
        relative = next((k for k in range(start + 1, end) if classes[k] == "S"), None)
        if relative is None:
            return [
                _node([self._phrase(start, end)]) if end > start else (),
                *range(end, verb),
                self._verbs(verb, stop),
            ]
        main = self._finite(verb + (2 if classes[verb + 1 : verb + 2] == "V" else 1), stop)
        if main is None or classes[main - 1] in "AR":
            return [self._phrase(start, relative), _node(self._clause(relative, stop))]
        subject = _node([self._phrase(start, relative), _node(self._clause(relative, main))])
        return [subject, self._verbs(main, stop)]

    def _verbs(self, start: int, stop: int) -> Tree:
        return _node(self._verb_phrase(start, stop))

    def _verb_phrase(self, start: int, stop: int) -> list[Tree]:
        """Children of a verb phrase; its first word is the verb."""
        classes = self._classes
        for k in range(start + 1, stop - 1):
            follows = classes[k + 1 : stop].lstrip("R")[:1]
            if classes[k] == "C" and follows in ("A", "V"):
                return [self._verbs(start, k), k, self._verbs(k + 1, stop)]
        k = start + 1
        while k < stop and classes[k] == "R":
            k += 1
        if k < stop and classes[k] in "AV":
            return [*range(start, k), self._verbs(k, stop)]
        return [*range(start, min(start + 1, stop)), *self._complements(start + 1, stop)]

    def _complements(self, start: int, stop: int) -> list[Tree]:
        """What follows a verb: objects and prepositional phrases, flat; a clause or an infinitive takes the rest."""
        classes = self._classes
        children: list[Tree] = []
        while start < stop:
            if classes[start] == "C" or (classes[start] == "R" and classes[start + 1 : stop][:1] != "X"):
                children.append(start)
                start += 1
                continue
            end = self._complement_end(start, stop)
            to_verb = classes[start] == "T" and classes[start + 1 : stop][:1] in ("V", "A", "R")
            clause = classes[start] in "OXDR" and self._finite(start, stop) == end
            if to_verb or clause or classes[start] in "SAV":
                return [*children, self._phrase(start, stop) if to_verb else _node(self._clause(start, stop))]
            children.append(self._phrase(start, end))
            start = end
        return children

    def _complement_end(self, start: int, stop: int) -> int:
        """Where the object or prepositional phrase that starts at `start` ends."""
        classes = self._classes
        for k in range(start + (2 if classes[start] in "PT" else 1), stop):
            before = classes[k - 1]
            if classes[k] in "SAVT" or (classes[k] == "P" and self._keys[k] != "of" and before != "P"):
                return k
            if (classes[k] == "O" and before not in "PC") or (classes[k] == "D" and before not in "PCDR"):
                return k
        return stop

    def _phrase(self, start: int, stop: int) -> Tree:
        """A noun phrase with what follows it, or a prepositional phrase."""
        classes = self._classes
        if stop - start == 1:
            return start
        if classes[start] in "PT":
            if classes[start + 1] in "VA" or (classes[start] == "P" and self._finite(start + 1, stop) is not None):
                return _node([start, _node(self._clause(start + 1, stop))])
            return _node([start, self._phrase(start + 1, stop)])
        if classes[start] in "SC":
            return _node([start, self._phrase(start + 1, stop)])
        for k in range(start + 1, stop):
            last = k + 1 == stop
            if classes[k] == "S" or (classes[k] == "V" and classes[k - 1] == "X"):
                return _node([self._phrase(start, k), _node(self._clause(k, stop))])
            if classes[k] in "PT" and not last:
                return _node([self._phrase(start, k), self._phrase(k, stop)])
            if classes[k] == "C" and not last:
                return _node([self._run(start, k), k, self._phrase(k + 1, stop)])
        return self._run(start, stop)

    def _run(self, start: int, stop: int) -> Tree:
        """Words without inner structure, but for a possessor: `((0, 1, 2), 3)` for the union | 's | lawyers."""
        possessive = self._classes.rfind("G", start + 1, stop - 1)
        if possessive > 0:
            return _node([self._run(start, possessive + 1), *range(possessive + 1, stop)])
        cuts = _equal_parts(start, stop, MAX_RUN)
        return _node([_node(list(range(a, b))) for a, b in pairwise(cuts)])
