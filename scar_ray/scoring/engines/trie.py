"""Every node of the sequences' forest computed once, in blocks, by an attention function of Transformers' interface.

The model computes a block of nodes as one sequence with positions of our own; only its attention knows that these are
branches of a tree. It keeps the keys and values of the path that the next block needs, layer by layer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.attention import Attended, Scores, attend, merged
from scar_ray.scoring.engines.blocks import Block, Chunks, Run, boundaries
from scar_ray.scoring.engines.classifier import Classifier, KeysAndValues
from scar_ray.scoring.engines.forest import Forest, IntArray, plant, read_position
from scar_ray.scoring.engines.memory import Footprint, attempt
from scar_ray.scoring.engines.plain import PlainBatches

log = logging.getLogger(__name__)

BLOCK = {"cpu": 2048, "cuda": 16384}
"""Nodes of a block where memory allows: fewer do not fill the device."""
CHUNK = {"cpu": 64, "cuda": 128}
"""Nodes that share gathered keys: more waste attention on masked pairs, fewer gather more keys."""
FOREST_CELLS = 2**21
"""Largest table of sequences times length that a forest is made from: bounds memory, and the device can compute one
forest while the next is planted."""
ATTENTION = "scar_ray_trie"


class TrieBlocks:
    """Causal models only; `plain` scores the sequences that no node can stand for."""

    name = "trie"
    padding = 0

    def __init__(
        self,
        classifier: Classifier,
        plain: PlainBatches,
        *,
        memory: int,
        block: int | None = None,
        chunk: int | None = None,
    ) -> None:
        kinds = set(getattr(classifier.config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
        if kinds:
            raise ValueError(f"layers of kind {', '.join(sorted(kinds))}")
        self._classifier, self._plain, self._memory = classifier, plain, memory
        self._block = block or BLOCK[classifier.device.type]
        self._chunk = chunk or CHUNK[classifier.device.type]
        self._footprint = Footprint.of(classifier)

    @torch.no_grad()
    def scores(
        self, sequences: Sequence[Encoded], groups: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], int]:
        """Scores and nodes computed; see `Engine`."""
        scores, computed = np.empty(len(sequences)), 0
        found: list[tuple[list[int], IntArray, torch.Tensor]] = []
        reads = [read_position(sequence, self._classifier.pad) for sequence in sequences]
        unread = [row for row, read in enumerate(reads) if read is None]
        if unread:
            scores[unread], computed = self._plain.scores([sequences[row] for row in unread], [])
        for rows in self._forests(sequences, [[r for r in group if reads[r] is not None] for group in groups]):
            forest = plant([sequences[row] for row in rows], [reads[row] for row in rows])
            nodes, places = np.unique(forest.reads_C, return_inverse=True)
            found.append((rows, places, self._read_nodes(forest, nodes)))
            computed += len(forest)
        # Only now: a device computes one forest while the next is planted.
        for rows, places, logits in found:
            scores[rows] = self._classifier.scores(logits)[places]
        return scores, computed

    @staticmethod
    def _forests(sequences: Sequence[Encoded], groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Rows of the forests: neighbouring groups together while their table is small; a large group in parts."""
        forests: list[list[int]] = []
        longest = 0
        for group in groups:
            longest = max([longest, *(len(sequences[row]) for row in group)])
            if forests and (len(forests[-1]) + len(group)) * longest <= FOREST_CELLS:
                forests[-1] += group
            elif group:
                longest = max(len(sequences[row]) for row in group)
                most = max(FOREST_CELLS // longest, 1)
                rows = list(group)
                if len(rows) > most:  # neighbours in this order have most in common
                    rows.sort(key=lambda row: sequences[row].ids)
                forests += [rows[first : first + most] for first in range(0, len(rows), most)]
        return forests

    def _read_nodes(self, forest: Forest, nodes: IntArray) -> torch.Tensor:
        """Logits of the nodes, which are increasing."""
        starts = boundaries(forest, self._block, self._chunk)
        attention, logits, start = TreeAttention(self._classifier), [], 0
        path_P = np.empty(0, dtype=np.int64)
        while start < len(forest):
            block = self._next_block(forest, path_P, start, starts, attention.window)
            output = attempt(partial(self._forward, forest, block, attention), divisible=len(block) > 1)
            if output is None:
                self._block = len(block) // 2
                log.warning("out of device memory: blocks of %d nodes from here on", self._block)
                continue
            attention.advance()
            first, last = np.searchsorted(nodes, (start, block.end))
            hidden = output.last_hidden_state[0, self._tensor(nodes[first:last] - start)]
            logits.append(self._classifier.model.score(hidden))
            path_P, start = block.next_path_P, block.end
        return torch.cat(logits)

    def _next_block(self, forest: Forest, path_P: IntArray, start: int, starts: IntArray, window: int | None) -> Block:
        """The largest block from `start` on that fits the memory and holds no other node of `starts`."""
        behind = starts[np.searchsorted(starts, start, side="right") :][:1]
        end = min(start + self._block, len(forest), *behind.tolist())
        while True:
            block = Block(forest, path_P, start, end, self._chunk, window)
            needed = self._footprint.of_block(block)
            if len(block) == 1 or needed <= self._memory:
                return block
            end = start + max(1, min(len(block) - 1, int(0.9 * len(block) * self._memory / needed)))

    def _forward(self, forest: Forest, block: Block, attention: TreeAttention) -> Any:
        """The model's output on a block of nodes."""
        nodes = slice(block.start, block.end)
        with attention.on(block):
            return self._classifier.backbone(
                input_ids=self._tensor(forest.tokens_N[nodes])[None],
                position_ids=self._tensor(forest.positions_N[nodes])[None],
                # Models take masks of four dimensions as they are; the attention function needs none.
                attention_mask=torch.zeros((1, 1, 1, 1), device=self._classifier.device),
                use_cache=False,
            )

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return on_device(array, self._classifier.device)


class TreeAttention:
    """The attention of all layers to the branches of one forest, block by block.

    Shapes: G key heads, R query heads for each, M nodes of the block, D size of a head.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._config, self._device = classifier.config, classifier.device
        self.window = getattr(classifier.config, "sliding_window", None)
        """Of the layers that attend to so many positions only."""
        self._capped = classifier.config._attn_implementation != "sdpa"  # which leaves caps of scores out
        self._path: dict[int, KeysAndValues] = {}
        self._next: dict[int, KeysAndValues] = {}

    @contextmanager
    def on(self, block: Block) -> Iterator[None]:
        """Inside, the model's layers attend as nodes of the block."""
        self._block, self._next = block, {}
        self._kept = on_device(block.kept_M - block.start, self._device)
        self._places: dict[int, torch.Tensor] = {}
        self._biases: dict[tuple[int, int], torch.Tensor] = {}
        usual, token = self._config._attn_implementation, _current.set(self)
        self._config._attn_implementation = ATTENTION
        try:
            yield
        finally:
            self._config._attn_implementation = usual
            _current.reset(token)

    def advance(self) -> None:
        """The block is done: the next one starts behind its path."""
        self._path = self._next

    def layer(
        self, index: int, query: torch.Tensor, kv: KeysAndValues, scale: float, cap: float | None, windowed: bool
    ) -> torch.Tensor:
        """Attention (1, M, G * R, D) of layer `index`; queries (1, G * R, M, D), keys and values (1, G, M, D)."""
        block, how = self._block, Scores(scale, cap if self._capped else None)
        path = self._path.get(index, (kv[0][:, :, :0], kv[1][:, :, :0]))
        self._next[index] = (self._kept_of(path[0], kv[0]), self._kept_of(path[1], kv[1]))
        windowed = windowed and block.window_matters
        common, pieces = (0, block.windowed_pieces) if windowed else (block.common, block.pieces)
        behind = [torch.cat([far[:, :, common:], near], 2) for far, near in zip(path, kv, strict=True)]
        query_GRMD = query.view(kv[0].shape[1], -1, *query.shape[2:])
        parts = []
        for piece in pieces:
            rows = slice(piece.first, piece.first + piece.size)
            if isinstance(piece, Run):
                own = tuple(tensor[0, :, rows] for tensor in kv)
                parts.append(self._in_run(piece, query_GRMD[:, :, rows], own, behind, how))
            else:
                parts.append(self._in_chunks(piece, query_GRMD[:, :, rows], behind, how))
        found = torch.cat([seen for seen, _ in parts], 2), torch.cat([logsumexp for _, logsumexp in parts], 2)
        if common:
            found = merged(found, _by_all(query_GRMD, path[0][0, :, :common], path[1][0, :, :common], how))
        return found[0].permute(2, 0, 1, 3).flatten(1, 2)[None]

    def _kept_of(self, path: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        return torch.cat([path[:, :, : self._block.path_kept], own.index_select(2, self._kept)], 2)

    def _in_run(
        self, run: Run, query_GRmD: torch.Tensor, own: KeysAndValues, behind: Sequence[torch.Tensor], how: Scores
    ) -> Attended:
        """Attention (G, R, m, D) of a run to its nodes, (G, m, D) keys and values, and to the ancestors behind."""
        heads = [tensor[:, None].expand(-1, query_GRmD.shape[1], -1, -1).flatten(0, 1)[None] for tensor in own]
        seen, logsumexp = attend(query_GRmD.flatten(0, 1)[None], *heads, None, how, causal=True)
        found = seen.view(query_GRmD.shape), logsumexp.view(query_GRmD.shape[:3])
        if not run.keys:
            return found
        places = self._places_of(run, run.keys_K)
        return merged(found, _by_all(query_GRmD, *(tensor[0].index_select(1, places) for tensor in behind), how))

    def _in_chunks(
        self, chunks: Chunks, query_GRmD: torch.Tensor, behind: Sequence[torch.Tensor], how: Scores
    ) -> Attended:
        """Attention (G, R, m, D) of some chunks to the keys behind the common ones."""
        groups, repeats, rows, width = query_GRmD.shape
        count, size = chunks.rows_Sm.shape
        query = torch.nn.functional.pad(query_GRmD, (0, 0, 0, count * size - rows))
        query = query.view(groups, repeats, count, size, width).permute(2, 0, 1, 3, 4).flatten(2, 3)
        places, bias = self._places_of(chunks, chunks.keys_SK), self._bias(chunks, repeats, query.dtype)
        keys, values = (x.index_select(2, places).view(groups, count, -1, width).transpose(0, 1) for x in behind)
        seen, logsumexp = attend(query, keys, values, bias, how)
        seen = seen.reshape(count, groups, repeats, size, width).permute(1, 2, 0, 3, 4).flatten(2, 3)
        logsumexp = logsumexp.reshape(count, groups, repeats, size).permute(1, 2, 0, 3).flatten(2, 3)
        return seen[:, :, :rows], logsumexp[:, :, :rows]

    def _places_of(self, piece: Run | Chunks, keys: IntArray) -> torch.Tensor:
        """The places of its keys, flat; sent to the device once for all layers."""
        if id(piece) not in self._places:
            self._places[id(piece)] = on_device(keys.ravel(), self._device)
        return self._places[id(piece)]

    def _bias(self, chunks: Chunks, repeats: int, dtype: torch.dtype) -> torch.Tensor:
        """(S, 1, R * m, K), to be added to the scores; made once for all layers."""
        if (id(chunks), repeats) not in self._biases:
            rows, nodes, exits = (
                on_device(x, self._device) for x in (chunks.rows_Sm, chunks.nodes_SK, chunks.exits_SK)
            )
            hidden = (nodes[:, None] > rows[..., None]) | (rows[..., None] >= exits[:, None])
            if chunks.window is not None:
                at, of_keys = (on_device(x, self._device) for x in (chunks.row_positions_Sm, chunks.key_positions_SK))
                hidden |= at[..., None] - of_keys[:, None] >= chunks.window
            bias = torch.zeros(hidden.shape, dtype=dtype, device=self._device)
            bias.masked_fill_(hidden, torch.finfo(dtype).min)
            self._biases[id(chunks), repeats] = bias.repeat(1, repeats, 1)[:, None]
        return self._biases[id(chunks), repeats]


def _by_all(query_GRmD: torch.Tensor, key_GKD: torch.Tensor, value_GKD: torch.Tensor, how: Scores) -> Attended:
    """Attention (G, R, m, D) of all queries to all keys."""
    seen, logsumexp = attend(query_GRmD.flatten(1, 2)[None], key_GKD[None], value_GKD[None], None, how)
    return seen.view(query_GRmD.shape), logsumexp.view(query_GRmD.shape[:3])


_current: ContextVar[TreeAttention] = ContextVar("current tree")


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The function that Transformers calls in each layer, on the keyword arguments of its interface."""
    tree = _current.get()
    if s_aux is not None or sliding_window not in (None, tree.window):
        raise ValueError("attention with sinks, or windows of several sizes")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return tree.layer(module.layer_idx, query, (key, value), scale, softcap, sliding_window is not None), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array as a tensor there; the copy to a GPU does not wait for what the GPU is doing."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
