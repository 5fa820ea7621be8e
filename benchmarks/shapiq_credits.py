"""shapiq's estimators on tables of values: `python shapiq_credits.py tables.npz credits.json`.

Needs numpy and shapiq only, so that it can run in an environment of its own. `tables.npz` has `budgets` and
arrays of 2^n values over bit masks, one for each game.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import shapiq

ESTIMATORS = {
    "shapiq KernelSHAP": shapiq.KernelSHAP,
    "shapiq permutation": shapiq.PermutationSamplingSV,
    "shapiq SVARM": shapiq.SVARM,
}


def credits(approximator, values, n, budget):
    """Shapley values (n,) and the bit masks that were asked for, repeats included."""
    asked = []

    def game(coalitions):
        rows = np.atleast_2d(coalitions).astype(int) @ (1 << np.arange(n))
        asked.extend(rows.tolist())
        return values[rows]

    found = approximator(n=n, random_state=0).approximate(budget=budget, game=game)
    return found.get_n_order_values(1), asked


def main():
    with np.load(sys.argv[1]) as tables:
        budgets, games = tables["budgets"].tolist(), [tables[name] for name in sorted(set(tables.files) - {"budgets"})]
    rows = []
    for number, values in enumerate(games):
        n = len(values).bit_length() - 1
        for name, approximator in ESTIMATORS.items():
            for budget in (budget for budget in budgets if budget < len(values)):
                credits_n, asked = credits(approximator, values, n, budget)
                row = {"game": number, "estimator": name, "budget": budget}
                rows.append(row | {"asked": asked, "credits": credits_n.tolist()})
    Path(sys.argv[2]).write_text(json.dumps({"version": shapiq.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
