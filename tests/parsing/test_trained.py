"""The trained parser: what it learns, that it is the same each time, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_treebank import BRIEF, QUICK

from scar_ray.parsing import load_bracketer
from scar_ray.parsing import parser_folder as parser_folder_of_user
from scar_ray.parsing.evaluate import bracket_score
from scar_ray.parsing.model import MAX_TOKENS, SpanParser
from scar_ray.parsing.training import Network, Recipe, train
from scar_ray.parsing.treebank import Sentence, read_treebank
from scar_ray.text.heuristic import heuristic_tree
from scar_ray.text.parse import parse

TREEBANK = Path(__file__).resolve().parents[3] / "shared/data/treebank.zip"


class Heuristic:
    def bracket(self, words):
        return heuristic_tree(words)


class Gives:
    def __init__(self, tree):
        self.tree = tree

    def bracket(self, words):
        return self.tree


class Refuses:
    def bracket(self, words):
        raise ValueError("no")


def test_a_small_grammar_is_learned(parser, sentences):
    assert bracket_score(parser, sentences[40:]).f1_inner > 0.95
    words = ["the", "dog", "sees", "the", "old", "cat", "of", "the", "garden", "."]
    assert parser.bracket(words) == ((0, 1), (2, ((3, 4, 5), (6, (7, 8)))), 9)


def test_the_seed_decides_the_weights_and_the_random_state_outside_is_left_alone(sentences):
    lines, weights = [], []
    state = torch.get_rng_state()
    for seed in (0, 0, 1):
        trained = train(sentences[:40], replace(BRIEF, seed=seed), lines.append)
        weights.append({name: weight.tobytes() for name, weight in trained.weights.items()})
        torch.rand(1)
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    torch.set_rng_state(state)
    train(sentences[:8], BRIEF, lines.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(lines) == 4
    assert lines[0].startswith("epoch 1/1: loss ")


def test_numpy_scores_spans_as_the_trained_network_does(parser, sentences):
    network = Network(QUICK, parser.vocabulary, labels=len(parser.weights["label.bias"]), tags=1)
    weights = {name: torch.from_numpy(weight) for name, weight in parser.weights.items()}
    network.load_state_dict(weights, strict=False)
    network.eval()
    for sentence in sentences[40:45]:
        n = len(sentence.words)
        start, end = np.triu_indices(n + 1, 2)
        with torch.no_grad():
            states = network.encode(torch.from_numpy(parser.vocabulary.numbers(sentence.words))[None], [n])
            logits = network.labels(states, torch.from_numpy(start), torch.from_numpy(end))
            probability = 1 - logits.softmax(dim=-1)[:, 0]
        scores = parser.span_scores(sentence.words)[start, end]
        assert np.allclose(1 / (1 + np.exp(-scores)), probability.numpy(), atol=1e-5)


def test_a_saved_parser_gives_the_same_scores(parser, parser_folder, sentences):
    loaded = load_bracketer("treebank", parser_folder)
    assert isinstance(loaded, SpanParser)
    words = sentences[50].words
    assert np.array_equal(loaded.span_scores(words), parser.span_scores(words))


def test_words_with_clitics_stay_whole(parser):
    tree = parser.bracket(["it's", "the", "dog's", "garden"])
    assert tree_leaves(tree) == [0, 1, 2, 3]


def test_one_word_is_its_own_tree(parser):
    assert parser.bracket(["Yes"]) == 0


def test_a_sentence_that_is_too_long_falls_back_to_the_heuristic_and_is_counted(parser):
    words = ["dog"] * (MAX_TOKENS + 1)
    with pytest.raises(ValueError, match="161 tokens; the trained parser takes 160"):
        parser.bracket(words)
    found = parse(f"the dog sees the cat. {' '.join(words)}", parser)
    assert found.fallbacks == 1
    assert parse("the dog sees the cat.", parser).fallbacks == 0


def tree_leaves(tree):
    return [tree] if isinstance(tree, int) else [leaf for child in tree for leaf in tree_leaves(child)]


def test_bracket_scores_by_hand():
    three = Sentence(("a", "b", "c"), ("X",) * 3, {(0, 3): "S", (1, 3): "NP"})
    one = Sentence(("a",), ("X",), {})
    right = bracket_score(Gives((0, (1, 2))), [three, one])
    assert (right.sentences, right.failures, right.f1, right.f1_inner) == (1, 0, 1.0, 1.0)
    wrong = bracket_score(Gives(((0, 1), 2)), [three])
    assert (wrong.f1, wrong.f1_inner) == (0.5, 0.0)
    flat = bracket_score(Gives((0, 1, 2)), [three, one])
    assert flat.f1 == pytest.approx(2 / 3)
    assert flat.f1_inner == 0.0


def test_sentences_that_a_parser_refuses_are_counted_and_scored_as_the_heuristic(sentences):
    refused = bracket_score(Refuses(), sentences[:5])
    assert refused.failures == 5
    assert refused.f1 == bracket_score(Heuristic(), sentences[:5]).f1


@pytest.mark.skipif(not TREEBANK.exists(), reason="needs ../shared/data/treebank.zip, which is not here")
def test_600_short_sentences_of_the_real_treebank_teach_half_of_the_brackets():
    sentences = [s for s in read_treebank(TREEBANK) if 2 <= len(s.words) <= 20]
    parser = train(sentences[:600], Recipe(epochs=6, batch=16, hidden=48), log=lambda line: None)
    assert bracket_score(parser, sentences[-60:]).f1 > 0.5  # a balanced tree: 0.2


@pytest.mark.skipif(not TREEBANK.exists(), reason="needs ../shared/data/treebank.zip, which is not here")
def test_the_built_parser_brackets_held_out_sentences_well():
    folder = parser_folder_of_user()
    if not (folder / "parser.json").exists():
        pytest.skip(f"needs the parser in {folder}; `scar-ray parser build` trains it")
    assert bracket_score(load_bracketer("treebank"), read_treebank(TREEBANK)[-60:]).f1 > 0.78
