"""Every node of the sequences' forest computed once: blocks of nodes with an ancestor mask over cached ancestors.

A block is a run of nodes in depth-first order. What its nodes attend to is in the block itself or on the path from
the root to the block's first node, so the keys and values of that one path are all that is kept between blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.classifier import Classifier, KeysAndValues, cache_of
from scar_ray.scoring.engines.forest import Forest, IntArray, plant, read_position
from scar_ray.scoring.engines.memory import Footprint, attempt
from scar_ray.scoring.engines.plain import PlainBatches

log = logging.getLogger(__name__)

BLOCK = {"cpu": 384, "cuda": 4096}
"""Nodes of a block where memory allows: more waste attention on masked pairs, fewer do not fill the device."""
FOREST_CELLS = 2**24
"""Largest table of sequences times length that a forest of several responses is made from."""


class TrieBlocks:
    """Causal models only; `plain` scores the sequences that no node can stand for."""

    name = "trie"

    def __init__(self, classifier: Classifier, plain: PlainBatches, *, memory: int, block: int | None = None) -> None:
        self._classifier, self._plain, self._memory = classifier, plain, memory
        self._block = block or BLOCK[classifier.device.type]
        self._footprint = Footprint.of(classifier)
        self._masks = mask_kinds(classifier.config)

    @torch.no_grad()
    def scores(
        self, sequences: Sequence[Encoded], groups: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], int]:
        """Scores and nodes computed; see `Engine`."""
        scores, computed = np.empty(len(sequences)), 0
        reads = [read_position(sequence, self._classifier.pad) for sequence in sequences]
        unread = [row for row, read in enumerate(reads) if read is None]
        if unread:
            scores[unread], computed = self._plain.scores([sequences[row] for row in unread], [])
        for rows in self._forests(sequences, [[r for r in group if reads[r] is not None] for group in groups]):
            forest = plant([sequences[row] for row in rows], [reads[row] for row in rows])
            nodes, places = np.unique(forest.reads_C, return_inverse=True)
            scores[rows] = self._read_nodes(forest, nodes)[places]
            computed += len(forest)
        return scores, computed

    @staticmethod
    def _forests(sequences: Sequence[Encoded], groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Rows of the forests: neighbouring groups together while their table is small."""
        forests: list[list[int]] = []
        longest = 0
        for group in groups:
            longest = max([longest, *(len(sequences[row]) for row in group)])
            if forests and (len(forests[-1]) + len(group)) * longest <= FOREST_CELLS:
                forests[-1] += group
            elif group:
                forests.append(list(group))
                longest = max(len(sequences[row]) for row in group)
        return forests

    def _read_nodes(self, forest: Forest, nodes: IntArray) -> NDArray[np.float64]:
        """Scores of the nodes, which are increasing."""
        block = self._footprint.block(self._memory, forest.depth, min(self._block, len(forest)))
        path, cached = np.empty(0, dtype=np.int64), []
        logits, start = [], 0
        while start < len(forest):
            end = min(start + block, len(forest))
            output = attempt(partial(self._forward, forest, path, cached, start, end), divisible=block > 1)
            if output is None:
                block //= 2
                self._block = min(self._block, block)
                log.warning("out of device memory: blocks of %d nodes from here on", block)
                continue
            first, last = np.searchsorted(nodes, (start, end))
            hidden = output.last_hidden_state[0, self._tensor(nodes[first:last] - start)]
            logits.append(self._classifier.model.score(hidden))
            ancestors = np.append(path, np.arange(start, end))
            kept = np.flatnonzero(forest.exits_N[ancestors] > end)
            path, cached, start = ancestors[kept], self._selected(output.past_key_values, kept), end
        return self._classifier.scores(torch.cat(logits))

    def _forward(self, forest: Forest, path: IntArray, cached: list[KeysAndValues], start: int, end: int) -> Any:
        """The model's output on a block of nodes; `path` are the ancestors of the first whose states are cached."""
        keys = np.append(path, np.arange(start, end))
        positions_M, positions_K = forest.positions_N[start:end], forest.positions_N[keys]
        nodes_M, keys_K, exits_K = (self._tensor(x) for x in (np.arange(start, end), keys, forest.exits_N[keys]))
        visible_MK = (keys_K <= nodes_M[:, None]) & (nodes_M[:, None] < exits_K)
        return self._classifier.backbone(
            input_ids=self._tensor(forest.tokens_N[start:end])[None],
            position_ids=self._tensor(positions_M)[None],
            attention_mask=self._masks_of(visible_MK, self._tensor(positions_M), self._tensor(positions_K)),
            past_key_values=cache_of(cached),
            use_cache=True,
        )

    def _masks_of(self, visible_MK: torch.Tensor, positions_M: torch.Tensor, positions_K: torch.Tensor) -> Any:
        """The masks to add to the attention scores, as the model takes them: one, or one for each kind of layer."""
        dtype = next(self._classifier.model.parameters()).dtype

        def added(window: int | None) -> torch.Tensor:
            visible = visible_MK
            if window is not None:
                visible = visible & (positions_M[:, None] - positions_K < window)
            mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
            return mask.masked_fill_(~visible, torch.finfo(dtype).min)[None, None]

        masks = {kind: added(window) for kind, window in self._masks.items()}
        return masks.get("", masks)

    def _selected(self, cache: DynamicCache, kept: IntArray) -> list[KeysAndValues]:
        rows = self._tensor(kept)
        return [(layer.keys.index_select(2, rows), layer.values.index_select(2, rows)) for layer in cache.layers]

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._classifier.device)


def mask_kinds(config: Any) -> dict[str, int | None]:
    """Attention window (None: all) by kind of layer, for models that mix kinds; of the one kind "" for the others.

    ValueError for kinds that are neither full nor sliding attention.
    """
    kinds = set(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    unknown = kinds - {"full_attention", "sliding_attention"}
    if unknown:
        raise ValueError(f"layers of kind {', '.join(sorted(unknown))}")
    if "sliding_attention" in kinds:
        return {"full_attention": None, "sliding_attention": window}
    return {"": None if kinds else window}
