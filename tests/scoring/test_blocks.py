"""Blocks of a forest: every node attends to its ancestors and itself, however the forest is cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.blocks import Block, Chunks, Run, boundaries
from scar_ray.scoring.engines.forest import Forest, plant


def forest_of(rows: list[list[int]]) -> Forest:
    return plant([Encoded(tuple(row)) for row in rows], [len(row) - 1 for row in rows])


def blocks_of(forest: Forest, size: int, chunk: int, window: int | None = None) -> list[tuple[np.ndarray, Block]]:
    """The blocks with the paths before them."""
    path, blocks = np.empty(0, dtype=np.int64), []
    for start in range(0, len(forest), size):
        block = Block(forest, path, start, min(start + size, len(forest)), chunk, window)
        blocks.append((path, block))
        path = block.next_path_P
    return blocks


def attended(path: np.ndarray, block: Block, pieces: list[Run | Chunks], common: int) -> dict[int, Counter[int]]:
    """Keys of each node, with the number of times that it attends to them."""
    behind = np.append(path[common:], np.arange(block.start, block.end))
    found = {node: Counter(path[:common].tolist()) for node in range(block.start, block.end)}
    for piece in pieces:
        if isinstance(piece, Run):
            first = block.start + piece.first
            for node in range(first, first + piece.size):
                found[node].update([*behind[piece.keys_K].tolist(), *range(first, node + 1)])
            continue
        for number in range(piece.size):
            row, column = divmod(number, piece.rows_Sm.shape[1])
            node = piece.rows_Sm[row, column]
            assert node == block.start + piece.first + number
            seen = (piece.nodes_SK[row] <= node) & (node < piece.exits_SK[row])
            if piece.window is not None:
                seen &= piece.row_positions_Sm[row, column] - piece.key_positions_SK[row] < piece.window
            found[node].update(behind[piece.keys_SK[row][seen]].tolist())
            assert piece.nodes_SK[row][seen].tolist() == behind[piece.keys_SK[row][seen]].tolist()
    return found


ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=14), min_size=1, max_size=12)


@settings(max_examples=150, derandomize=True)
@given(rows=ROWS, stem=st.integers(0, 12), size=st.integers(1, 50), chunk=st.integers(1, 5), window=st.integers(1, 9))
def test_every_node_attends_to_itself_and_its_ancestors_once(
    rows: list[list[int]], stem: int, size: int, chunk: int, window: int
) -> None:
    forest = forest_of([[7] * stem + row for row in rows])
    for path, block in blocks_of(forest, size, chunk, window):
        ancestors = {
            node: [a for a in range(node + 1) if node < forest.exits_N[a]] for node in range(block.start, block.end)
        }
        assert [piece.first for piece in block.pieces] == np.cumsum([0, *(p.size for p in block.pieces)])[:-1].tolist()
        found = attended(path, block, block.pieces, block.common)
        assert found == {node: Counter(keys) for node, keys in ancestors.items()}
        if block.window_matters:
            near = attended(path, block, block.windowed_pieces, 0)
            at = forest.positions_N
            assert near == {n: Counter(k for k in keys if at[n] - at[k] < window) for n, keys in ancestors.items()}
        else:
            assert forest.positions_N[block.start : block.end].max() < window


def test_a_long_stretch_without_branches_before_it_is_a_run_and_needs_no_mask() -> None:
    """A prompt of 20 tokens; two responses of 9 tokens that part at once: with chunks of 2, runs from 8 nodes on."""
    forest = forest_of([[7] * 20 + [1] * 9, [7] * 20 + [2] * 9])
    [(_, block)] = blocks_of(forest, 100, 2)
    assert [(type(piece), piece.first, piece.size, piece.keys) for piece in block.pieces] == [
        (Run, 0, 29, 0),
        (Run, 29, 9, 20),
    ]
    assert sum(piece.pairs for piece in block.pieces) == 0


def test_the_path_that_a_block_has_in_common_is_gathered_by_nobody() -> None:
    forest = forest_of([[7] * 20 + [1, 2], [7] * 20 + [3, 4]])
    _, (path, block) = blocks_of(forest, 20, 4)
    assert path.tolist() == list(range(20))
    assert (block.common, block.path_kept, block.kept_M.tolist()) == (20, 0, [])
    [chunks] = block.pieces
    assert chunks.nodes_SK[:, :4].tolist() == [[20, 21, 22, 23]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[7] * 10 + [i] for i in range(8)], [0, 10, 18]),
        ([[1, i] for i in range(3)], []),
        ([[1] * 3, *([7] * 10 + [i] for i in range(8))], [3, 13, 21]),
    ],
)
def test_a_block_starts_at_the_end_of_a_long_prompt(rows: list[list[int]], expected: list[int]) -> None:
    """Trees that would fill half a block of 20, with stems of at least a chunk of 4 nodes."""
    assert boundaries(forest_of(rows), block=20, chunk=4).tolist() == expected
