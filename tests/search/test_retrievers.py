"""What the retrievers find, against the definitions."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.search.dense import Dense, mean_pooled
from scar_ray.search.lexical import Bm25, Ngrams, best_rows, pieces, words
from scar_ray.tasks.catalogue import Catalogue

TEXTS = ("Red running shoes", "Blue shoes, size 9", "Kitchen towels, red", "shoes shoes shoes", "Lamp")
CATALOGUE = Catalogue(tuple("ABCDE"), TEXTS)


def bm25_scores(texts: list[list[str]], query: list[str], k1: float, b: float) -> np.ndarray:
    """sum over query terms of ln(1 + (N - n + 0.5) / (n + 0.5)) * tf / (tf + k1 (1 - b + b * length / mean length))."""
    mean = sum(map(len, texts)) / len(texts)
    scores = np.zeros(len(texts))
    for term in query:
        n = sum(term in text for text in texts)
        idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
        for row, text in enumerate(texts):
            tf = Counter(text)[term]
            scores[row] += idf * tf / (tf + k1 * (1 - b + b * len(text) / mean))
    return scores


@pytest.mark.parametrize(("retriever", "terms"), [(Bm25, words), (Ngrams, pieces)])
@pytest.mark.parametrize("query", ["red shoes", "shoe towel", "shoes shoes lamp", "size 9 blue kitchen"])
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.4, 0.0)])
def test_bm25_ranks_by_its_definition(retriever: type[Bm25], terms, query: str, k1: float, b: float) -> None:
    known = [terms(text) for text in TEXTS]
    scores = bm25_scores(known, [term for term in terms(query) if any(term in text for text in known)], k1, b)
    [rows] = retriever(CATALOGUE, k1=k1, b=b).search([query], 5)
    assert list(rows) == [row for row in np.argsort(-scores, kind="stable") if scores[row] > 0]


def test_only_products_that_share_a_word_are_found() -> None:
    found = Bm25(CATALOGUE).search(["lamp", "shoe", "", "towels red"], 2)
    assert [list(rows) for rows in found] == [[4], [], [], [2, 0]]


def test_pieces_of_words_find_other_forms_of_a_word() -> None:
    assert pieces("Shoe a") == [" sh", "sho", "hoe", "oe ", " sho", "shoe", "hoe ", " a "]
    assert list(Ngrams(CATALOGUE).search(["lamps"], 1)[0]) == [4]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=12), st.integers(1, 6))
def test_the_best_rows_are_those_of_a_stable_sort(scores: list[float], k: int) -> None:
    expected = [row for row in sorted(range(len(scores)), key=lambda row: -scores[row]) if scores[row] > 0][:k]
    assert list(best_rows(np.array(scores), k)) == expected


def test_mean_pooling_leaves_padding_out() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]])
    vector = mean_pooled(hidden, torch.tensor([[1, 1, 0]]))
    assert vector.tolist() == [pytest.approx([0.6, 0.8])]


def test_a_dense_retriever_finds_a_text_by_itself_whatever_is_searched_beside_it(
    reward_folders: dict[str, Path],
) -> None:
    folder = str(reward_folders["bert"])
    dense = Dense(CATALOGUE, model=folder, batch=2)
    found = dense.search(list(TEXTS), 5)
    assert [rows[0] for rows in found] == [0, 1, 2, 3, 4]
    assert all(sorted(rows) == [0, 1, 2, 3, 4] for rows in found)
    assert list(dense.search([TEXTS[2]], 5)[0]) == list(found[2])


@pytest.mark.parametrize(
    ("model", "problem"),
    [("", "is empty; name the embedding model"), ("no/such-model", "=no/such-model: cannot be loaded")],
)
def test_an_embedding_model_that_is_not_there_is_named(model: str, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.reward\.options\.retriever_options\.model ?{problem}"):
        Dense(CATALOGUE, model=model)
