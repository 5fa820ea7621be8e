"""Device-seconds by role: what a run costs, idle time included."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Accounting:
    """Charges every device held, busy or idle.

    `busy` maps a role to a function that returns the seconds its actors have been busy so far, summed over them;
    `weight` to the devices that one busy actor uses; `held` is the number of devices that the run holds; `total`
    what was charged before a resumed run went on. On CPU clusters a device is a CPU thread of an actor.
    """

    def __init__(
        self,
        busy: Mapping[str, Callable[[], float]],
        weight: Mapping[str, float],
        held: float,
        total: float = 0.0,
    ) -> None:
        self._busy, self._weight, self._held = dict(busy), dict(weight), held
        self._before = {role: read() for role, read in self._busy.items()}
        self._clock = time.perf_counter()
        self.total = total
        """Device-seconds of the run so far."""

    def charge(self) -> dict[str, float]:
        """Device-seconds since the last call, by role, and the total so far."""
        now = time.perf_counter()
        wall, self._clock = now - self._clock, now
        costs = {}
        for role, read in self._busy.items():
            seconds = read()
            costs[f"cost/{role}"] = (seconds - self._before[role]) * self._weight[role]
            self._before[role] = seconds
        # Roles that share a device can be busy on it at the same time.
        costs["cost/idle"] = max(0.0, wall * self._held - sum(costs.values()))
        self.total += wall * self._held
        return costs | {"cost/total": self.total}

    def charge_evaluation(self) -> dict[str, float]:
        """Device-seconds since the last call, all spent on an evaluation; no part of the total, which is training's."""
        before = self.total
        self.charge()
        spent, self.total = self.total - before, before
        return {"cost/eval": spent}
