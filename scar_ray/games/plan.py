"""The one idea of the library: every Shapley-type credit is a linear map from coalition values to credits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_COALITIONS = 2**16
"""No plan holds more coalitions than this: exact values are refused before anything is allocated, and a larger
budget is not used up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Coalitions to evaluate and the map from their values to credits: phi_n = operator_nC @ values_C.

    A plan depends on the structure of the game only (players, tree, estimator), never on values, so it is
    cached and shared by all responses of the same shape. Row 0 is the empty coalition, row 1 the full one.
    """

    coalitions_Cn: NDArray[np.bool_]
    """One coalition a row, distinct (unless there are no players); True where the player is present."""
    operator_nC: NDArray[np.float64]
    """Each row sums to 0 over the coalitions, so a constant game earns nobody anything."""
    estimator: str
    """Name of the estimator that made it, for reports: "shapley", "owen", "paired_tree"..."""

    def __post_init__(self) -> None:
        C, n = self.coalitions_Cn.shape
        assert self.operator_nC.shape == (n, C), (self.coalitions_Cn.shape, self.operator_nC.shape)
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


class Coalitions:
    """Distinct coalitions of n > 0 players, numbered as they are first asked for; 0 is the empty, 1 the full one."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._row_of: dict[bytes, int] = {}
        self.row(np.zeros(n, dtype=np.bool_))
        self.row(np.ones(n, dtype=np.bool_))

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, members_n: NDArray[np.bool_]) -> bool:
        return members_n.tobytes() in self._row_of

    def row(self, members_n: NDArray[np.bool_]) -> int:
        """Number of the coalition, a new one if it was not there."""
        return self._row_of.setdefault(members_n.tobytes(), len(self._row_of))

    def n_new(self, coalitions: list[NDArray[np.bool_]]) -> int:
        """How many of them are not there yet, each counted once."""
        return len({members_n.tobytes() for members_n in coalitions} - self._row_of.keys())

    def array(self) -> NDArray[np.bool_]:
        """All of them, of shape (C, n), in the order of their numbers."""
        return np.frombuffer(b"".join(self._row_of), dtype=np.bool_).reshape(len(self), self._n)


def frozen_plan(coalitions_Cn: NDArray[np.bool_], operator_nC: NDArray[np.float64], estimator: str) -> Plan:
    """A plan whose arrays are read-only, because one cached plan serves many responses."""
    coalitions_Cn.flags.writeable = False
    operator_nC.flags.writeable = False
    return Plan(coalitions_Cn, operator_nC, estimator)


def no_players(estimator: str) -> Plan:
    """The plan of a game without players: nobody to pay, and the empty coalition is the full one."""
    return frozen_plan(np.zeros((2, 0), dtype=np.bool_), np.zeros((0, 2)), estimator)


def made_efficient(plan: Plan) -> Plan:
    """The plan whose credits are those of `plan` and an equal share each of what they lack to v(N) - v(empty)."""
    target_C = np.zeros(plan.n_coalitions)
    target_C[0], target_C[1] = -1.0, 1.0
    lack_C = target_C - plan.operator_nC.sum(axis=0)
    share_C = lack_C / max(plan.n_players, 1)
    return frozen_plan(plan.coalitions_Cn, plan.operator_nC + share_C, plan.estimator)


def check_budget(budget: int) -> None:
    """ValueError unless the budget pays for the empty and the full coalition."""
    if budget < 2:
        raise ValueError(f"budget={budget}: the empty and the full coalition alone need 2; use a budget of at least 2")
