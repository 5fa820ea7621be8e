"""Reward-model tokens of coalitions: of all their sequences, and with every common beginning computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of what the sequences of one response are made of: prompt, the units that are present, end."""

    prompt: int
    units: tuple[int, ...]
    """Tokens of each player, in the order of the text."""
    end: int = 1
    """Tokens behind the response, such as the EOS."""
    filled: bool = False
    """Units that are left out are replaced by as many other tokens (blank, mask, pad) instead of cut out."""

    def tokens(self, coalitions_Cn: NDArray[np.bool_]) -> int:
        """Tokens of all sequences, each read from its beginning."""
        read_Cn = np.ones_like(coalitions_Cn) if self.filled else coalitions_Cn
        return len(coalitions_Cn) * (self.prompt + self.end) + int((read_Cn @ self._units_n()).sum())

    def trie_tokens(self, coalitions_Cn: NDArray[np.bool_]) -> int:
        """Tokens computed by an engine that computes the prompt and every common beginning of distinct coalitions once.

        These are the nodes of the sequences' prefix tree, as in `scar_ray.scoring.engines.forest`; fewer there only
        where units that differ consist of the same tokens.
        """
        # As np.unique(coalitions_Cn, axis=0), ten times as fast.
        first = np.unique(bit_strings(coalitions_Cn), return_index=True)[1] if self.units else [0]
        new_Cn = new_units(coalitions_Cn[first], filled=self.filled)
        return self.prompt + len(new_Cn) * self.end + int((new_Cn @ self._units_n()).sum())

    def _units_n(self) -> NDArray[np.int64]:
        return np.array(self.units, dtype=np.int64)


def bit_strings(coalitions_Cn: NDArray[np.bool_]) -> NDArray[np.bytes_]:
    """Each coalition of at least one player as a string of bits; their order is the depth-first one of the trie."""
    bits_CK = np.packbits(coalitions_Cn, axis=1)
    strings_C: NDArray[np.bytes_] = bits_CK.view(f"S{bits_CK.shape[1]}")[:, 0]
    return strings_C


def new_units(coalitions_Cn: NDArray[np.bool_], *, filled: bool) -> NDArray[np.bool_]:
    """Units (C, n) that each coalition, in depth-first order, adds to the trie of those before it.

    That is what follows the beginning it shares with the one before; left-out units count where they are `filled`.
    """
    new_Cn = np.ones_like(coalitions_Cn)
    new_Cn[1:] = np.logical_or.accumulate(coalitions_Cn[1:] != coalitions_Cn[:-1], axis=1)
    return new_Cn if filled else new_Cn & coalitions_Cn


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """Most tokens that the coalitions of one response may take, common beginnings computed once."""

    tokens: int
    lengths: Lengths

    def allows(self, coalitions_Cn: NDArray[np.bool_]) -> bool:
        return self.lengths.trie_tokens(coalitions_Cn) <= self.tokens
