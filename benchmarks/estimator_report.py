"""The table and the plots of `estimators.py`, from the JSON files of its parts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from granularity import BUDGETS as UNIT_BUDGETS
from granularity import UNITS
from long_responses import SHAP_DEFAULT, tokens_at_error
from markdown_table import markdown_table
from review_games import median_interval

Rows = list[dict[str, Any]]
SHAP = "shap PartitionExplainer"
SHOWN = (16, 32, 64, 128, 256)
"""Budgets in the table of small games."""


def write_report(folder: Path) -> None:
    """`table.md` and a plot for each part that has been run."""
    sections = []
    for part, section in {"small": small_section, "long": long_section, "units": units_section}.items():
        if (folder / f"{part}.json").exists():
            result = json.loads((folder / f"{part}.json").read_text())
            made = result["made_by"]
            versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
            sections.append(section(result, folder) + f"\n{made['machine']}; Python {made['python']}, {versions}.\n")
    (folder / "table.md").write_text("\n".join(["# Error of the estimators\n", *sections]))


def small_section(result: dict[str, Any], folder: Path) -> str:
    """Median errors at equal evaluations, in two groups of sizes."""
    text = (
        f"## 8 to 14 players, against exact values ({len(result['games'])} responses)\n\nshapiq: {result['shapiq']}.\n"
    )
    for title, low, high in (("8 and 10 players", 8, 10), ("12 and 14 players", 12, 14)):
        rows = [row for row in result["rows"] if low <= row["n"] <= high]
        if not rows:
            continue
        for target in ("shapley", "owen"):
            text += f"\n### {title}: relative L2 error to the {named(target)}, by budget\n\n"
            text += table(rows, SHOWN, lambda row, target=target: row[target]["l2"])
    rows = [row for row in result["rows"] if row["budget"] == 64]
    text += "\n### Budget 64, all sizes, against the Shapley value: median and its 95% bootstrap interval\n\n"
    text += "| estimator | relative L2 error | rank correlation | return error | evaluations | tokens |\n"
    text += "|---" * 6 + "|\n"
    for estimator, group in by_estimator(rows).items():
        cells = ["{:.3f} ({:.3f}-{:.3f})".format(*median_interval([row["shapley"]["l2"] for row in group]))]
        cells += [f"{np.median([row['shapley'][name] for row in group]):.3f}" for name in ("rank", "return")]
        cells += [f"{np.median([row[name] for row in group]):.0f}" for name in ("evaluations", "tokens")]
        text += f"| {estimator} | " + " | ".join(cells) + " |\n"
    for x in ("tokens", "evaluations"):
        large = [row for row in result["rows"] if row["n"] >= 12] or result["rows"]
        plot(curves(large, x, lambda row: row["shapley"]["l2"]), x, "12 and 14 players", folder / f"small_{x}.png")
    return text


def table(rows: Rows, budgets: Sequence[int], error: Callable[[dict[str, Any]], float]) -> str:
    """Estimators x budgets of median errors."""
    lines = []
    for estimator, group in by_estimator(rows).items():
        at = [[error(row) for row in group if row["budget"] == budget] for budget in budgets]
        lines.append([estimator, *(f"{np.median(e):.3f}" if e else "-" for e in at)])
    return markdown_table(["estimator", *map(str, budgets)], lines)


def long_section(result: dict[str, Any], folder: Path) -> str:
    """Errors by tokens relative to those of shap's default, and the tokens at which each reaches shap's error."""
    games, rows = result["games"], result["rows"]
    default = {r["game"]: r["tokens"] for r in rows if r["estimator"] == SHAP and r["budget"] == SHAP_DEFAULT}
    for row in rows:
        row["part"] = row["tokens"] / default[row["game"]]
        row["computed"] = row["shared_tokens"] / default[row["game"]]
        own = games[row["game"]]["reference_error"]
        row["error"] = {
            "shapley": max(row["shapley"]["l2"] ** 2 - own**2, 0.0) ** 0.5,
            "shap_owen": row["shap_owen"]["l2"],
        }
    reference, apart = (np.median([game[name] for game in games]) for name in ("reference_error", "tree_to_shapley"))
    text = (
        f"## 40 to 60 tokens, each a player ({len(games)} responses)\n\n"
        f"Reference: {result['order_pairs']} random orders and their reverses; its relative standard error, median "
        f"{reference:.3f}, is taken out of the errors to the Shapley value (in squares). The complete values of shap's "
        f"tree are {apart:.2f} away from it. Tokens are a share of those that shap's default (max_evals=500) read: of "
        "all sequences, and computed, where an engine computes every common beginning once.\n\n"
        "| estimator | budget | evaluations | tokens | computed | error to Shapley | to the values of shap's tree |\n"
    )
    text += "|---" * 7 + "|\n"
    for estimator, group in by_estimator(rows).items():
        for budget in sorted({row["budget"] for row in group}):
            text += long_row(estimator, str(budget or "any"), [row for row in group if row["budget"] == budget])
    for target in ("shapley", "shap_owen"):
        text += f"\n### Tokens to reach the error of shap's default, to the {named(target)}\n\n"
        text += reached(rows, target)
        lines = curves(rows, "part", lambda row, target=target: row["error"][target])
        plot(
            lines, "tokens / tokens of shap's default", f"40-60 tokens, {named(target)}", folder / f"long_{target}.png"
        )
    return text


def long_row(estimator: str, budget: str, group: Rows) -> str:
    cells = [
        f"{np.median([row['evaluations'] for row in group]):.0f}",
        f"{np.median([row['part'] for row in group]):.3f}",
        f"{np.median([row['computed'] for row in group]):.3f}",
    ]
    cells += ["{:.3f} ({:.3f}-{:.3f})".format(*median_interval([row["error"][t] for row in group])) for t in TARGETS]
    return f"| {estimator} | {budget} | " + " | ".join(cells) + " |\n"


TARGETS = ("shapley", "shap_owen")


def named(target: str) -> str:
    names = {"shapley": "Shapley value", "owen": "tree's Owen value", "shap_owen": "complete values of shap's tree"}
    return names[target]


def reached(rows: Rows, target: str) -> str:
    """For each estimator the share of tokens at which its median curve has the error of shap's default."""
    wanted = np.median([r["error"][target] for r in rows if r["estimator"] == SHAP and r["budget"] == SHAP_DEFAULT])
    text = f"Median error of shap's default: {wanted:.3f}.\n\n"
    text += "| estimator | share of the tokens | computed |\n|---|---|---|\n"
    points = {x: curves(rows, x, lambda row: row["error"][target]) for x in ("part", "computed")}
    for estimator in points["part"]:
        shares = [tokens_at_error(points[x][estimator], float(wanted)) for x in points]
        cells = ["not reached" if share is None else f"{share:.3f}" for share in shares]
        text += f"| {estimator} | " + " | ".join(cells) + " |\n"
    return text


