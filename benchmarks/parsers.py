"""Unlabelled bracket F1 of constituency trees against a treebank's, without any model and with the parsers there are.

    python benchmarks/parsers.py --treebank treebank.zip

Convention: the treebank's own words, traces removed, punctuation kept; the brackets of a sentence are its distinct
constituents of two or more words, the whole sentence included; F1 is the mean over sentences. "No marks" is the same
with punctuation taken out of both trees. Sentences of one word are left out. The treebank is NLTK's sample of the Penn
Treebank (LDC, for non-commercial use); the last 400 trees are held out, so that parsers trained on the others can be
put beside the heuristics.
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

from nltk.tree import Tree as TreebankTree
from shap.maskers._text import partition_tree

from scar_ray.games.tree import Tree, balanced
from scar_ray.parsing import ParserName, load_bracketer
from scar_ray.text.heuristic import heuristic_tree

HELD_OUT = 400
RESULTS = Path(__file__).parent / "results" / "parsers.json"
MARKS = frozenset([".", ",", ":", "``", "''", "-LRB-", "-RRB-"])
"""Tags of punctuation."""

Span = tuple[int, int]
Parser = Callable[[Sequence[str]], Tree]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the treebank."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[Span, ...]
    """Half-open word ranges of its constituents."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--treebank", required=True, type=Path, help="NLTK's treebank.zip")
    sentences = read_treebank(parser.parse_args().treebank)[-HELD_OUT:]
    rows = [measured(name, parse, sentences) for name, parse in {**PARSERS, **trained_parsers()}.items()]
    print(f"{'tree':<20}{'F1':>8}{'<= 40':>8}{'no marks':>10}{'ms':>8}")
    for row in rows:
        print(f"{row['tree']:<20}{row['f1']:>8}{row['f1_40']:>8}{row['f1_no_marks']:>10}{row['ms']:>8}")
    RESULTS.write_text(json.dumps({"held_out_sentences": len(sentences), "rows": rows}, indent=2) + "\n")


def read_treebank(path: Path) -> list[Sentence]:
    """The sentences of two or more words of a treebank.zip, in its order."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".mrg"))
        text = "".join(archive.read(name).decode() for name in names)
    # Every tree has a bracket without a label around it.
    sentences = [sentence_of(tree) for tree in TreebankTree.fromstring(f"(ALL {text})")]
    return [sentence for sentence in sentences if len(sentence.words) > 1]


def sentence_of(tree: TreebankTree) -> Sentence:
    """The words and constituents of a tree without its traces."""
    words: list[tuple[str, str]] = []
    spans: list[Span] = []

    def visit(node: TreebankTree) -> None:
        start = len(words)
        if isinstance(node[0], str):
            words.extend([(node[0], node.label())] if node.label() != "-NONE-" else [])
            return
        for child in node:
            visit(child)
        spans.append((start, len(words)))

    visit(tree)
    texts, tags = zip(*words, strict=True)
    return Sentence(texts, tags, tuple(spans))


def tree_spans(tree: Tree) -> list[Span]:
    """The word ranges of a tree's inner nodes."""
    spans: list[Span] = []

    def visit(node: Tree) -> Span:
        if isinstance(node, int):
            return node, node + 1
        children = [visit(child) for child in node]
        spans.append((children[0][0], children[-1][1]))
        return spans[-1]

    visit(tree)
    return spans


def sentence_f1(gold: Iterable[Span], got: Iterable[Span]) -> float:
    """F1 of the distinct ranges of two or more words; 1 where there are none on either side."""
    wanted, found = ({(a, b) for a, b in spans if b - a > 1} for spans in (gold, got))
    if not wanted and not found:
        return 1.0
    return 2 * len(wanted & found) / (len(wanted) + len(found))


def without_marks(spans: Iterable[Span], tags: Sequence[str]) -> list[Span]:
    """The ranges in the numbering of the words that are no punctuation."""
    before = [0]
    for tag in tags:
        before.append(before[-1] + (tag not in MARKS))
    return [(before[a], before[b]) for a, b in spans]


def measured(name: str, parse: Parser, sentences: Sequence[Sentence]) -> dict[str, object]:
    """One row of the table."""
    start = time.perf_counter()
    found = [tree_spans(parse(sentence.words)) for sentence in sentences]
    seconds = time.perf_counter() - start
    scores = [sentence_f1(s.spans, got) for s, got in zip(sentences, found, strict=True)]
    bare = [
        sentence_f1(without_marks(s.spans, s.tags), without_marks(got, s.tags))
        for s, got in zip(sentences, found, strict=True)
    ]
    return {
        "tree": name,
        "f1": round(fmean(scores), 3),
        "f1_40": round(fmean(f1 for f1, s in zip(scores, sentences, strict=True) if len(s.words) <= 40), 3),
        "f1_no_marks": round(fmean(bare), 3),
        "ms": round(1000 * seconds / len(sentences), 2),
    }


def right_branching(words: Sequence[str]) -> Tree:
    tree: Tree = len(words) - 1
    for number in reversed(range(len(words) - 1)):
        tree = (number, tree)
    return tree


def shap_heuristic(words: Sequence[str]) -> Tree:
    """The tree of shap's text masker."""
    subtrees: list[Tree] = list(range(len(words)))
    brackets = {"-LRB-": "(", "-RRB-": ")"}
    for left, right, _, _ in partition_tree([brackets.get(word, word) for word in words], []):
        subtrees.append((subtrees[int(left)], subtrees[int(right)]))
    return subtrees[-1]


def trained_parsers() -> dict[str, Parser]:
    """The trained and pretrained parsers that are on this machine; the others are named."""
    found: dict[str, Parser] = {}
    for name in get_args(ParserName):
        try:
            bracketer = load_bracketer(name)
        except ValueError as error:
            print(f"left out: {error}")
            continue
        if bracketer is not None:
            found[name] = bracketer.bracket
    return found


PARSERS: dict[str, Parser] = {
    "balanced": lambda words: balanced(len(words)),
    "right-branching": right_branching,
    "shap": shap_heuristic,
    "heuristic": heuristic_tree,
}


if __name__ == "__main__":
    main()
