"""True sentiment of a short film review: a small compositional semantics with exact credit for every word.

A text is read clause by clause. A sentiment word has a valence; the negations and intensifiers before it in
its clause multiply it; a contrast ("A, but B" and "although A, B") halves the clause before the turn and
raises the one after it by half:

    v(S) = sum over sentiment words w in S of  valence_w * product over its modifiers m in S of factor_m

for the words S that are kept. v(all words) is the sentiment of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scar_ray.records import Sample

ADJECTIVES = {
    "superb": 2.0, "brilliant": 2.0, "wonderful": 2.0, "excellent": 2.0, "magnificent": 2.0,
    "charming": 1.5, "clever": 1.5, "moving": 1.5, "gripping": 1.5, "delightful": 1.5, "memorable": 1.5,
    "good": 1.0, "fresh": 1.0, "funny": 1.0, "warm": 1.0, "lively": 1.0, "solid": 1.0,
    "bad": -1.0, "weak": -1.0, "dull": -1.0, "flat": -1.0, "stale": -1.0, "messy": -1.0,
    "boring": -1.5, "clumsy": -1.5, "lifeless": -1.5, "tedious": -1.5, "annoying": -1.5, "forgettable": -1.5,
    "terrible": -2.0, "awful": -2.0, "dreadful": -2.0, "horrible": -2.0, "unbearable": -2.0,
}  # fmt: skip
VERBS = {
    "love": 2.0, "enjoy": 1.5, "admire": 1.5, "like": 1.0,
    "hate": -2.0, "regret": -1.5, "resent": -1.5, "dislike": -1.0,
}  # fmt: skip
PAST_TENSE = {
    "love": "loved", "enjoy": "enjoyed", "admire": "admired", "like": "liked",
    "hate": "hated", "regret": "regretted", "resent": "resented", "dislike": "disliked",
}  # fmt: skip
NEGATIONS = {"not": -0.75, "never": -1.0, "hardly": -0.5}
INTENSIFIERS = {
    "incredibly": 2.0, "extremely": 2.0, "very": 1.5, "really": 1.5, "truly": 1.5,
    "fairly": 0.75, "rather": 0.75, "somewhat": 0.5, "slightly": 0.5,
}  # fmt: skip
CONTRAST_BEFORE, CONTRAST_AFTER = 0.5, 1.5
VALENCES = ADJECTIVES | VERBS | {PAST_TENSE[verb]: valence for verb, valence in VERBS.items()}
MODIFIERS = NEGATIONS | INTENSIFIERS

_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?|[.,;:!?]")
# A contribution integrates a polynomial of degree <= number of modifiers; 16 nodes are exact up to 31.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_MAX_MODIFIERS = 30


@dataclass(frozen=True, slots=True)
class Term:
    """One sentiment word of a text and what modifies it."""

    word: int
    """Index of the word in `Reading.words`."""
    valence: float
    modifiers: tuple[tuple[int, float], ...]
    """(word index, factor) of negations, intensifiers and the word that marks a contrast."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text and its compositional sentiment."""

    text: str
    words: tuple[str, ...]
    """Words and punctuation marks, lower case, in order."""
    spans: tuple[tuple[int, int], ...]
    """Half-open character range of each word in `text`."""
    terms: tuple[Term, ...]

    @property
    def sentiment(self) -> float:
        """v(all words); positive is praise, 0 is neutral."""
        return self.value(range(len(self.words)))

    def value(self, kept: Collection[int]) -> float:
        """v(S) for the word indices `kept`: how the words act on each other is taken from the whole text."""
        total = 0.0
        for term in self.terms:
            if term.word in kept:
                factors = [factor for word, factor in term.modifiers if word in kept]
                total += term.valence * math.prod(factors)
        return total

    def contributions(self, given: Collection[int] = ()) -> NDArray[np.float64]:
        """Exact Shapley value of every word in the game v; sums to `sentiment`, as v(no words) = 0.

        The words `given` are always there: no players, with 0 as their value, and the others' sum to v(all) - v(given).

        Integral of the derivative of the multilinear extension along the diagonal (Owen 1972); by term, for
        the sentiment word w and its modifiers m: phi_w = int_0^1 valence * prod_m (1 + t (factor_m - 1)) dt,
        phi_m = int_0^1 valence * t (factor_m - 1) * prod_{k != m} (1 + t (factor_k - 1)) dt; t is 1 for given words.
        """
        phi = np.zeros(len(self.words))
        t, dt = (_NODES + 1.0) / 2.0, _WEIGHTS / 2.0
        for term in self.terms:
            # Each word is a factor of the term, linear in its presence: absent + slope * presence.
            linear = [(term.word, 0.0, 1.0), *((word, 1.0, factor - 1.0) for word, factor in term.modifiers)]
            factors = [absent + slope * (t**0 if word in given else t) for word, absent, slope in linear]
            for i, (word, _, slope) in enumerate(linear):
                if word not in given:
                    others = np.prod([t**0, *factors[:i], *factors[i + 1 :]], axis=0)
                    phi[word] += term.valence * slope * float(dt @ others)
        return phi


def read(text: str) -> Reading:
    """Reads any text with the semantics above; words outside the lexicon are neutral."""
    found = list(_WORD.finditer(text))
    words = tuple(match.group().lower() for match in found)
    spans = tuple(match.span() for match in found)
    clauses = _clauses(words)
    weights: list[list[tuple[int, float]]] = [[] for _ in clauses]
    for i, clause in enumerate(clauses):
        head = words[clause[0]]
        if head in ("but", "yet") and i > 0:
            weights[i - 1].append((clause[0], CONTRAST_BEFORE))
            weights[i].append((clause[0], CONTRAST_AFTER))
        elif head == "although" and i + 1 < len(clauses):
            weights[i].append((clause[0], CONTRAST_BEFORE))
            weights[i + 1].append((clause[0], CONTRAST_AFTER))
    terms = [term for clause, weight in zip(clauses, weights, strict=True) for term in _terms(words, clause, weight)]
    return Reading(text, words, spans, tuple(terms))


def true_sentiment(samples: Sequence[Sample]) -> list[float]:
    """The sentiment of prompt and response, as a reward: `model.reward.function`, or `eval.gold.function`."""
    return [read(sample.prompt + sample.response).sentiment for sample in samples]


def _clauses(words: tuple[str, ...]) -> list[list[int]]:
    """Word indices of the clauses; punctuation ends a clause, a conjunction begins the next."""
    clauses: list[list[int]] = [[]]
    for i, word in enumerate(words):
        if not word[0].isalpha():
            clauses.append([])
            continue
        if word in ("and", "but", "yet", "although"):
            clauses.append([])
        clauses[-1].append(i)
    return [clause for clause in clauses if clause]


def _terms(words: tuple[str, ...], clause: list[int], weight: list[tuple[int, float]]) -> list[Term]:
    """The sentiment words of one clause; modifiers wait for the next sentiment word and are then used up."""
    terms, waiting = [], list[tuple[int, float]]()
    for i in clause:
        if words[i] in MODIFIERS:
            waiting.append((i, MODIFIERS[words[i]]))
        elif words[i] in VALENCES:
            near = waiting[len(weight) - _MAX_MODIFIERS :]
            terms.append(Term(i, VALENCES[words[i]], (*near, *weight)))
            waiting = []
    return terms
