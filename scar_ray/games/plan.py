"""The one idea of the library: every Shapley-type credit is a linear map from coalition values to credits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plan:
    """Coalitions to evaluate and the map from their values to credits: phi_n = operator_nC @ values_C.

    A plan depends on the structure of the game only (players, tree, estimator), never on values, so it is
    cached and shared by all responses of the same shape. Row 0 is the empty coalition, row 1 the full one.
    """

    coalitions_Cn: NDArray[np.bool_]
    """One coalition a row, distinct; True where the player is present."""
    operator_nC: NDArray[np.float64]
    """Each row sums to 0 over the coalitions, so a constant game earns nobody anything."""
    estimator: str
    """Name of the estimator that made it, for reports: "shapley", "owen", "paired_tree"..."""

    def __post_init__(self) -> None:
        C, n = self.coalitions_Cn.shape
        assert self.operator_nC.shape == (n, C), (self.coalitions_Cn.shape, self.operator_nC.shape)
        assert n > 0, "a game needs a player"
        assert C >= 2, "a plan needs the empty and the full coalition"
        assert not self.coalitions_Cn[0].any(), "row 0 is the empty coalition"
        assert self.coalitions_Cn[1].all(), "row 1 is the full coalition"

    @property
    def n_players(self) -> int:
        return int(self.coalitions_Cn.shape[1])

    @property
    def n_coalitions(self) -> int:
        return int(self.coalitions_Cn.shape[0])

    def check(self, values_C: NDArray[np.float64]) -> None:
        """ValueError unless there is one finite value for each coalition."""
        if values_C.shape != (self.n_coalitions,):
            raise ValueError(f"values: expected {self.n_coalitions} coalition values, got shape {values_C.shape}")
        if not np.isfinite(values_C).all():
            bad = int(np.flatnonzero(~np.isfinite(values_C))[0])
            raise ValueError(f"values: coalition {bad} has value {values_C[bad]}; every value must be finite")

    def credits(self, values_C: NDArray[np.float64]) -> NDArray[np.float64]:
        """phi_n for the values of the coalitions, in their order. ValueError when a value is not finite."""
        values_C = np.asarray(values_C, dtype=np.float64)
        self.check(values_C)
        return self.operator_nC @ values_C


def frozen_plan(coalitions_Cn: NDArray[np.bool_], operator_nC: NDArray[np.float64], estimator: str) -> Plan:
    """A plan whose arrays are read-only, because one cached plan serves many responses."""
    coalitions_Cn.flags.writeable = False
    operator_nC.flags.writeable = False
    return Plan(coalitions_Cn, operator_nC, estimator)
