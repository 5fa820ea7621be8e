"""Answers that were paid for once: JSON lines on disk, found again by the hash of their request."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from scar_ray.config.errors import UserError


@dataclass(frozen=True, slots=True)
class Reply:
    """What a language model answered."""

    text: str
    finish_reason: str
    """Why it stopped: "stop", or "length" where it was cut off."""


def key_of(request: Mapping[str, Any]) -> str:
    """Hash of everything that decides the answer: endpoint, model, messages, settings."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Cache:
    """Context manager over the file; one process at a time. A line that was not finished counts as not there."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._replies: dict[str, Reply] = {}

    def __enter__(self) -> Cache:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                f"{self._path}: another process is judging here; wait for it or give another --out"
            ) from None
        self._file.seek(0)
        end = 0
        for line in self._file.read().splitlines(keepends=True):
            end += len(line)
            if line.endswith(b"\n"):
                self._take(line)
            else:
                self._file.truncate(end - len(line))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, key: str) -> Reply | None:
        return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Adds an answer, on disk before the call returns."""
        record = {"key": key, "text": reply.text, "finish_reason": reply.finish_reason}
        line = memoryview(json.dumps(record).encode() + b"\n")
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())
        self._replies[key] = reply

    def _take(self, line: bytes) -> None:
        """Remembers a line; one that is damaged is asked again."""
        try:
            record = json.loads(line)
            self._replies[str(record["key"])] = Reply(str(record["text"]), str(record["finish_reason"]))
        except (ValueError, KeyError, TypeError):
            return
