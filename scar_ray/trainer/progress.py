"""Shows how a run gets on: a live display in a terminal, one plain line a step everywhere else."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

PHASES = ("rollout", "reward", "forward", "update", "sync")
_WINDOW = 20
"""Steps over which the pace is measured for the time left."""


def duration(seconds: float) -> str:
    """A length of time in its two largest units: 42s, 3m12s, 1h04m, 2d03h."""
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02d}s"
    if total < 86400:
        return f"{total // 3600}h{total % 3600 // 60:02d}m"
    return f"{total // 86400}d{total % 86400 // 3600:02d}h"


class Progress:
    """Context manager; `update` after every step, `message` for anything else worth a line.

    `start_step` is the number of steps already done (a resumed run), `file` is standard output by default.
    """

    def __init__(self, total_steps: int, start_step: int = 0, file: TextIO | None = None) -> None:
        from rich.console import Console

        self._total = total_steps
        self._step = start_step
        self._metrics: Mapping[str, float] = {}
        self._pace: deque[tuple[int, float]] = deque(maxlen=_WINDOW + 1)
        self._file = file if file is not None else sys.stdout
        self._console = Console(file=self._file, highlight=False)
        self._live: Any = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("dots", style="cyan")
            self._live = Live(self._render(), console=self._console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def live(self) -> bool:
        """Whether there is a terminal whose display changes in place."""
        return self._live is not None

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows step `step` (of `total_steps`) and its metrics, the flat keys of metrics.jsonl."""
        self._step, self._metrics = step, metrics
        if "time_s" in metrics:
            self._pace.append((step, metrics["time_s"]))
        if self._live is None:
            print(self._line(), file=self._file, flush=True)
        else:
            self._live.update(self._render())

    def message(self, text: str) -> None:
        """Prints a line, above the live display where there is one."""
        if self._live is None:
            print(text, file=self._file, flush=True)
        else:
            self._console.print(text, markup=False)

    def _seconds_left(self) -> float | None:
        if len(self._pace) >= 2:
            (step0, time0), (step1, time1) = self._pace[0], self._pace[-1]
            per_step = (time1 - time0) / (step1 - step0)
        elif self._metrics:
            per_step = sum(self._metrics.get(f"time/{phase}", 0.0) for phase in PHASES)
        else:
            return None
        return per_step * (self._total - self._step)

    def _figures(self) -> list[tuple[str, str]]:
        """Names and values of the figures that this step has."""
        shown = (
            ("reward", "reward/mean", "{:.3f}"),
            ("kl", "kl/k1", "{:.2f}"),
            ("loss", "loss", "{:.3f}"),
            ("accuracy", "accuracy", "{:.3f}"),
            ("tokens/s", "tokens/per_s", "{:,.0f}"),
        )
        return [(name, form.format(self._metrics[key])) for name, key, form in shown if key in self._metrics]

    def _times(self) -> list[tuple[str, str]]:
        keys = [(phase, f"time/{phase}") for phase in PHASES]
        return [(phase, f"{self._metrics[key]:.2f}") for phase, key in keys if key in self._metrics]

    def _line(self) -> str:
        width = len(str(self._total))
        parts = [f"step {self._step:>{width}}/{self._total}"]
        parts += [f"{name} {value}" for name, value in self._figures()]
        if times := self._times():
            parts.append("[" + " ".join(f"{name} {value}" for name, value in times) + " s]")
        left = self._seconds_left()
        if left is not None:
            parts.append(f"eta {duration(left)}")
        return "  ".join(parts)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        left = self._seconds_left()
        eta = f"ETA {duration(left)}" if left is not None else "starting"
        head = Table.grid(padding=(0, 1))
        head.add_row(
            self._spinner,
            Text(f"step {self._step}/{self._total}", style="bold"),
            ProgressBar(total=self._total, completed=self._step, width=32),
            Text(eta, style="cyan"),
        )
        figures, times = Text("  "), Text("  ")
        for name, value in self._figures():
            figures.append(f"{name} ", style="dim").append(f"{value}   ", style="bold")
        for name, value in self._times():
            times.append(f"{name} ", style="dim").append(f"{value} s   ")
        return Group(head, *(line for line in (figures, times) if line.plain.strip()))
