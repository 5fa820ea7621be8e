"""The best policy of a run so far, by its held-out reward: exported whole, never lost to later ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scar_ray.trainer.protocols import Learner

BEST = "best"
"""Folder of the best policy in a run folder."""
FACTS = "best.json"


@dataclass(frozen=True, slots=True)
class Best:
    """Where a run was best."""

    step: int
    value: float
    """What it was best by, on the held-out prompts."""


class BestPolicy:
    """Keeps `RUN/best`: a Hugging Face folder with `best.json`, which says of which step it is and how good."""

    def __init__(self, run: Path, learner: Learner, metric: str, card: str) -> None:
        """`metric` is what `offer` is told, for the record; `card` the README of the policy."""
        self._folder, self._learner, self._metric, self._card = run / BEST, learner, metric, card
        self.found: Best | None = None

    def offer(self, step: int, value: float) -> bool:
        """Exports the learner's policy if it is better than all before; an equal one is not. Whether it is."""
        if self.found is not None and not value > self.found.value:
            return False
        partial = self._folder.with_name(f".{BEST}.partial")
        old = self._folder.with_name(f".{BEST}.removed")
        for left_over in (partial, old):
            shutil.rmtree(left_over, ignore_errors=True)
        self._learner.export(partial)
        self.found = Best(step, value)
        (partial / FACTS).write_text(json.dumps(asdict(self.found) | {"metric": self._metric}, indent=1))
        (partial / "README.md").write_text(self._card)
        if self._folder.exists():
            os.replace(self._folder, old)
        os.replace(partial, self._folder)
        shutil.rmtree(old, ignore_errors=True)
        return True

    def state(self) -> dict[str, Any] | None:
        """JSON-able state for a checkpoint."""
        return None if self.found is None else asdict(self.found)

    def load_state(self, state: Mapping[str, Any] | None) -> bool:
        """Takes up what a checkpoint knew. False when the folder holds a policy of a step that is done again.

        Such a policy is removed, and the next evaluation starts the search anew: the run may now take another way.
        """
        file = self._folder / FACTS
        there = json.loads(file.read_text())["step"] if file.is_file() else None
        self.found = None if state is None else Best(int(state["step"]), float(state["value"]))
        if there == (None if self.found is None else self.found.step):
            return True
        self.found = None
        if self._folder.exists():
            shutil.rmtree(self._folder)
        return False
