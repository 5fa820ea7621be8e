"""Parses texts in processes of their own, so that a training step never waits long for a parser."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from scar_ray.parsing import load_bracketer
from scar_ray.text.parse import Parse, parse

_CONTEXT = multiprocessing.get_context("spawn")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STARTUP_S = 300.0
"""A process that takes longer to load its parser counts as dead."""


@dataclass(frozen=True, slots=True)
class ParseCounts:
    """What a ParallelParser has done so far."""

    parsed: int = 0
    """Different texts that were asked for."""
    fallbacks: int = 0
    """Sentences of them whose tree is the heuristic's because the parser failed or took too long."""
    late: int = 0
    """Texts of which every sentence is the heuristic's because the parser took too long or its process died."""
    seconds: float = 0.0
    """Time that `parse` waited."""


class ParallelParser:
    """A parser in several processes, with the `parse(text)` of `scar_ray.text.parse`.

        with ParallelParser("treebank", processes=4, seconds_per_text=5.0) as parser:
            parser.prefetch(texts)      # returns at once
            parser.parse(texts[0])      # waits for that text

    A text that takes longer gets the heuristic's tree and is counted; its process, and one that died, is replaced.
    The last `cache` texts are remembered, so that a text keeps its tree.
    """

    def __init__(
        self, name: str, processes: int, seconds_per_text: float, *, folder: Path | None = None, cache: int = 4096
    ) -> None:
        """Starts the processes and waits until all have loaded the parser `name` (see `load_bracketer`).

        ValueError when the parser cannot be loaded or a number is not positive.
        """
        for key, value in (("processes", processes), ("seconds_per_text", seconds_per_text), ("cache", cache)):
            if value <= 0:
                raise ValueError(f"parser: {key} must be above 0, got {value}")
        self._name, self._folder, self._seconds, self._cache = name, folder, seconds_per_text, cache
        self._results: OrderedDict[str, Future[Parse | None] | Parse] = OrderedDict()
        self._counts = ParseCounts()
        self._lock = threading.Lock()
        self._closed = False
        self._workers = [_Worker(name, folder) for _ in range(processes)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="parser")
        for worker in self._workers:
            problem = worker.problem()
            if problem is not None:
                self.close()
                raise ValueError(problem)
            self._idle.put(worker)

    def __enter__(self) -> ParallelParser:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def counts(self) -> ParseCounts:
        return self._counts

    def prefetch(self, texts: Sequence[str]) -> None:
        """Starts parsing the texts in the background, in their order."""
        for text in texts:
            if text not in self._results:
                self._results[text] = self._threads.submit(self._parse_in_worker, text)

    def ready(self, text: str) -> bool:
        """Whether `parse(text)` would answer at once."""
        found = self._results.get(text)
        return found is not None and (not isinstance(found, Future) or found.done())

    def parse(self, text: str) -> Parse:
        """The parse of the text, of the heuristic if it is not there within the time limit from now."""
        self.prefetch([text])
        found = self._results[text]
        if isinstance(found, Future):
            found = self._results[text] = self._waited(text, found)
        self._results.move_to_end(text)
        while len(self._results) > self._cache:
            _, dropped = self._results.popitem(last=False)
            if isinstance(dropped, Future):
                dropped.cancel()
        return found

    def _waited(self, text: str, future: Future[Parse | None]) -> Parse:
        start = time.monotonic()
        try:
            found = future.result(timeout=self._seconds)
        except TimeoutError:
            future.cancel()
            found = None
        late = found is None
        if found is None:
            found = parse(text)
            found = replace(found, fallbacks=len(found.sentences))
        before = self._counts
        self._counts = ParseCounts(
            before.parsed + 1,
            before.fallbacks + found.fallbacks,
            before.late + late,
            before.seconds + time.monotonic() - start,
        )
        return found

    def close(self) -> None:
        """Ends the processes; texts that wait for one are given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.end()
        self._threads.shutdown(wait=True)

    def _parse_in_worker(self, text: str) -> Parse | None:
        """The text's parse; None when its process died or took longer than the limit, and so has been replaced."""
        worker = self._idle.get()
        found = worker.parse(text, self._seconds)
        if found is None:
            with self._lock:
                if self._closed:
                    return None
                worker.end()
                self._workers.remove(worker)
                worker = _Worker(self._name, self._folder)
                self._workers.append(worker)
        self._idle.put(worker)
        return found


class _Worker:
    """One process with a parser."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._ready = False
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, name, folder), daemon=True)
        with _one_thread():
            self.process.start()
        theirs.close()

    def problem(self) -> str | None:
        """Waits until the process has loaded its parser; what is wrong, or None."""
        if not self._ready:
            try:
                said = self._connection.recv() if self._connection.poll(_STARTUP_S) else "parser: a process hangs"
            except (EOFError, OSError):
                said = "parser: a process ended while it loaded its parser; its stderr tells why"
            self._ready = said is None
            return said
        return None

    def parse(self, text: str, seconds: float) -> Parse | None:
        """The parse; None when the process has ended, cannot load its parser or takes longer than `seconds`."""
        if self.problem() is not None:
            return None
        try:
            self._connection.send(text)
            if not self._connection.poll(seconds):
                return None
            found: Parse = self._connection.recv()
        except (EOFError, OSError):
            return None
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start now compute in one thread each; with more, they wait for each other."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, name: str, folder: Path | None) -> None:
    """The life of a process: None or what is wrong once the parser is loaded, then a parse for each text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, but the step is finished first
    try:
        bracketer = load_bracketer(name, folder)
    except ValueError as error:
        connection.send(str(error))
        return
    connection.send(None)
    while True:
        try:
            text = connection.recv()
        except EOFError:  # the parent ended
            return
        connection.send(parse(text, bracketer))
