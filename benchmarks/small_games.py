"""Errors of the estimators on games small enough for exact values: 8 to 14 words or phrases of real reviews."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from review_games import Game, Scorer, beginnings, deletion_game, errors

from scar_ray.games import MAX_COALITIONS, Estimator, Tree, choose, owen, owen_coalitions, shapley
from scar_ray.text.units import Unit, segment

BUDGETS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
ESTIMATORS: tuple[Estimator, ...] = (
    "owen", "paired_tree", "shifted_trees", "kernel", "permutations", "contiguous", "myerson",
    "fixed_context_0", "fixed_context_1",
)  # fmt: skip
SIZES: tuple[tuple[int, Unit, int], ...] = (
    (8, "word", 7), (8, "span", 7), (10, "word", 7), (10, "span", 7), (12, "word", 10), (14, "word", 4),
)  # fmt: skip
"""Players, their kind and how many games."""
QUICK_SIZES: tuple[tuple[int, Unit, int], ...] = ((8, "word", 3), (10, "word", 1))


@dataclass(frozen=True, slots=True)
class Table:
    """All values of one game."""

    n: int
    unit: str
    tree: Tree
    values: NDArray[np.float64]
    """2^n values over bit masks; bit i is player i."""
    tokens: NDArray[np.int64]
    """Reward-model tokens of each of them."""

    def rows(self, coalitions_Cn: NDArray[np.bool_]) -> NDArray[np.intp]:
        return coalitions_Cn @ (1 << np.arange(self.n))


def tables(
    reviews: Iterator[str], tokenizer: Any, scorer: Scorer, sizes: Sequence[tuple[int, Unit, int]]
) -> list[Table]:
    """The tables of the first reviews that have a beginning of so many players."""
    found = []
    for n, unit, count in sizes:
        left = count
        while left:
            for response in beginnings(next(reviews), tokenizer, 5 * n):
                units = segment(response, unit, 64)
                if len(units) == n and owen_coalitions(units.tree) <= MAX_COALITIONS:
                    found.append(table(deletion_game(response, units, scorer, {}), n, unit, units.tree))
                    left -= 1
                    break
    return found


def table(game: Game, n: int, unit: str, tree: Tree) -> Table:
    members = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
    return Table(n, unit, tree, *game.values(members))


def compare(found: Sequence[Table], budgets: Sequence[int], shapiq_python: str | None) -> dict[str, Any]:
    """One row for each game, estimator and budget: evaluations, tokens, errors to Shapley and to Owen values."""
    rows = []
    for number, one in enumerate(found):
        exact = {"shapley": shapley(one.n), "owen": owen(one.tree)}
        targets = {name: plan.credits(one.values[one.rows(plan.coalitions_Cn)]) for name, plan in exact.items()}
        for estimator in ESTIMATORS:
            for budget in budgets:
                if estimator == "owen" and owen_coalitions(one.tree) > budget:
                    continue
                plan = choose(one.tree, estimator, budget)
                at = one.rows(plan.coalitions_Cn)
                credits_n = plan.credits(one.values[at])
                rows.append(
                    {"game": number, "n": one.n, "estimator": estimator, "budget": budget}
                    | {"used": plan.estimator, "evaluations": len(at), "tokens": int(one.tokens[at].sum())}
                    | {name: errors(credits_n, target_n) for name, target_n in targets.items()}
                )
    version = "not installed"
    if shapiq_python is not None:
        version, theirs = shapiq_rows(found, budgets, shapiq_python)
        rows += theirs
    games = [{"n": one.n, "unit": one.unit, "tokens": int(one.tokens[-1])} for one in found]
    return {"games": games, "rows": rows, "shapiq": version}


def shapiq_rows(found: Sequence[Table], budgets: Sequence[int], python: str) -> tuple[str, list[dict[str, Any]]]:
    """shapiq's version and rows, from a Python that has it, on the same tables."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "tables.npz", Path(folder) / "credits.json"
        np.savez(source, budgets=np.array(budgets), **{f"v{i:03d}": one.values for i, one in enumerate(found)})
        program = Path(__file__).with_name("shapiq_credits.py")
        subprocess.run([python, str(program), str(source), str(made)], check=True)
        answer = json.loads(made.read_text())
    rows = []
    for row in answer["rows"]:
        one, asked = found[row["game"]], np.array(row.pop("asked"))
        credits_n = np.array(row.pop("credits"))
        exact = {"shapley": shapley(one.n), "owen": owen(one.tree)}
        rows.append(
            row
            | {"n": one.n, "used": row["estimator"], "evaluations": len(asked), "tokens": int(one.tokens[asked].sum())}
            | {
                name: errors(credits_n, plan.credits(one.values[one.rows(plan.coalitions_Cn)]))
                for name, plan in exact.items()
            }
        )
    return answer["version"], rows
