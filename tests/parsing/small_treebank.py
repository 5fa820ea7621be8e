"""A treebank of our own: sentences of a small grammar, in the files and notation of NLTK's."""

import zipfile
from dataclasses import replace
from pathlib import Path
from random import Random

from scar_ray.parsing.training import Recipe

NOUNS = ["dog", "cat", "child", "teacher", "bird", "garden"]
VERBS = ["sees", "likes", "finds", "follows"]
ADJECTIVES = ["small", "old", "green"]

QUICK = Recipe(epochs=12, batch=4, lr=0.02, widths=(12, 4, 4, 4, 4), hidden=24, dropout=0.0)
"""Learns the small grammar from 40 sentences."""
BRIEF = replace(QUICK, epochs=1)
"""Learns little."""


def noun_phrase(rng: Random, depth: int) -> str:
    adjective = f"(JJ {rng.choice(ADJECTIVES)}) " if rng.random() < 0.5 else ""
    noun = f"(NP (DT the) {adjective}(NN {rng.choice(NOUNS)}))"
    return f"(NP {noun} (PP (IN of) {noun_phrase(rng, depth + 1)}))" if depth < 1 and rng.random() < 0.3 else noun


def sentence(rng: Random) -> str:
    subject, object_ = noun_phrase(rng, 0), noun_phrase(rng, 0)
    return f"( (S (NP-SBJ-1 {subject}) (VP (VBZ {rng.choice(VERBS)}) {object_} (NP (-NONE- *T*-1))) (. .)) )"


def write_treebank(path: Path, sentences: int) -> Path:
    rng = Random(0)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("wsj_0001", "wsj_0002"):
            trees = [sentence(rng) for _ in range(sentences // 2)]
            archive.writestr(f"treebank/combined/{name}.mrg", "\n\n".join(trees))
        archive.writestr("treebank/combined/README", "(not a tree")
    return path
