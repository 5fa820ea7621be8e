"""Stand-ins for engines: an actor that answers without a model, and a handle that keeps what it is called with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray

from scar_ray.config.sampling import Sampling
from scar_ray.records import Request, Response


class StandInEngine:
    """Answers without a model; the text of a prompt says how: `die`, `wait <file>`, or anything else at once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def generate(self, asked: list[Request], sampling: Sampling | None = None) -> Iterator[Response]:
        for request in asked:
            what, _, file = request.prompt.text.partition(" ")
            if what == "die":
                os._exit(1)
            if what == "wait":
                wait_for(Path(file))
            yield Response(request.row, request.prompt, 0, (0,), "", ((0, 0),), True, np.zeros(1), 0, self._name)


def wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.1)
    raise TimeoutError(f"{file} never came")


class Recorder:
    """Stands for an engine's handle and keeps what its methods are called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, method: str) -> Any:
        recorder = self

        class Method:
            @staticmethod
            def remote(argument: Any = None) -> Any:
                recorder.calls.append((method, argument))
                return ray.put(None)

        return Method
