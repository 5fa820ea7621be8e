"""Sequences as a forest: tokens that stand behind the same tokens, at the same positions, are one node.

Plain numpy. The prompt is the top of a response's tree, responses to one prompt share it, and a sequence that
continues another one costs only its own end. Shapes: C sequences, N nodes, L tokens of the longest sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from scar_ray.scoring.encoding import Encoded

IntArray = NDArray[np.int64]

MAX_TOKEN = 2**32 - 1
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Forest:
    """The nodes in depth-first order.

    Node a is node b or one of its ancestors exactly where a <= b < exits_N[a].
    """

    tokens_N: IntArray
    positions_N: IntArray
    exits_N: IntArray
    """First node behind the node's subtree."""
    reads_C: IntArray
    """Node at which each sequence is read."""
    depth: int
    """Nodes of the longest path."""

    def __len__(self) -> int:
        return len(self.tokens_N)


def read_position(sequence: Encoded, pad: int | None) -> int | None:
    """Position whose hidden state a causal head reads: the last visible one that is no padding by its id, else 0.

    None where there is no such position or nothing attends to it.
    """
    hidden = set(sequence.hidden)
    for position in range(len(sequence) - 1, -1, -1):
        if sequence.ids[position] != pad and position not in hidden:
            return position
    return 0 if len(sequence) and 0 not in hidden else None


def plant(sequences: Sequence[Encoded], reads: Sequence[int]) -> Forest:
    """The forest of the sequences, each up to the position at which it is read; hidden tokens are no nodes."""
    keys_CL, lengths_C = _keys(sequences, reads)
    order_C = np.argsort(keys_CL.view(f"S{keys_CL.itemsize * keys_CL.shape[1]}")[:, 0], kind="stable")
    keys_CL, lengths_C = keys_CL[order_C], lengths_C[order_C]
    shared_C = _shared_with_the_row_before(keys_CL, lengths_C)
    starts_C = np.append(0, np.cumsum(lengths_C - shared_C))
    steps_L = np.arange(keys_CL.shape[1])
    is_new_CL = (steps_L >= shared_C[:, None]) & (steps_L < lengths_C[:, None])
    tokens_N = (keys_CL[is_new_CL].astype(np.int64) & MAX_TOKEN) - 1
    if keys_CL.itemsize == 8:
        positions_CL = steps_L + np.cumsum(keys_CL >> 32, axis=1, dtype=np.int64)
    else:
        positions_CL = np.broadcast_to(steps_L, keys_CL.shape)
    reads_C = np.empty_like(order_C)
    reads_C[order_C] = starts_C[1:] - 1
    exits_N = _exits(shared_C, lengths_C, starts_C)
    return Forest(tokens_N, positions_CL[is_new_CL], exits_N, reads_C, int(lengths_C.max()))


def _keys(sequences: Sequence[Encoded], reads: Sequence[int]) -> tuple[NDArray[np.unsignedinteger], IntArray]:
    """(C, L) keys of the visible tokens, 1 + token, and 0 behind the end; lengths.

    Where tokens are hidden, the upper half of a key is the number of positions skipped before it. Big-endian, so that
    the bytes of the rows sort as the rows.
    """
    gaps = any(sequence.hidden for sequence in sequences)
    lengths_C = np.asarray(reads, dtype=np.int64) + 1
    keys_CL = np.zeros((len(sequences), lengths_C.max()), dtype=">u8" if gaps else ">u4")
    tokens = (sequence.ids[:length] for sequence, length in zip(sequences, lengths_C.tolist(), strict=True))
    flat = np.fromiter(chain.from_iterable(tokens), dtype=np.int64, count=int(lengths_C.sum()))
    keys_CL[np.arange(keys_CL.shape[1]) < lengths_C[:, None]] = flat + 1
    for row, sequence in enumerate(sequences):
        if sequence.hidden:
            hidden = [position for position in sequence.hidden if position <= reads[row]]
            positions = np.delete(np.arange(lengths_C[row]), hidden)
            seen = keys_CL[row, positions] + ((np.diff(positions, prepend=-1) - 1) << 32)
            lengths_C[row] = len(positions)
            keys_CL[row] = 0
            keys_CL[row, : len(positions)] = seen
    return keys_CL, lengths_C


def _shared_with_the_row_before(keys_CL: NDArray[np.unsignedinteger], lengths_C: IntArray) -> IntArray:
    """Tokens that each row has in common with the row before it; of the rows in depth-first order."""
    shared_C = np.zeros(len(keys_CL), dtype=np.int64)
    for first in range(1, len(keys_CL), ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, len(keys_CL))
        differs = keys_CL[first:last] != keys_CL[first - 1 : last - 1]
        shared_C[first:last] = np.where(differs.any(1), differs.argmax(1), lengths_C[first:last])
    return shared_C


def _exits(shared_C: IntArray, lengths_C: IntArray, starts_C: IntArray) -> IntArray:
    """First node behind each node's subtree, from the rows in depth-first order.

    shared_C are the tokens a row has in common with the row before it, starts_C the first nodes of the rows.
    """
    exits_N = np.full(starts_C[-1], starts_C[-1], dtype=np.int64)
    path_L = np.zeros(lengths_C.max(), dtype=np.int64)
    open_nodes = 0
    for row, (shared, length) in enumerate(zip(shared_C.tolist(), lengths_C.tolist(), strict=True)):
        start, end = starts_C[row], starts_C[row + 1]
        exits_N[path_L[shared:open_nodes]] = start
        path_L[shared:length] = np.arange(start, end)
        open_nodes = length
    return exits_N
