"""Errors of the estimators and of shap's PartitionExplainer on responses of 40 to 60 tokens, every token a player.

Both sides play the same game: v(S) is the score of the string that shap's own text masker makes of S, with a blank as
its mask token, which deletes. shap runs as its users run it, on strings, and every string that it asks for counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from review_games import Game, Scorer, beginnings, errors, sampled_shapley, shared_tokens

from scar_ray.games import Estimator, Plan, Tree, choose
from scar_ray.records import Response
from scar_ray.text.units import segment

Counts = dict[str, int]
"""evaluations; tokens of all sequences; shared_tokens, with common beginnings once, where ours can share them."""
SHAP_BUDGETS = (64, 128, 250, 500, 1000, 2000)
SHAP_DEFAULT = 500
BUDGETS: dict[Estimator, tuple[int, ...]] = {
    "paired_tree": (32, 64, 128, 256),
    "shifted_trees": (256, 384, 512),
    "kernel": (64, 128, 192, 256, 384, 512),
    "permutations": (32, 64, 128, 256, 384, 512),
    "contiguous": (64, 256, 512),
    "myerson": (64, 256, 512),
    "fixed_context_0": (16, 32, 128),
    "fixed_context_1": (32, 128),
}
SHORTEST, LONGEST = 40, 60


def compare(reviews: Iterator[str], tokenizer: Any, scorer: Scorer, count: int, pairs: int) -> dict[str, Any]:
    """Rows for `count` responses, 40 to 60 tokens evenly, and what is known of the reference values."""
    rows: list[dict[str, Any]] = []
    games = []
    for number, n in enumerate(np.linspace(SHORTEST, LONGEST, count).round().astype(int).tolist()):
        response = next_of_length(reviews, tokenizer, n)
        found, game = compare_one(response, tokenizer, scorer, pairs, number)
        rows += [{"game": number, "n": n} | row for row in found]
        games.append({"n": n} | game)
    return {"games": games, "rows": rows, "order_pairs": pairs}


def next_of_length(reviews: Iterator[str], tokenizer: Any, n: int) -> Response:
    """The beginning of n tokens of the next review that has one."""
    for text in reviews:
        for response in beginnings(text, tokenizer, n):
            if response.n_tokens == n:
                return response
    raise ValueError(f"data: no further review has a beginning of {n} tokens; give a file with more reviews")


def compare_one(
    response: Response, tokenizer: Any, scorer: Scorer, pairs: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of one response, and the reference's standard error with shap's complete tree."""
    import shap

    n, text = response.n_tokens, response.text
    masker = shap.maskers.Text(tokenizer, mask_token=" ")
    game = Game(response.prompt.text, lambda present_n: spaced(masker(present_n, text)[0][0]), scorer)
    shap_tree = tree_of(masker.clustering(text))
    units = segment(response, "token", n)
    assert len(units) == n == masker.shape(text)[1], (len(units), n)

    reference_n, error = sampled_shapley(game, n, pairs, seed)
    complete_n, _, complete, _ = partition_explainer(game, masker, text, 10**9)
    targets = {"shapley": reference_n, "shap_owen": complete_n}
    rows = []

    def ids_of(text: str) -> list[int]:
        return [*tokenizer(game.prompt + text)["input_ids"], tokenizer.eos_token_id]

    def add(name: str, budget: int, used: str, credits_n: NDArray[np.float64], counts: Counts) -> None:
        row = {"estimator": name, "budget": budget, "used": used} | counts
        rows.append(row | {target: errors(credits_n, target_n) for target, target_n in targets.items()})

    def solve(name: str, budget: int, plan: Plan) -> None:
        credits_n, tokens = game.credits(plan)
        shared = shared_tokens([ids_of(game.text_of(present_n)) for present_n in plan.coalitions_Cn])
        counts = {"evaluations": plan.n_coalitions, "tokens": tokens, "shared_tokens": shared}
        add(name, budget, plan.estimator, credits_n, counts)

    for budget in SHAP_BUDGETS:
        credits_n, calls, strings, tokens = partition_explainer(game, masker, text, budget)
        counts = {"evaluations": len(strings), "tokens": tokens, "shared_tokens": shared_tokens(map(ids_of, strings))}
        add("shap PartitionExplainer", budget, f"{calls} calls", credits_n, counts)
    for estimator, budgets in BUDGETS.items():
        for budget in budgets:
            solve(estimator, budget, choose(units.tree, estimator, budget))
    for name, tree in {"shap's tree": shap_tree, "flat": tuple(range(n))}.items():
        for estimator in ("paired_tree", "fixed_context_0"):
            solve(f"{estimator}, {name}", 0, choose(tree, estimator, 8 * n))
    norm = float(np.linalg.norm(reference_n))
    return rows, {
        "reference_error": error / norm,
        "complete_shap_evaluations": len(complete),
        "tree_to_shapley": errors(complete_n, reference_n)["l2"],
    }


def partition_explainer(
    game: Game, masker: Any, text: str, max_evals: int
) -> tuple[NDArray[np.float64], int, list[str], int]:
    """shap's values (n,) and what it asked for: calls of the model, all strings and their tokens."""
    import shap

    asked: list[str] = []

    def model(strings: NDArray[np.str_]) -> NDArray[np.float64]:
        texts = [spaced(str(string)) for string in strings]
        values, lengths = game.ask(texts)
        asked.extend(texts)
        tokens.append(int(lengths.sum()))
        return values

    tokens: list[int] = []
    np.random.seed(0)
    explanation = shap.PartitionExplainer(model, masker)([text], max_evals=max_evals, silent=True)
    return np.asarray(explanation.values[0], dtype=float), len(tokens), asked, sum(tokens)


def spaced(string: str) -> str:
    """What follows the prompt for shap's string, which has no blanks at its ends."""
    return f" {string}" if string else ""


def tree_of(linkage: NDArray[np.float64]) -> Tree:
    """The tree of a linkage matrix of n - 1 merges."""
    n = len(linkage) + 1
    made: list[Tree] = list(range(n))
    for left, right in linkage[:, :2].astype(int):
        made.append((made[left], made[right]))
    return made[-1]


def tokens_at_error(points: Sequence[tuple[float, float]], wanted: float) -> float | None:
    """Fewest tokens at which a curve of (tokens, error) reaches the error, interpolated on logarithmic axes.

    None where it never does; the first point's tokens where it does so from the start.
    """
    points = sorted(points)
    if points[0][1] <= wanted:
        return points[0][0]
    for (t0, e0), (t1, e1) in pairwise(points):
        if e1 <= wanted:
            part = np.log(e0 / wanted) / np.log(e0 / e1)
            return float(np.exp(np.log(t0) + part * np.log(t1 / t0)))
    return None
