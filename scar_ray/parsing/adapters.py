"""Pretrained parsers of other packages, where the user has them: benepar and stanza.

Nothing is downloaded: the packages and their English models are installed by the user.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from scar_ray.games.tree import Tree
from scar_ray.parsing.chart import Span, tree_of

BENEPAR_MODEL = "benepar_en3"


class BeneparBracketer:
    """The Berkeley neural parser (Kitaev, Cao and Klein 2019)."""

    def __init__(self) -> None:
        """ValueError when the package or its model `benepar_en3` is not installed."""
        self._benepar = _package("benepar")
        hint = f"python -m benepar.download {BENEPAR_MODEL}"
        self._parser = _loaded("benepar", lambda: self._benepar.Parser(BENEPAR_MODEL), hint)

    def bracket(self, words: Sequence[str]) -> Tree:
        """The tree over the words; ValueError when benepar fails on them."""
        return _tree("benepar", words, lambda: self._parser.parse(self._benepar.InputSentence(words=list(words))))


class StanzaBracketer:
    """Stanza's constituency parser (Bauer, Bui, Thai and Manning 2023), for English."""

    def __init__(self) -> None:
        """ValueError when the package or its English models are not installed."""
        stanza = _package("stanza")
        self._pipeline = _loaded(
            "stanza",
            lambda: stanza.Pipeline(
                lang="en",
                processors="tokenize,pos,constituency",
                tokenize_pretokenized=True,
                download_method=None,
                verbose=False,
            ),
            "python -c \"import stanza; stanza.download('en')\"",
        )

    def bracket(self, words: Sequence[str]) -> Tree:
        """The tree over the words; ValueError when stanza fails on them."""
        return _tree("stanza", words, lambda: self._pipeline([list(words)]).sentences[0].constituency)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"parser: {name} cannot be imported ({error}); run `pip install {name}`") from error


def _loaded(name: str, load: Callable[[], Any], hint: str) -> Any:
    try:
        return load()
    except Exception as error:  # each package has exceptions of its own for a model that is not there
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"parser: {name} cannot load its model ({reason}); run `{hint}`") from error


def _tree(name: str, words: Sequence[str], parse: Callable[[], Any]) -> Tree:
    """The package's tree of the words, which it may have refused in any way of its own."""
    try:
        found = parse()
    except Exception as error:
        raise ValueError(f"parser: {name} failed on {len(words)} words: {error}") from error
    spans: list[Span] = []
    n = _collect(found, 0, spans)
    if n != len(words):
        raise ValueError(f"parser: {name} gave {n} words for {len(words)}")
    return tree_of(spans, n)


def _collect(node: Any, start: int, spans: list[Span]) -> int:
    """Adds the spans of a tree from word `start` on and returns its end.

    Leaves are strings (benepar's nltk trees are lists of their children) or nodes without children (stanza's).
    """
    children = getattr(node, "children", node)
    if isinstance(node, str) or not children:
        return start + 1
    end = start
    for child in children:
        end = _collect(child, end, spans)
    spans.append((start, end))
    return end
