"""Explanations in a terminal: the response's units with their credits below them, one row for each method.

Blue earned reward, orange cost reward, all methods on one scale. A unit's number stands at its end, on a line as long
as the unit, so that it reads the same without colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from scar_ray.analysis.explanation import Explanation, decimals, full_strength, one_line, signed
from scar_ray.report.scale import duration, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_POSITIVE, _NEGATIVE, _PAPER = (74, 144, 217), (238, 140, 62), (250, 250, 250)
_PALE = 0.02
"""Credits below this share of the full strength stay without colour."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A unit of one method as it is drawn: a run of tokens with one number."""

    stop: int
    """Exclusive end in tokens."""
    credit: float
    number: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text of one column, or a line of it where it is too long for one."""

    text: str
    width: int
    """Cells of the terminal."""
    stop: int
    """Exclusive end of the column in tokens."""
    is_last: bool
    """The column ends here."""


def print_explanations(explanations: Sequence[Explanation], console: Console) -> None:
    """Prints the explanations of one response, one for each method, to fit the console's width."""
    from rich.text import Text

    first = explanations[0]
    console.print(Text(f"prompt  {one_line(first.prompt)}", style="dim"), highlight=False)
    console.print()
    scale = full_strength(explanations)
    rows = [_runs(found, decimals(scale)) for found in explanations]
    names = [found.credit for found in explanations] if len(explanations) > 1 else [""]
    label = max(map(len, names)) + 2 * (len(names) > 1)
    width = console.width - label
    for line in _lines(_columns(first, rows, console, width), width):
        for name, drawn in zip(["", *names], _drawn(line, rows, scale), strict=True):
            text = Text().append(name.ljust(label), style="bold").append_text(drawn)
            text.rstrip()
            console.print(text, no_wrap=True, overflow="ignore", crop=False)
        console.print()
    console.print(_facts(explanations))
    for found in explanations:
        if found.dropped:
            console.print(Text(f"{found.credit}: {', '.join(found.dropped)}", style="dim"), highlight=False)


def _runs(found: Explanation, places: int) -> list[_Run]:
    """The units of one method, and at the end what is no unit's credit. The tokens without any of the sparse reward
    are one run."""
    runs: list[_Run] = []
    stop = 0
    for unit in found.units:
        stop += unit.n_tokens
        if found.credit == "sparse" and unit.credit == 0 and runs and runs[-1].credit == 0:
            runs.pop()
        runs.append(_Run(stop, unit.credit, signed(unit.credit, places)))
    if not found.covers_all:
        runs.append(_Run(len(found.tokens), 0.0, signed(found.rest, places)))
    return runs


def _columns(first: Explanation, rows: Sequence[Sequence[_Run]], console: Console, width: int) -> Iterator[_Piece]:
    """The pieces of the response between the ends of any method's units; none is wider than `width`."""
    from rich.text import Text

    numbers: dict[int, int] = {}
    for run in (run for row in rows for run in row):
        numbers[run.stop] = max(numbers.get(run.stop, 1), len(run.number))
    start = 0
    for stop in sorted(numbers):
        text = one_line("".join(token.text for token in first.tokens[start:stop]).strip(" ")) or "·"
        lines = [line.plain.rstrip() for line in Text(text).wrap(console, width)]
        for index, line in enumerate(lines, start=1):
            cells, is_last = Text(line).cell_len, index == len(lines)
            yield _Piece(line, max(cells, numbers[stop]) if is_last else cells, stop, is_last)
        start = stop


def _lines(pieces: Iterator[_Piece], width: int) -> Iterator[list[_Piece]]:
    """The pieces in lines of at most `width` cells, with a blank between neighbours."""
    line: list[_Piece] = []
    for piece in pieces:
        if line and sum(other.width + 1 for other in line) + piece.width > width:
            yield line
            line = []
        line.append(piece)
    yield line


def _drawn(line: Sequence[_Piece], rows: Sequence[Sequence[_Run]], scale: float) -> Iterator[Text]:
    """The response's text, coloured where there is one method, then the numbers of each method."""
    from rich.text import Text

    groups = [_grouped(line, row) for row in rows]
    words = Text()
    for run, pieces in groups[0]:
        padded = " ".join(piece.text + " " * (piece.width - Text(piece.text).cell_len) for piece in pieces)
        words.append(padded, style=_style(run.credit, scale) if len(rows) == 1 else "").append(" ")
    yield words
    for group in groups:
        numbers = Text()
        for run, pieces in group:
            ends_here = pieces[-1].is_last and pieces[-1].stop == run.stop
            shown = run.number if ends_here else ""
            width = sum(piece.width + 1 for piece in pieces) - 1
            numbers.append(shown.rjust(width, "─"), style=_style(run.credit, scale)).append(" ")
        yield numbers


def _grouped(line: Sequence[_Piece], row: Sequence[_Run]) -> list[tuple[_Run, list[_Piece]]]:
    """The pieces of a line by the unit that they are in."""

    def unit(piece: _Piece) -> _Run:
        return next(run for run in row if run.stop >= piece.stop)

    return [(run, list(pieces)) for run, pieces in groupby(line, key=unit)]


def _style(credit: float, scale: float) -> str:
    """Black on a tint of the credit's sign and size: readable on light and on dark terminals."""
    strength = min(1.0, abs(credit) / scale)
    if strength < _PALE:
        return ""
    full = _POSITIVE if credit > 0 else _NEGATIVE
    mix = [
        round(paper + (colour - paper) * (0.15 + 0.85 * strength)) for paper, colour in zip(_PAPER, full, strict=True)
    ]
    return f"black on rgb({mix[0]},{mix[1]},{mix[2]})"


def _facts(explanations: Sequence[Explanation]) -> Table:
    """One line for each method: score, base, residual, and what it took."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("credit", "estimator", "score", "base", "residual", "evaluations", "tokens", "time"):
        table.add_column(name, justify="left" if name in ("credit", "estimator") else "right", no_wrap=True)
    for found in explanations:
        table.add_row(
            found.credit,
            found.estimator or "–",
            number(found.score),
            "–" if found.base is None else number(found.base),
            "–" if found.residual is None else number(found.residual),
            f"{found.evaluated:,}" + (f" of {found.asked:,}" if found.asked > found.evaluated else ""),
            f"{found.reward_tokens:,}",
            duration(found.seconds),
        )
    return table
