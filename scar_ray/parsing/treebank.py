"""Trees of the Penn Treebank sample that NLTK distributes: where they are and what they say."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LICENCE = "Penn Treebank sample, (c) LDC 1995, for non-commercial use only: do not share it or a parser trained from it"
HELD_OUT = 400
"""The last trees of the corpus are for evaluation; the ones before them are for training."""

_Node = list["str | _Node"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One tree of the treebank, without traces and empty nodes."""

    words: tuple[str, ...]
    """Words and marks as the treebank writes them."""
    tags: tuple[str, ...]
    """Part of speech of each word."""
    spans: dict[tuple[int, int], str]
    """(start, end) in words, end exclusive, of each constituent of at least two words -> its categories from the
    top down, such as "S+VP" where nodes have a single child; grammatical functions are removed."""


def find_treebank(path: Path | None = None) -> Path:
    """The treebank's zip file or folder: `path`, else where NLTK's downloader puts it.

    ValueError when it is not there.
    """
    home = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    home += [Path.home() / "nltk_data", Path(sys.prefix) / "nltk_data", Path(sys.prefix) / "share/nltk_data"]
    home += [Path("/usr/share/nltk_data"), Path("/usr/local/share/nltk_data"), Path("/usr/lib/nltk_data")]
    names = ("corpora/treebank.zip", "corpora/treebank", "treebank.zip")
    for found in [path] if path is not None else [folder / name for folder in home for name in names]:
        if found.exists():
            return found
    raise ValueError(
        f"treebank: {'not in the folders of NLTK' if path is None else f'{path} does not exist'}; get it with "
        "`pip install nltk && python -m nltk.downloader treebank`, or name the zip file with --treebank PATH"
    )


def read_treebank(path: Path) -> list[Sentence]:
    """All sentences of the zip file or folder `path`, in the order of its wsj_*.mrg files.

    ValueError when it holds no such file or a file's brackets do not match.
    """
    sentences = [
        sentence for name, text in _files(path) for tree in _brackets(name, text) if (sentence := _sentence(tree)).words
    ]
    if not sentences:
        raise ValueError(f"treebank: {path} holds no trees (wsj_*.mrg); give NLTK's treebank.zip or its folder")
    return sentences


def _files(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        for file in sorted(path.rglob("wsj_*.mrg")):
            yield file.name, file.read_text(encoding="utf-8")
        return
    if not zipfile.is_zipfile(path):
        raise ValueError(f"treebank: {path} is neither a zip file nor a folder; give NLTK's treebank.zip")
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if re.fullmatch(r"(?:.*/)?wsj_\w+\.mrg", name):
                yield name, archive.read(name).decode("utf-8")


def _brackets(name: str, text: str) -> Iterator[_Node]:
    """The bracketed expressions of a file: `(S (NP (PRP I)))` is `["S", ["NP", ["PRP", "I"]]]`."""
    open_nodes: list[_Node] = []
    for match in re.finditer(r"[()]|[^\s()]+", text):
        if match[0] == "(":
            open_nodes.append([])
        elif not open_nodes:
            raise ValueError(f"treebank: {name}: brackets do not match at character {match.start()}; download it again")
        elif match[0] == ")":
            node = open_nodes.pop()
            if open_nodes:
                open_nodes[-1].append(node)
            else:
                yield node
        else:
            open_nodes[-1].append(match[0])
    if open_nodes:
        raise ValueError(f"treebank: {name}: brackets do not match at its end; download it again")


def _sentence(tree: _Node) -> Sentence:
    words: list[str] = []
    tags: list[str] = []
    spans: list[tuple[int, int, str]] = []  # parents before their children

    def walk(node: _Node) -> None:
        label = node[0] if node and isinstance(node[0], str) else ""
        if len(node) == 2 and isinstance(node[1], str):
            if label != "-NONE-":
                words.append(node[1])
                tags.append(label)
            return
        start, place = len(words), len(spans)
        for child in node:
            if not isinstance(child, str):
                walk(child)
        if label and len(words) - start >= 2:
            spans.insert(place, (start, len(words), re.split(r"[-=|]", label)[0]))

    walk(tree)
    joined: dict[tuple[int, int], str] = {}
    for start, end, label in spans:
        above = joined.get((start, end))
        joined[start, end] = label if above is None else f"{above}+{label}"
    return Sentence(tuple(words), tuple(tags), joined)
