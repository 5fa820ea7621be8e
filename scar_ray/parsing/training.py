"""Trains the span parser from treebank sentences, on the CPU, in torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scar_ray.parsing.model import LAYERS, SpanParser
from scar_ray.parsing.treebank import Sentence
from scar_ray.parsing.words import FEATURES, Vocabulary

_RARE = 50
"""Categories of fewer constituents share one label."""
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything, besides the sentences, that decides what the parser becomes."""

    epochs: int = 9
    batch: int = 32
    """Sentences of an optimizer step."""
    lr: float = 3e-3
    """Adam's peak learning rate; 100 steps of warm-up, at most a fifth of all, then linear to 0."""
    widths: tuple[int, ...] = (96, 40, 24, 24, 16)
    """Embedding width of each slot of FEATURES."""
    hidden: int = 128
    """LSTM width of one direction, and width of the span layer."""
    dropout: float = 0.3
    tag_weight: float = 0.5
    """Weight of the part-of-speech loss, which shapes the LSTM and is not used afterwards."""
    seed: int = 0


class Network(nn.Module):
    """Embeddings, bidirectional LSTM and span labels; `SpanParser.span_scores` is its forward pass in numpy."""

    def __init__(self, recipe: Recipe, vocabulary: Vocabulary, labels: int, tags: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(len(slot) + 1, width) for slot, width in zip(vocabulary.slots, recipe.widths, strict=True)
        )
        self.lstm = nn.LSTM(
            sum(recipe.widths),
            recipe.hidden,
            LAYERS,
            bidirectional=True,
            batch_first=True,
            dropout=recipe.dropout,
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.span = nn.Linear(2 * recipe.hidden, recipe.hidden)
        self.label = nn.Linear(recipe.hidden, labels)
        self.tag = nn.Linear(2 * recipe.hidden, tags)

    def encode(self, numbers: Tensor, lengths: Sequence[int]) -> Tensor:
        """Hidden states (B, N, 2 * hidden) from feature numbers (B, N, slots) of sentences of `lengths`."""
        inputs = torch.cat([layer(numbers[..., k]) for k, layer in enumerate(self.embeddings)], dim=-1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(inputs), torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        states: Tensor = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        dropped: Tensor = self.dropout(states)
        return dropped

    def labels(self, states: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Label logits (spans, labels); gap g of sentence b has the number b * (N + 1) + g."""
        width = states.shape[-1] // 2
        zero = states.new_zeros(len(states), 1, width)
        forward = torch.cat([zero, states[..., :width]], dim=1)
        backward = torch.cat([states[..., width:], zero], dim=1)
        gaps = (torch.cat([forward, -backward], dim=-1) @ self.span.weight.T).flatten(0, 1)
        spans = torch.relu(gaps.index_select(0, ends) - gaps.index_select(0, starts) + self.span.bias)
        logits: Tensor = self.label(spans)
        return logits


@dataclass(frozen=True, slots=True)
class _Batch:
    numbers: Tensor
    lengths: list[int]
    starts: Tensor
    ends: Tensor
    labels: Tensor
    tags: Tensor


class _Encoder:
    """Sentences -> tensors."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self.vocabulary = Vocabulary.of(sentence.words for sentence in sentences)
        counts = Counter(label for sentence in sentences for label in sentence.spans.values())
        known = sorted(label for label, n in counts.items() if n >= _RARE)
        self.label_numbers = {label: i for i, label in enumerate(known, start=2)}  # 0: none, 1: rare
        tags = sorted({tag for sentence in sentences for tag in sentence.tags})
        self.tag_numbers = {tag: i for i, tag in enumerate(tags)}
        words = Counter(self.vocabulary.numbers([w])[0, 0] for sentence in sentences for w in sentence.words)
        frequency = np.array([words[i] for i in range(len(self.vocabulary.slots[0]) + 1)], dtype=np.float64)
        self.unknown = 0.8 / (0.8 + frequency)  # rare words are often hidden, so that unknown ones are learned

    def batch(self, sentences: Sequence[Sentence], rng: np.random.Generator) -> _Batch:
        lengths = [len(sentence.words) for sentence in sentences]
        size = max(lengths)
        numbers = np.zeros((len(sentences), size, len(FEATURES)), dtype=np.int64)
        tags = np.full((len(sentences), size), _IGNORED, dtype=np.int64)
        starts, ends, labels = [], [], []
        for row, (sentence, n) in enumerate(zip(sentences, lengths, strict=True)):
            numbers[row, :n] = self.vocabulary.numbers(sentence.words)
            tags[row, :n] = [self.tag_numbers[tag] for tag in sentence.tags]
            table = np.zeros((n + 1, n + 1), dtype=np.int64)
            for span, label in sentence.spans.items():
                table[span] = self.label_numbers.get(label, 1)
            start, end = np.triu_indices(n + 1, 2)
            starts.append(row * (size + 1) + start)
            ends.append(row * (size + 1) + end)
            labels.append(table[start, end])
        hidden = rng.random((len(sentences), size)) < self.unknown[numbers[..., 0]]
        numbers[..., 0][hidden] = 0
        return _Batch(
            torch.from_numpy(numbers),
            lengths,
            torch.from_numpy(np.concatenate(starts)),
            torch.from_numpy(np.concatenate(ends)),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(tags),
        )


def train(sentences: Sequence[Sentence], recipe: Recipe, log: Callable[[str], object]) -> SpanParser:
    """A parser trained on the sentences; `log` gets a line per epoch.

    Loss: cross-entropy of the label of every span (none for spans that are no constituents), per word, plus that
    of the tags. One thread and the recipe's seed: the same sentences give the same weights on the same machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            return _train(sentences, recipe, log)
    finally:
        torch.set_num_threads(threads)


def _train(sentences: Sequence[Sentence], recipe: Recipe, log: Callable[[str], object]) -> SpanParser:
    encoder = _Encoder(sentences)
    network = Network(recipe, encoder.vocabulary, len(encoder.label_numbers) + 2, len(encoder.tag_numbers))
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=(0.9, 0.95))
    rng = np.random.default_rng(recipe.seed)
    steps = recipe.epochs * -(-len(sentences) // recipe.batch)
    warm_up = min(100, -(-steps // 5))
    step = 0
    for epoch in range(recipe.epochs):
        total = 0.0
        for chosen in _batches(sentences, recipe.batch, rng):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * min(1, (step + 1) / warm_up) * (1 - step / steps)
            batch = encoder.batch(chosen, rng)
            states = network.encode(batch.numbers, batch.lengths)
            logits = network.labels(states, batch.starts, batch.ends)
            span_loss = F.cross_entropy(logits, batch.labels, reduction="sum") / sum(batch.lengths)
            tag_loss = F.cross_entropy(network.tag(states).flatten(0, 1), batch.tags.flatten(), ignore_index=_IGNORED)
            optimizer.zero_grad()
            torch.autograd.backward(span_loss + recipe.tag_weight * tag_loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            total += float(span_loss.detach()) * sum(batch.lengths)
        words = sum(len(sentence.words) for sentence in sentences)
        log(f"epoch {epoch + 1}/{recipe.epochs}: loss {total / words:.3f} per word")
    weights = {name: weight.numpy() for name, weight in network.state_dict().items() if not name.startswith("tag.")}
    return SpanParser(weights, encoder.vocabulary)


def _batches(sentences: Sequence[Sentence], size: int, rng: np.random.Generator) -> Iterator[list[Sentence]]:
    """Every sentence once, in batches of nearly equal lengths, which waste little on padding."""
    lengths = np.array([len(sentence.words) for sentence in sentences]) + 4 * rng.random(len(sentences))
    order = np.argsort(lengths, kind="stable")
    starts = np.arange(0, len(order), size)
    rng.shuffle(starts)
    for start in starts:
        yield [sentences[i] for i in order[start : start + size]]