def units_section(result: dict[str, Any], folder: Path) -> str:
    """Mean errors of the fixed units and auto by budget, with the tokens that each read."""
    rows = result["rows"]
    text = f"## Granularity ({len({row['response'] for row in rows})} responses of 8 to 48 tokens)\n"
    for error in ("placed", "spread"):
        text += f"\n### Mean {error} error to the tokens' Shapley values (mean tokens read), by budget\n\n"
        text += "| unit | " + " | ".join(map(str, UNIT_BUDGETS)) + " |\n" + "|---" * (len(UNIT_BUDGETS) + 1) + "|\n"
        for unit in UNITS:
            cells = []
            for budget in UNIT_BUDGETS:
                group = [row for row in rows if row["unit"] == unit and row["budget"] == budget]
                mean = [np.mean([row[name] for row in group]) for name in (error, "tokens")]
                cells.append("{:.3f} ({:.0f})".format(*mean))
            text += f"| {unit} | " + " | ".join(cells) + " |\n"
        named_rows = [row | {"estimator": row["unit"]} for row in rows]
        lines = curves(named_rows, "tokens", lambda row, error=error: row[error], np.mean)
        plot(lines, "mean tokens", f"units, {error} error", folder / f"units_{error}.png")
    return text


def by_estimator(rows: Rows) -> dict[str, Rows]:
    groups: dict[str, Rows] = defaultdict(list)
    for row in rows:
        groups[row["estimator"]].append(row)
    return groups


def curves(
    rows: Rows, x: str, error: Callable[[dict[str, Any]], float], middle: Callable[[Any], Any] = np.median
) -> dict[str, list[tuple[float, float]]]:
    """For each estimator its points (x, error), the middle of the responses at one budget each; cheapest first."""
    found = {}
    for estimator, group in by_estimator(rows).items():
        at: dict[int, Rows] = defaultdict(list)
        for row in group:
            at[row["budget"]].append(row)
        points = {(float(middle([r[x] for r in g])), float(middle([error(r) for r in g]))) for g in at.values()}
        found[estimator] = sorted(points)
    return found


def plot(lines: dict[str, list[tuple[float, float]]], x: str, title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for number, (name, points) in enumerate(lines.items()):
        style = "--" if name.startswith("shap") else "-"
        axes.plot(*zip(*points, strict=True), style, marker="osv^Dx"[number // 10], label=name, ms=4)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel="error", title=title, ylim=(5e-3, 2))
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
