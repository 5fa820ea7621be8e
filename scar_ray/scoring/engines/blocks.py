"""How a forest is cut into blocks, and whom the nodes of a block attend to. Plain numpy.

A block is a stretch of nodes in depth-first order. What its nodes attend to is in the block itself or on the path from
the root to the block's first node, so the keys and values of that one path are all that is kept between blocks. The
beginning of the path that is above all nodes of the block, the prompt above all, is attended to without a mask. For the
rest the block is cut into pieces:

- a run is a long stretch in which every node is the child of the one before: its nodes attend to the ancestors of the
  first, gathered, without a mask, and to each other causally;
- chunks are stretches of a fixed size, several at once: their nodes attend to the ancestors of the chunk's first node,
  gathered, and to each other, by a mask.

Shapes: N nodes of the forest, P nodes of the path, M nodes of the block, S chunks of m nodes with K keys each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scar_ray.scoring.engines.forest import Forest, IntArray

RUN = 4
"""Chunks that a run is as long as, at least."""
PADDING = 16
"""Kernels of GPUs read masks in pieces of so many keys."""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch in which every node is the child of the one before."""

    first: int
    """First node, counted from the start of the block."""
    size: int
    keys_K: IntArray
    """Ancestors of the first node, as places in [path behind the common nodes, block]."""

    pairs = 0
    """Pairs of nodes and keys that a mask covers."""

    @property
    def keys(self) -> int:
        """Keys that are gathered."""
        return len(self.keys_K)


@dataclass(frozen=True, slots=True)
class Chunks:
    """Neighbouring chunks of one size that are computed together.

    A node attends to the keys with nodes_SK <= node < exits_SK that stand at fewer than `window` positions before it.
    """

    first: int
    """First node of the first chunk, counted from the start of the block."""
    size: int
    """Nodes of all chunks together."""
    rows_Sm: IntArray
    """The nodes; the last chunk repeats the last node until it is full."""
    nodes_SK: IntArray
    """The keys' nodes, -1 for padding."""
    exits_SK: IntArray
    """First node behind each key's subtree, -1 for padding."""
    keys_SK: IntArray
    """The keys as places in [path behind the common nodes, block]; 0 for padding."""
    row_positions_Sm: IntArray
    key_positions_SK: IntArray
    window: int | None

    @property
    def keys(self) -> int:
        return self.keys_SK.size

    @property
    def pairs(self) -> int:
        return self.rows_Sm.shape[1] * self.keys_SK.size


