"""Sequences as a forest: every prefix is one node, in depth-first order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.forest import plant, read_position


def test_sequences_with_a_common_prefix_share_its_nodes() -> None:
    forest = plant([Encoded((7, 3)), Encoded((7, 2, 5)), Encoded((7,)), Encoded((4, 2))], [1, 2, 0, 1])
    assert forest.tokens_N.tolist() == [4, 2, 7, 2, 5, 3]
    assert forest.positions_N.tolist() == [0, 1, 0, 1, 2, 1]
    assert forest.exits_N.tolist() == [2, 2, 6, 5, 5, 6]
    assert forest.reads_C.tolist() == [5, 4, 2, 1]
    assert forest.depth == 3


def test_a_hidden_token_is_no_node_and_keeps_its_position() -> None:
    """After the hidden second token the third one is another node than right behind the first one."""
    forest = plant([Encoded((7, 5, 5), hidden=(1,)), Encoded((7, 5))], [2, 1])
    assert forest.tokens_N.tolist() == [7, 5, 5]
    assert sorted(forest.positions_N.tolist()) == [0, 1, 2]
    assert forest.exits_N.tolist() == [3, 2, 3]


def test_what_stands_behind_the_token_that_is_read_is_no_node() -> None:
    sequences = [Encoded((4, 6, 1, 1)), Encoded((4, 6))]
    reads = [read_position(sequence, 1) for sequence in sequences]
    assert reads == [1, 1]
    forest = plant(sequences, reads)
    assert forest.tokens_N.tolist() == [4, 6]
    assert forest.reads_C.tolist() == [1, 1]


def test_the_token_that_is_read_is_the_last_visible_one_that_is_no_padding() -> None:
    assert read_position(Encoded((1, 4, 1)), 1) == 1
    assert read_position(Encoded((4, 5, 6), hidden=(1, 2)), 1) == 0
    assert read_position(Encoded((1, 1)), 1) == 0
    assert read_position(Encoded((4, 1)), None) == 1
    assert read_position(Encoded((4,), hidden=(0,)), 1) is None
    assert read_position(Encoded(()), 1) is None


@settings(max_examples=60, derandomize=True)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.sampled_from([0, 1, 300, 70_000]), st.booleans()), min_size=1, max_size=6), min_size=1
    )
)
def test_every_path_of_the_forest_is_a_prefix_and_every_prefix_is_one_path(rows: list[list[tuple[int, bool]]]) -> None:
    sequences, reads = [], []
    for row in rows:
        hidden = tuple(i for i, (_, visible) in enumerate(row[:-1]) if not visible)
        sequences.append(Encoded(tuple(token for token, _ in row), hidden))
        reads.append(len(row) - 1)
    forest = plant(sequences, reads)

    def path(node: int) -> tuple[tuple[int, int], ...]:
        chain = [a for a in range(node + 1) if node < forest.exits_N[a]]
        return tuple((int(forest.tokens_N[a]), int(forest.positions_N[a])) for a in chain)

    visible = [tuple((t, i) for i, t in enumerate(s.ids) if i not in s.hidden) for s in sequences]
    assert [path(node) for node in forest.reads_C] == visible
    paths = [path(node) for node in range(len(forest))]
    assert len(set(paths)) == len(paths)
    assert set(paths) == {row[:end] for row in visible for end in range(1, len(row) + 1)}
