"""The probe's result as one HTML page that needs nothing but itself: the verdict, two plots, the table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import scar_ray.report
from scar_ray.analysis.probe import ProbeResult
from scar_ray.analysis.probe_design import FRACTIONS
from scar_ray.analysis.probe_table import sample, table
from scar_ray.records import FloatArray
from scar_ray.report.frame import document, write_whole
from scar_ray.report.plot import Line, Plot, draw
from scar_ray.report.responses import clean
from scar_ray.report.scale import Axis, fitted_axis

_STYLE = Path(scar_ray.report.__file__).with_name("report.css")
_DASHES = ("none", "9 3", "3 2.5", "9 3 2 3", "14 4")
"""One for each masking; the reference line has its own."""
_REFERENCE = 7
"""Number of the reference line: the grey colour."""
_NOTE = (
    "Effects of single units: alone is v({i}) − v(∅), in full is v(N) − v(N without i); ranks are compared within a "
    "response. Units that help or hurt most are chosen by their effect alone, so what removing them does was not seen "
    "before; in brackets, random ones of the same units in the same responses. Drift is the change of the score "
    "from nothing kept to all kept for a response of average score."
)


def write_page(result: ProbeResult, file: Path, model: str) -> Path:
    """Writes the page; returns its path."""
    return write_whole(file, render(result, model))


def render(result: ProbeResult, model: str) -> str:
    """The page as HTML. It loads nothing and runs nothing, and its policy forbids that it does."""
    style = _STYLE.read_text(encoding="utf-8") + _line_styles(len(result.measured))
    plots = "".join(draw(plot, 100)[0] for plot in (_correlation(result), _mean_value(result)))
    missing = "".join(f'<p class="note">{clean(reason)}</p>' for reason in result.unsupported.values())
    verdict = result.judgement(result.recommended).verdict
    page = (
        '<header><p class="brand">scar_ray</p><h1>Are scores of partial responses meaningful?</h1>'
        f'<p class="sub">Reward model {clean(model)}, {clean(sample(result))}</p></header><main>'
        f'<section id="verdict"><h2>{verdict.capitalize()}</h2><p>{clean(result.sentence())}</p></section>'
        f'<section id="plots"><h2>By masking</h2>{_legend(result)}<div class="grid">{plots}</div></section>'
        f'<section id="numbers"><h2>Numbers</h2>{_table(result)}<p class="note">{_NOTE}</p>{missing}</section></main>'
    )
    return document("Scores of partial responses", style, page)


def _correlation(result: ProbeResult) -> Plot:
    removed = np.array([*FRACTIONS, 1.0])
    lines = [
        _line(i, name, removed, np.array(found.spearman)) for i, (name, found) in enumerate(result.measured.items())
    ]
    low = min(0.0, *(float(np.nanmin(line.y, initial=0.0)) for line in lines))
    fine = np.linspace(0.0, 1.0, 51)
    return Plot(
        key="correlation",
        title="Rank correlation with the full score",
        note="Grey: an additive score of equal, independent units, √(1 − removed).",
        x=Axis("share of the units removed at random; at 1 the prompt alone is left", 0.0, 1.0),
        y=Axis("Spearman correlation over the responses", low, 1.02),
        lines=(*lines, _line(_REFERENCE, "additive", fine, np.sqrt(1.0 - fine))),
        summary="Rank correlation with the full score, half removed: "
        + ", ".join(f"{line.name} {line.y[FRACTIONS.index(0.5)]:.2f}" for line in lines),
    )


def _mean_value(result: ProbeResult) -> Plot:
    kept = 1.0 - np.array([*FRACTIONS, 1.0, 0.0])
    order = np.argsort(kept)
    lines = [
        _line(i, name, kept[order], np.array(found.mean)[order])
        for i, (name, found) in enumerate(result.measured.items())
    ]
    spread = max(found.full_std for found in result.measured.values())
    return Plot(
        key="mean-value",
        title="Mean score against the share kept",
        note=f"A flat line is no drift. Full scores: standard deviation {spread:.3g}.",
        x=Axis("share of the units kept", 0.0, 1.0),
        y=fitted_axis("mean score over the responses", np.concatenate([line.y for line in lines])),
        lines=tuple(lines),
        summary="Mean score with nothing kept and with all kept: "
        + ", ".join(f"{line.name} {line.y[0]:.2f} and {line.y[-1]:.2f}" for line in lines),
    )


def _line(group: int, name: str, x: FloatArray, y: FloatArray) -> Line:
    return Line(group, name, x, y, np.arange(len(x), dtype=np.float64), bold=True)


def _line_styles(count: int) -> str:
    groups = [*((i, _DASHES[i]) for i in range(count)), (_REFERENCE, "1 3")]
    return "".join(f'[data-group="{i}"]{{--c:var(--c{i});--dash:{dash}}}' for i, dash in groups) + (
        ".legend li{display:inline-flex;align-items:center;gap:8px;padding:3px 9px}tr.head th{font-weight:600}"
        ".scroll{max-height:none}"
    )


def _legend(result: ProbeResult) -> str:
    names: Sequence[tuple[int, str]] = [*enumerate(result.measured), (_REFERENCE, "additive score")]
    items = "".join(
        '<li><svg viewBox="0 0 34 8" aria-hidden="true"><path class="mean" '
        f'data-group="{i}" d="M1 4H33"/></svg>{html.escape(name)}</li>'
        for i, name in names
    )
    return f'<ul class="legend" aria-label="Maskings">{items}</ul>'


def _table(result: ProbeResult) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ("credit.masking", *result.measured))
    rows = "".join(
        f'<tr{"" if cells else " class=head"}><th scope="row">{html.escape(label)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for label, cells in table(result)
    )
    return (
        '<div class="scroll" role="region" aria-label="Numbers by masking" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
