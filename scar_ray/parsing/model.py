"""The trained parser: a bidirectional LSTM scores every span of a sentence, CKY finds the best tree. numpy only.

After Stern, Andreas and Klein (2017), "A minimal span-based neural constituency parser", with the local training
of Teng and Zhang (2018), "Two local models for neural constituent parsing": the score of a span is the log odds
that it is a constituent, so no grammar, tagger or pretrained model is needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from scar_ray.games.tree import Tree
from scar_ray.parsing.chart import best_spans, tree_of
from scar_ray.parsing.words import FEATURES, Vocabulary, treebank_tokens

MAX_TOKENS = 160
"""Longest sentence that is parsed; its chart takes a fraction of a second. Longer ones are noise or lists."""
LAYERS = 2

Array = NDArray[np.float32]


class SpanParser:
    """A `Bracketer` from weights that `scar_ray.parsing.training` made."""

    def __init__(self, weights: dict[str, Array], vocabulary: Vocabulary) -> None:
        """`weights` are named as in `training.Network`; `vocabulary` numbers the features of words."""
        self.weights = weights
        self.vocabulary = vocabulary

    def bracket(self, words: Sequence[str]) -> Tree:
        """The tree over the words of one sentence. ValueError for more than MAX_TOKENS of the treebank's tokens.

        A constituent that begins or ends within a word, at the 's of "it's", is left out.
        """
        tokens, sources = treebank_tokens(words)
        if len(tokens) > MAX_TOKENS:
            raise ValueError(f"parser: a sentence has {len(tokens)} tokens; the trained parser takes {MAX_TOKENS}")
        cuts = [i == 0 or sources[i] != sources[i - 1] for i in range(len(tokens))] + [True]
        word_at = [*sources, len(words)]
        spans = best_spans(self.span_scores(tokens))
        return tree_of(((word_at[i], word_at[j]) for i, j in spans if cuts[i] and cuts[j]), len(words))

    def span_scores(self, tokens: Sequence[str]) -> Array:
        """log P(constituent) - log P(not) of the span from token i up to token j, (n + 1, n + 1); 0 for j < i + 2."""
        hidden = self._encode(self.vocabulary.numbers(tokens))
        width = hidden.shape[1] // 2
        zero = np.zeros((1, width), dtype=np.float32)
        forward = np.concatenate([zero, hidden[:, :width]])  # what is left of each of the n + 1 gaps
        backward = np.concatenate([hidden[:, width:], zero])  # what is right of it
        gaps = np.concatenate([forward, -backward], axis=1) @ self.weights["span.weight"].T
        scores = np.zeros((len(gaps), len(gaps)), dtype=np.float32)
        start, end = np.triu_indices(len(gaps), 2)
        spans = np.maximum(gaps[end] - gaps[start] + self.weights["span.bias"], 0)
        labels = spans @ self.weights["label.weight"].T + self.weights["label.bias"]
        scores[start, end] = np.logaddexp.reduce(labels[:, 1:], axis=1) - labels[:, 0]
        return scores

    def _encode(self, numbers: NDArray[np.int64]) -> Array:
        """Hidden states (n, 2 * width) of both directions of the last LSTM layer."""
        states: Array = np.concatenate(
            [self.weights[f"embeddings.{k}.weight"][numbers[:, k]] for k in range(len(FEATURES))], axis=1
        )
        for layer in range(LAYERS):
            states = np.concatenate(
                [
                    self._lstm(states, f"l{layer}"),
                    self._lstm(states[::-1], f"l{layer}_reverse")[::-1],
                ],
                axis=1,
            )
        return states

    def _lstm(self, inputs: Array, name: str) -> Array:
        """One direction of one layer, in torch's convention: gates input, forget, cell, output."""
        recurrent = self.weights[f"lstm.weight_hh_{name}"].T
        gates = inputs @ self.weights[f"lstm.weight_ih_{name}"].T
        gates += self.weights[f"lstm.bias_ih_{name}"] + self.weights[f"lstm.bias_hh_{name}"]
        width = len(recurrent)
        hidden = np.zeros((len(inputs), width), dtype=np.float32)
        state = cell = np.zeros(width, dtype=np.float32)
        for t, row in enumerate(gates):
            row = row + state @ recurrent
            sigmoid = 0.5 * (np.tanh(0.5 * row) + 1)
            cell = sigmoid[width : 2 * width] * cell + sigmoid[:width] * np.tanh(row[2 * width : 3 * width])
            state = sigmoid[3 * width :] * np.tanh(cell)
            hidden[t] = state
        return hidden

    def save(self, folder: Path, about: dict[str, object]) -> None:
        """Writes `weights.safetensors` and `parser.json` (vocabulary and `about`) to the existing `folder`."""
        save_file({name: np.ascontiguousarray(weight) for name, weight in self.weights.items()}, folder / _WEIGHTS)
        (folder / _ABOUT).write_text(json.dumps({"about": about, "vocabulary": self.vocabulary.slots}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> SpanParser:
        """The parser that `save` wrote. ValueError when there is none."""
        if not (folder / _WEIGHTS).exists() or not (folder / _ABOUT).exists():
            raise ValueError(f"parser: no trained parser in {folder}; run `scar-ray parser build` first")
        vocabulary = Vocabulary(json.loads((folder / _ABOUT).read_text())["vocabulary"])
        return cls(load_file(folder / _WEIGHTS), vocabulary)


_WEIGHTS, _ABOUT = "weights.safetensors", "parser.json"