class Block:
    """Nodes start..end-1 of a forest behind a path of their ancestors."""

    def __init__(
        self, forest: Forest, path_P: IntArray, start: int, end: int, chunk: int, window: int | None = None
    ) -> None:
        """`window` is that of the layers that attend to so many positions only, their own included."""
        self._forest, self._path_P, self._chunk, self._window = forest, path_P, min(chunk, end - start), window
        self.start, self.end = start, end
        self.common = int(np.count_nonzero(forest.exits_N[path_P] >= end))
        """First nodes of the path that all nodes of the block attend to."""
        self.path_kept = int(np.count_nonzero(forest.exits_N[path_P] > end))
        """First nodes of the path that are above the next block's first node too."""
        self.kept_M = start + np.flatnonzero(forest.exits_N[start:end] > end)
        """Nodes of the block that are above the next block's first node."""

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def path(self) -> int:
        """Nodes of the path."""
        return len(self._path_P)

    @property
    def next_path_P(self) -> IntArray:
        """Path to the next block's first node."""
        return np.append(self._path_P[: self.path_kept], self.kept_M)

    @cached_property
    def pieces(self) -> list[Run | Chunks]:
        """Runs and chunks in the order of their nodes, with the keys behind the common ones."""
        links = self._forest.exits_N[self.start : self.end - 1] > np.arange(self.start + 1, self.end)
        cuts = self.start + np.flatnonzero(np.concatenate(([True], ~links, [True])))
        pieces: list[Run | Chunks] = []
        waiting = self.start
        for first, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            if end - first >= RUN * self._chunk:
                pieces += self._chunks(waiting, first, self.common, None)
                keys = self._places(self._ancestors(first, self.common), self.common)
                pieces.append(Run(first - self.start, end - first, keys))
                waiting = end
        return pieces + self._chunks(waiting, self.end, self.common, None)

    @cached_property
    def window_matters(self) -> bool:
        """Whether a node of the block has an ancestor outside its window."""
        return self._window is not None and int(self._forest.positions_N[self.start : self.end].max()) >= self._window

    @cached_property
    def windowed_pieces(self) -> list[Run | Chunks]:
        """The pieces for layers with a window that matters, chunks all: no keys are common then."""
        return [*self._chunks(self.start, self.end, 0, self._window)] if self.window_matters else []

    def _ancestors(self, first: int, skipped: int) -> IntArray:
        """Ancestors of node `first` behind the path's first `skipped`."""
        before = np.append(self._path_P[skipped:], np.arange(self.start, first))
        return before[self._forest.exits_N[before] > first]

    def _places(self, nodes: IntArray, skipped: int) -> IntArray:
        """The nodes as places in [path behind the first `skipped`, block]."""
        rest_P = self._path_P[skipped:]
        return np.where(nodes < self.start, np.searchsorted(rest_P, nodes), len(rest_P) + nodes - self.start)

    def _chunks(self, start: int, end: int, skipped: int, window: int | None) -> list[Chunks]:
        """The nodes in chunks, neighbours together as long as that gathers few keys."""
        keys = []
        for first in range(start, end, self._chunk):
            last = min(first + self._chunk, end)
            before = self._ancestors(first, skipped)
            if window is not None:
                nearest = self._forest.positions_N[first:last].min() - window
                before = before[self._forest.positions_N[before] > nearest]
            keys.append(np.append(before, np.arange(first, last)))
        groups: list[list[int]] = []
        for number, found in enumerate(keys):
            longest = max([len(found), *(len(keys[i]) for i in groups[-1])]) if groups else 0
            if groups and (len(groups[-1]) + 1) * longest <= 2 * (len(self) + self.path):
                groups[-1].append(number)
            else:
                groups.append([number])
        return [
            self._together([keys[i] for i in group], start + group[0] * self._chunk, end, skipped, window)
            for group in groups
        ]

    def _together(self, keys: Sequence[IntArray], start: int, end: int, skipped: int, window: int | None) -> Chunks:
        nodes_SK = np.full((len(keys), -(-max(map(len, keys)) // PADDING) * PADDING), -1)
        for row, found in enumerate(keys):
            nodes_SK[row, : len(found)] = found
        rows_Sm = start + np.arange(len(keys) * self._chunk).reshape(len(keys), self._chunk)
        end = min(end, start + rows_Sm.size)
        rows_Sm, padding = np.minimum(rows_Sm, end - 1), nodes_SK < 0
        return Chunks(
            first=start - self.start,
            size=end - start,
            rows_Sm=rows_Sm,
            nodes_SK=nodes_SK,
            exits_SK=np.where(padding, -1, self._forest.exits_N[nodes_SK]),
            keys_SK=np.where(padding, 0, self._places(nodes_SK, skipped)),
            row_positions_Sm=self._forest.positions_N[rows_Sm],
            key_positions_SK=self._forest.positions_N[nodes_SK],
            window=window,
        )


def boundaries(forest: Forest, block: int, chunk: int) -> IntArray:
    """Nodes at which a block must start: the trees that fill half a block themselves, and the ends of their stems.

    So a prompt, the stem of its tree, is a block of its own, and all of the blocks below it have it in common.
    """
    found, root = [], 0
    while root < len(forest):
        end = int(forest.exits_N[root])
        if 2 * (end - root) > block:
            stem = int(np.argmax(np.append(forest.exits_N[root:end], -1) != end))
            found += [root, root + stem] if stem >= chunk else [root]
            found.append(end)
        root = end
    return np.unique(found).astype(np.int64)
