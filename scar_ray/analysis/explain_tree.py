"""The hierarchy of a response's units, drawn above them."""

from __future__ import annotations

from collections.abc import Sequence

from scar_ray.analysis.explanation import ExplainedUnit, Explanation, decimals, one_line, signed
from scar_ray.games.tree import Tree, leaves
from scar_ray.report.responses import clean

_LEVEL, _TOP = 22, 8
"""Pixels from a node to the one above it, and above the root."""
_CHARACTER, _NARROW, _WIDE = 8, 62, 200
"""Pixels of a character, and of the narrowest and the widest unit."""


def draw_tree(found: Explanation, scale: float) -> str:
    """The tree above its units as a figure; a node tells the sum of the credits below it."""
    columns = [_width(unit) for unit in found.units]
    lefts = [sum(columns[:index]) for index in range(len(columns))]
    centres = [left + width / 2 for left, width in zip(lefts, columns, strict=True)]
    height = _TOP + _LEVEL * _height(found.tree)
    lines, nodes = _Drawing(found, centres, height, scale).parts()
    total = sum(columns)
    leaves_html = "".join(_leaf(unit, scale) for unit in found.units)
    return (
        f'<figure class="tree"><figcaption><h3>Tree of {clean(found.credit)}</h3></figcaption>'
        '<div class="across" role="region" aria-label="Tree of the units" tabindex="0">'
        f'<svg width="{total}" height="{height}" viewBox="0 0 {total} {height}" role="img" '
        f'aria-label="Hierarchy of {len(columns)} units"><path d="{lines}"/>{nodes}</svg>'
        f'<div class="leaves" style="width:{total}px;grid-template-columns:'
        f'{" ".join(f"{width}px" for width in columns)}">{leaves_html}</div></div></figure>'
    )


class _Drawing:
    """Lines and nodes of one tree, leaves at the bottom."""

    def __init__(self, found: Explanation, centres: Sequence[float], bottom: int, scale: float) -> None:
        self._found, self._centres, self._bottom, self._scale = found, centres, bottom, scale
        self._lines: list[str] = []
        self._nodes: list[str] = []

    def parts(self) -> tuple[str, str]:
        """The path of all lines, and the nodes as SVG."""
        self._place(self._found.tree)
        return "".join(self._lines), "".join(self._nodes)

    def _place(self, tree: Tree) -> tuple[float, float]:
        """Draws what is below a node; returns where the node is."""
        if isinstance(tree, int):
            return self._centres[tree], self._bottom
        below = [self._place(child) for child in tree]
        x, y = (below[0][0] + below[-1][0]) / 2, self._bottom - _LEVEL * _height(tree)
        self._lines += [f"M{child_x:.1f} {child_y:.0f}V{y:.0f}H{x:.1f}" for child_x, child_y in below]
        units = [self._found.units[index] for index in leaves(tree)]
        credit = signed(sum(unit.credit for unit in units), decimals(self._scale))
        text = clean(one_line("".join(unit.text for unit in units).strip()))
        self._nodes.append(f'<circle cx="{x:.1f}" cy="{y:.0f}" r="3.5"><title>{credit}: {text}</title></circle>')
        return x, y


def _height(tree: Tree) -> int:
    """Levels above the leaves."""
    return 0 if isinstance(tree, int) else 1 + max(map(_height, tree))


def _width(unit: ExplainedUnit) -> int:
    return min(_WIDE, max(_NARROW, _CHARACTER * len(unit.text.strip()) + 20))


def _leaf(unit: ExplainedUnit, scale: float) -> str:
    kind = "pos" if unit.credit > 0 else "neg" if unit.credit < 0 else "nil"
    size = min(1.0, abs(unit.credit) / scale)
    text, credit = clean(one_line(unit.text.strip(" "))) or "·", signed(unit.credit, decimals(scale))
    return f'<div class="leaf {kind}" style="--s:{size:.3f}"><span dir="auto">{text}</span><b>{credit}</b></div>'
