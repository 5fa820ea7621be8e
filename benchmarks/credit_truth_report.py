"""The table and the plot of `credit_truth.py`, from its JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("words_rank_correlation", "words_sign_accuracy", "units_rank_correlation", "units_sign_accuracy")
TITLES = ("rank correlation, words", "sign accuracy, words", "rank correlation, units", "sign accuracy, units")


def write_report(folder: Path) -> None:
    """`README.md` and `credit_truth.png`."""
    result = json.loads((folder / "credit_truth.json").read_text())
    (folder / "README.md").write_text(_page(result))
    _plot(result, folder / "credit_truth.png")


def _page(result: dict[str, Any]) -> str:
    model = result["reward_model"]
    text = (
        "# Credit against truth\n\n"
        "Mean and 95% bootstrap interval of the agreement between credits and true contributions, by "
        f"`python benchmarks/credit_truth.py --reviews {result['reviews']}`: {result['reviews']} reviews of the demo's "
        f"grammar, responses of {result['tokens']:.1f} tokens on average. The demo's reward model correlates "
        f"{model['correlation']:.3f} with the true sentiment of these reviews and has its sign on "
        f"{model['sign_accuracy']:.0%}.\n\n"
        "![The tables as a plot](credit_truth.png)\n"
    )
    for source, title in (("reward model", "The reward model's scores, shared out"), ("truth", "The true sentiment")):
        text += f"\n## {title}\n\n| method | units | evaluations | " + " | ".join(TITLES) + " |\n" + "|---" * 7 + "|\n"
        for row in (row for row in result["rows"] if row["values"] == source):
            units = "-" if row["units"] is None else f"{row['units']:.1f}"
            cells = ["{:.2f} ({:.2f} to {:.2f})".format(*row[column][:3]) if row[column] else "-" for column in COLUMNS]
            text += f"| {row['method']} | {units} | {row['evaluations']:.0f} | " + " | ".join(cells) + " |\n"
    return text


def _plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["method"] for row in result["rows"]))
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), sharey=True)
    for axis, column, title in zip(axes, COLUMNS, TITLES, strict=False):
        for shift, source in ((-0.15, "reward model"), (0.15, "truth")):
            rows = [row for row in result["rows"] if row["values"] == source]
            mean, low, high = np.array([row[column][:3] for row in rows]).T
            places = [names.index(row["method"]) + shift for row in rows]
            label = "values of the reward model" if source == "reward model" else "true values"
            axis.errorbar(mean, places, xerr=[mean - low, high - mean], fmt="o", ms=4, capsize=2, label=label)
        axis.set(title=title, yticks=range(len(names)), yticklabels=names)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8, loc="upper right")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
