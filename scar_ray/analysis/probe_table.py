"""The probe's numbers as rows of text, for the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from textwrap import fill

from scar_ray.analysis.probe import ProbeResult
from scar_ray.analysis.probe_design import FRACTIONS, MIN_UNITS
from scar_ray.analysis.probe_statistics import Statistics
from scar_ray.analysis.probe_verdict import Verdict
from scar_ray.report.scale import number

_LABEL, _CELL = 34, 11
"""Characters of a column; a longer cell widens its row only."""
_SHORT: dict[Verdict, str] = {"meaningful": "meaningful", "use with care": "with care", "not meaningful": "no"}

Row = tuple[str, Callable[[Statistics], str]]


def _correlation(index: int) -> Callable[[Statistics], str]:
    return lambda found: _decimal(found.spearman[index])


_ROWS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "Rank correlation with full score",
        (
            *((f"{100 * share:.0f} % of the units removed", _correlation(i)) for i, share in enumerate(FRACTIONS)),
            ("all removed: the prompt alone", _correlation(len(FRACTIONS))),
            ("50 %, linear (Pearson)", lambda found: _decimal(found.pearson[FRACTIONS.index(0.5)])),
        ),
    ),
    (
        "Effects of single units",
        (
            ("same sign alone and in full", lambda found: _percent(found.sign_agreement)),
            ("rank correlation of the two", lambda found: _decimal(found.effect_spearman)),
        ),
    ),
    (
        "Removing units (random ones)",
        (
            ("that help most: lower", lambda found: _against(found.lowered, found.lowered_random)),
            ("that hurt most: higher", lambda found: _against(found.raised, found.raised_random)),
            ("lift over random", lambda found: _decimal(found.lift)),
            ("content over function words", lambda found: _decimal(found.content_ratio)),
        ),
    ),
    (
        "Length",
        (
            ("mean score, nothing kept", lambda found: number(found.mean[-2])),
            ("standard deviation of it", lambda found: number(found.empty_std)),
            ("mean score, all kept", lambda found: number(found.mean[-1])),
            ("standard deviation of it", lambda found: number(found.full_std)),
            ("drift, in that deviation", lambda found: _decimal(found.drift)),
            ("variance that length explains", lambda found: _percent(found.length_r2)),
        ),
    ),
    ("Values that are not finite", (("share", lambda found: _percent(found.nonfinite)),)),
)


def table(result: ProbeResult) -> list[tuple[str, list[str]]]:
    """Rows of a label and a cell for each masking, in the result's order; a heading has no cells."""
    maskings = list(result.measured)
    rows = [("Verdict", [_SHORT[result.judgement(masking).verdict] for masking in maskings])]
    for heading, lines in _ROWS:
        rows.append((heading, []))
        rows += [(label, [cell(result.measured[masking]) for masking in maskings]) for label, cell in lines]
    return rows


def sample(result: ProbeResult) -> str:
    """What was measured, in a sentence."""
    short = f", {result.too_short:,} others have fewer than {MIN_UNITS} units" if result.too_short else ""
    return (
        f"{result.responses:,} responses of {result.mean_units:.1f} units ({result.unit}) on average{short}; "
        f"seed {result.seed}."
    )


def as_text(result: ProbeResult) -> str:
    """The whole result for a terminal of 80 columns (with four maskings): the table, then the verdict in words."""
    lines = [
        fill(sample(result), 80),
        "",
        f"{'credit.masking':{_LABEL}}" + "".join(f"{name:>{_CELL}}" for name in result.measured),
    ]
    for label, cells in table(result):
        indent = "" if label == "Verdict" or not cells else "  "
        lines.append(f"{indent + label:{_LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells))
    lines += ["", *(fill(reason, 80) for reason in result.unsupported.values())]
    return "\n".join([*(line.rstrip() for line in lines), "", fill(result.sentence(), 80)])


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _percent(value: float) -> str:
    if math.isnan(value):
        return "–"
    if 0 < value < 0.0001:
        return "<0.01 %"
    return f"{100 * value:.1g} %" if 0 < value < 0.005 else f"{100 * value:.0f} %"


def _against(share: float, random: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} % ({100 * random:.0f})"
