"""Error of the estimators of scar_ray.games on synthetic games that resemble text.

    python benchmarks/estimators.py [--games 24]

16 words have effects of their own, two of them negate the words up to two places later, three phrases bring a bonus,
and the sum is squashed by tanh; with noise, every coalition's value is disturbed independently. Prints the median
relative L2 error to the exact Shapley value / to the exact Owen value of the tree, at each budget.
"""

from __future__ import annotations

import argparse

import numpy as np

from scar_ray.games import MAX_COALITIONS, balanced, choose, owen, owen_coalitions, shapley

N = 16
BUDGETS = (60, 90, 120, 160, 256, 512)
ESTIMATORS = ("paired_tree", "shifted_trees", "kernel", "permutations", "contiguous", "myerson")
POWERS = 1 << np.arange(N)


def text_game(rng, noise):
    """Values of all 2^N coalitions, an array over bit masks."""
    present = (np.arange(2**N)[:, None] >> np.arange(N) & 1).astype(float)
    worth = rng.normal(size=N)
    negators = {int(i) for i in rng.choice(N, 2, replace=False)}
    v = np.zeros(2**N)
    for i in range(N):
        effect = present[:, i] * worth[i]
        for j in (i - 1, i - 2):
            if j in negators and i not in negators:
                effect = effect * (1 - 1.5 * present[:, j])
        v += effect
    for _ in range(3):
        start, length = rng.integers(0, N - 3), rng.integers(2, 5)
        v += 1.5 * rng.normal() * present[:, start : start + length].all(axis=1)
    v = 4 * np.tanh(0.75 * v / v.std())
    return v + noise * v.std() * rng.normal(size=2**N)


def random_tree(rng, start=0, end=N):
    """A tree over neighbours with two to four children a node."""
    if end - start == 1:
        return start
    k = min(int(rng.integers(2, 5)), end - start)
    cuts = sorted(rng.choice(np.arange(start + 1, end), k - 1, replace=False).tolist())
    return tuple(random_tree(rng, a, b) for a, b in zip([start, *cuts], [*cuts, end], strict=True))


def errors(n_games, noise, shape):
    """Median errors, of shape (budgets, estimators, 2)."""
    found = []
    for seed in range(n_games):
        rng = np.random.default_rng(seed)
        v = text_game(rng, noise)
        tree = balanced(N) if shape == "balanced" else random_tree(rng)
        while owen_coalitions(tree) > MAX_COALITIONS:
            tree = random_tree(rng)

        def credits_of(plan, v=v):
            return plan.credits(v[plan.coalitions_Cn @ POWERS])

        exact = [credits_of(shapley(N)), credits_of(owen(tree))]
        plans = [[choose(tree, estimator, budget) for estimator in ESTIMATORS] for budget in BUDGETS]
        found.append(
            [
                [[np.linalg.norm(credits_of(plan) - e) / np.linalg.norm(e) for e in exact] for plan in row]
                for row in plans
            ]
        )
    return np.median(found, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=24)
    n_games = parser.parse_args().games
    for noise in (0.0, 0.25):
        for shape in ("balanced", "random"):
            print(f"\nnoise {noise}, {shape} trees\nbudget  " + "  ".join(f"{name:>13}" for name in ESTIMATORS))
            for budget, row in zip(BUDGETS, errors(n_games, noise, shape), strict=True):
                print(f"{budget:6}  " + "  ".join(f"{s:6.3f}/{o:6.3f}" for s, o in row))


if __name__ == "__main__":
    main()
