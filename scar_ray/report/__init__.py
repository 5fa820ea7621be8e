"""Reports on finished and running runs: `write_report` makes one self-contained HTML page of run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["write_report"]


def write_report(runs: Sequence[Path], out: Path | None = None, first: tuple[str, str] | None = None) -> Path:
    """Writes one HTML page on the run folders; returns its path, by default report.html in the first folder.

    `first` is the title and the HTML of a section that comes before all others.

    ValueError, in one line, when no folder is given, a folder is no run, or one of its files is broken.
    """
    from scar_ray.report.frame import write_whole
    from scar_ray.report.page import render
    from scar_ray.report.runs import read_run

    if not runs:
        raise ValueError("no run folder given; name at least one folder that `scar-ray train` made")
    folders = dict.fromkeys(Path(folder).resolve() for folder in runs)
    page = render([read_run(folder) for folder in folders], first)
    path = Path(out) if out is not None else Path(runs[0]) / "report.html"
    return write_whole(path, page)
