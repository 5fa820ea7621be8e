"""How well a parser brackets sentences whose trees are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scar_ray.parsing.chart import spans_of
from scar_ray.parsing.treebank import Sentence
from scar_ray.text.heuristic import heuristic_tree
from scar_ray.text.parse import Bracketer


@dataclass(frozen=True, slots=True)
class BracketScore:
    """Unlabelled brackets: distinct constituents of at least two tokens, punctuation kept, traces removed."""

    sentences: int
    """Sentences of at least two tokens."""
    failures: int
    """Those that the parser refused; the heuristic's brackets are counted for them."""
    f1: float
    """Mean of the sentences' F1, the whole sentence counted as a bracket; 0 to 1."""
    f1_inner: float
    """F1 of all brackets of all sentences together, without the whole sentences, which every tree has; 0 to 1."""


def bracket_score(bracketer: Bracketer, sentences: Sequence[Sentence], max_words: int | None = None) -> BracketScore:
    """The score on the sentences of 2..max_words words, at least one; the parser sees words only, no tags."""
    chosen = [s for s in sentences if 2 <= len(s.words) <= (max_words or len(s.words))]
    failures = right = brackets = 0
    f1 = []
    for sentence in chosen:
        whole = {(0, len(sentence.words))}
        try:
            tree = bracketer.bracket(sentence.words)
        except ValueError:
            tree = heuristic_tree(sentence.words)
            failures += 1
        found, wanted = spans_of(tree) | whole, set(sentence.spans) | whole
        f1.append(2 * len(found & wanted) / (len(found) + len(wanted)))
        right += len(found & wanted) - 1
        brackets += len(found) + len(wanted) - 2
    return BracketScore(len(chosen), failures, fmean(f1), 2 * right / max(brackets, 1))
