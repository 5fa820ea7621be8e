"""Two ideas to spend fewer reward-model tokens, tried on real reviews: coalitions that share beginnings, and a budget
shared over a batch.

    python benchmarks/token_trials.py --reward-model imdb/reward --data imdb_test.jsonl.gz

Responses of 20 to 40 tokens, each a player, cut out by token ids. The reference are Shapley values from random orders
and their reverses; its own variance is taken out of the errors. Tokens are those computed where the prompt and every
common beginning are computed once. Writes `token_trials.json` and prints its tables (`results/README.md` has them).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from long_responses import next_of_length
from numpy.typing import NDArray
from review_games import median_interval, sampled_shapley, texts

from scar_ray.games import Estimator, Lengths, Plan, choose, kernel, made_efficient, prefixes
from scar_ray.games.kernel import _least_squares
from scar_ray.games.plan import Coalitions
from scar_ray.records import CreditPlan, Prompt, Response, Units

Array = NDArray[np.float64]
Marginal = tuple[NDArray[np.bool_], int]
"""A coalition without a player, and the player."""
SHORTEST, LONGEST = 20, 40


@dataclass(slots=True)
class Game:
    """Values of coalitions of single tokens; each is computed once."""

    response: Response
    model: Any
    known: dict[bytes, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return self.response.n_tokens

    @property
    def lengths(self) -> Lengths:
        return Lengths(len(self.response.prompt.token_ids), (1,) * self.n)

    def values(self, asked_Cn: NDArray[np.bool_]) -> tuple[Array, None]:
        """Values (C,) of the coalitions."""
        new = np.array([row for row in asked_Cn if row.tobytes() not in self.known])
        if len(new):
            ends = np.vstack([np.zeros((1, self.n), bool), np.ones((1, self.n), bool), new])
            units = Units(tuple(range(1, self.n + 1)), tuple(range(self.n)))
            asked = CreditPlan(units, Plan(ends, np.zeros((self.n, len(ends))), "asked"))
            [answer], _ = self.model.evaluate([(self.response, asked)])
            assert answer.values_C is not None
            self.known |= {row.tobytes(): v for row, v in zip(ends, answer.values_C.tolist(), strict=True)}
        return np.array([self.known[row.tobytes()] for row in asked_Cn]), None

    def solve(self, plan: Plan) -> tuple[Array, int]:
        """Credits (n,) and tokens computed."""
        return plan.credits(self.values(plan.coalitions_Cn)[0]), self.lengths.trie_tokens(plan.coalitions_Cn)


def games(path: Path, reward_model: str, count: int) -> Iterator[Game]:
    from scar_ray.config.schema import RewardModelConfig
    from scar_ray.scoring import RewardModel

    model = RewardModel(RewardModelConfig(path=reward_model), policy_tokenizer=reward_model)
    reviews = texts(path)
    for n in np.linspace(SHORTEST, LONGEST, count).round().astype(int).tolist():
        found = next_of_length(reviews, model.tokenizer, n)
        ids = model.tokenizer(found.text, add_special_tokens=False)["input_ids"]
        prompt = Prompt(0, tuple(model.tokenizer(found.prompt.text)["input_ids"]), found.prompt.text)
        yield Game(replace(found, prompt=prompt, token_ids=tuple(ids)), model)


# Coalitions that share beginnings.


def mean_marginals(n: int, contexts: Sequence[Marginal]) -> Plan:
    """Each player's mean marginal over its contexts, what is missing to v(N) - v(empty) in equal parts."""
    asked, operator_nC = Coalitions(n), np.zeros((n, 2 + 2 * len(contexts)))
    times_n = np.bincount([player for _, player in contexts], minlength=n)
    for without_n, player in contexts:
        with_n = without_n.copy()
        with_n[player] = True
        operator_nC[player, asked.row(with_n)] += 1 / times_n[player]
        operator_nC[player, asked.row(without_n)] -= 1 / times_n[player]
    coalitions_Cn = asked.array().copy()
    return made_efficient(Plan(coalitions_Cn, operator_nC[:, : len(coalitions_Cn)], "contexts"))


def windowed(n: int, width: int, alone: bool) -> Plan:
    """Each token in the beginning that ends `width` tokens after it, and alone; the beginnings cost nothing."""
    places = np.arange(n)
    contexts = [((places < i + 1 + width) & (places != i), i) for i in range(n)]
    if alone:
        contexts += [(np.zeros(n, bool), i) for i in range(n)]
    return mean_marginals(n, contexts)


def regression(rows: Sequence[NDArray[np.bool_]]) -> Plan:
    asked = Coalitions(len(rows[0]))
    for row in rows:
        asked.row(row)
    coalitions_Cn = asked.array().copy()
    return Plan(coalitions_Cn, _least_squares(coalitions_Cn), "regression")


def kernel_with_beginnings(n: int, per_player: int) -> Plan:
    """KernelSHAP of the flat tree with the beginnings of the response, which cost an end each."""
    return regression([*kernel(tuple(range(n)), per_player * n + 2).coalitions_Cn, *prefixes(n).coalitions_Cn])


def cheap_kernel(n: int, per_player: int, of: int) -> Plan:
    """KernelSHAP whose random pairs are each the cheapest of `of` draws, by the tokens that they add."""
    budget = per_player * n + 2
    rng = np.random.default_rng([n, budget])
    flat = choose(tuple(range(n)), "paired_flat", 2 * n + 2).coalitions_Cn
    rows, known = list(flat), {row.tobytes() for row in flat}
    beginnings = {row[:k].tobytes() for row in flat for k in range(1, n + 1)}

    def added(row: NDArray[np.bool_]) -> int:
        return sum(bool(row[k - 1]) and row[:k].tobytes() not in beginnings for k in range(1, n + 1))

    while len(rows) + 2 <= budget:
        size = int(rng.integers(2, n // 2 + 1))
        drawn = [np.isin(np.arange(n), rng.permutation(n)[:size]) for _ in range(of)]
        drawn = [row for row in drawn if row.tobytes() not in known]
        if not drawn:
            continue
        best = min(drawn, key=lambda row: added(row) + added(~row))
        for row in (best, ~best):
            rows.append(row)
            known.add(row.tobytes())
            beginnings |= {row[:k].tobytes() for k in range(1, n + 1)}
    return regression(rows)


def shared_halves(n: int, per_player: int, firsts: int) -> Plan:
    """KernelSHAP on the flat tree and on few random first halves, each with many random second halves."""
    budget, half = per_player * n + 2, n // 2
    rng = np.random.default_rng([n, budget, firsts])
    rows = list(choose(tuple(range(n)), "paired_flat", 2 * n + 2).coalitions_Cn)
    heads = [rng.random(half) < rng.random() for _ in range(firsts)]
    while len(rows) + 2 <= budget:
        row = np.concatenate([heads[int(rng.integers(firsts))], rng.random(n - half) < rng.random()])
        if 0 < row.sum() < n:
            rows += [row, ~row]
    return regression(rows)


def cheap_orders(n: int, pairs: int, of: int) -> Plan:
    """Antithetic orders, each the cheapest of `of` draws."""
    rng, lengths = np.random.default_rng([n, pairs, of]), Lengths(0, (1,) * n)

    def cuts(order: NDArray[np.intp]) -> NDArray[np.bool_]:
        place = np.argsort(order)
        half = place[None, :] < np.arange(n + 1)[:, None]
        return np.concatenate([half, ~half])

    contexts: list[Marginal] = []
    for _ in range(pairs):
        order = min((rng.permutation(n) for _ in range(of)), key=lambda order: lengths.trie_tokens(cuts(order)))
        for one in (order, order[::-1]):
            place = np.argsort(one)
            contexts += [(place < place[i], int(i)) for i in range(n)]
    return mean_marginals(n, contexts)


def present(n: int, estimator: Estimator, per_player: int) -> Plan:
    return choose(tuple(range(n)), estimator, per_player * n + 2)


def designs() -> dict[str, Callable[[int], Plan]]:
    """Plans of n tokens by name; a last number is the coalitions a token."""
    found: dict[str, Callable[[int], Plan]] = {"paired_flat": partial(present, estimator="paired_flat", per_player=2)}
    present_ones: dict[Estimator, tuple[int, ...]] = {
        "kernel": (4, 6, 8, 12, 16),
        "permutations": (2, 4, 6, 8, 12, 16),
        "contiguous": (2, 4, 8),
    }
    for estimator, sizes in present_ones.items():
        found |= {f"{estimator} {k}": partial(present, estimator=estimator, per_player=k) for k in sizes}
    found["prefix"] = prefixes
    found |= {f"windowed {width}": partial(windowed, width=width, alone=True) for width in (0, 2, 4, 8, 16)}
    found |= {f"windowed {width}, not alone": partial(windowed, width=width, alone=False) for width in (2, 4, 8)}
    found |= {f"kernel and beginnings {k}": partial(kernel_with_beginnings, per_player=k) for k in (2, 4, 8)}
    for k in (4, 8, 16):
        found |= {f"kernel, cheapest of {of}, {k}": partial(cheap_kernel, per_player=k, of=of) for of in (1, 4, 16)}
        found |= {f"kernel, {m} first halves, {k}": partial(shared_halves, per_player=k, firsts=m) for m in (4, 16)}
    for k in (2, 4, 8):
        found |= {f"permutations, cheapest of {of}, {k}": partial(cheap_orders, pairs=k // 2, of=of) for of in (4, 16)}
    return found


def compare_designs(found: Sequence[tuple[Game, Array, float]]) -> list[dict[str, Any]]:
    """Tokens a player and error of each design, medians with bootstrap intervals."""
    rows = []
    for name, design in designs().items():
        errors, tokens, asked = [], [], []
        for game, target_n, deviation in found:
            plan = design(game.n)
            credits_n, computed = game.solve(plan)
            squared = ((credits_n - target_n) ** 2).sum() - deviation**2
            errors.append(max(squared, 0.0) ** 0.5 / float(np.linalg.norm(target_n)))
            tokens.append(computed / game.n)
            asked.append(plan.n_coalitions / game.n)
        rows.append(
            {"design": name, "evaluations": float(np.median(asked)), "tokens": float(np.median(tokens))}
            | {"error": median_interval(errors), "mean_error": float(np.mean(errors))}
        )
    return rows


# A budget shared over a batch.

LEVELS = (2, 4, 8, 12, 16, 24)
"""Coalitions a player of KernelSHAP on the flat tree; the first is paired_flat, whose values every level has."""


def compare_sharing(found: Sequence[tuple[Game, Array, float]]) -> list[dict[str, Any]]:
    """Root mean square error of a batch at the tokens of each level: alike, by signals of the first level, by truth."""
    squared, tokens, signals = [], [], []
    for game, target_n, deviation in found:
        plans = [choose(tuple(range(game.n)), "kernel" if k > 2 else "paired_flat", k * game.n + 2) for k in LEVELS]
        solved = [game.solve(plan) for plan in plans]
        squared.append([((credits_n - target_n) ** 2).sum() - deviation**2 for credits_n, _ in solved])
        tokens.append([computed for _, computed in solved])
        values, _ = game.values(plans[0].coalitions_Cn)
        at = {row.tobytes(): v for row, v in zip(plans[0].coalitions_Cn, values, strict=True)}
        single = np.eye(game.n, dtype=bool)
        alone_n = np.array([at[row.tobytes()] for row in single]) - values[0]
        without_n = values[1] - np.array([at[row.tobytes()] for row in ~single])
        so_far_n, _ = game.solve(prefixes(game.n))
        signals.append(
            {
                "alone against all but it": float(((alone_n - without_n) ** 2).sum()),
                "missing to the score": float(((alone_n + without_n) / 2 - solved[0][0]).sum() ** 2),
                "prefix credit against it": float(((so_far_n - solved[0][0]) ** 2).sum()),
            }
        )
    squared_RL, tokens_RL = np.array(squared), np.array(tokens)
    rows = []
    for level in range(1, len(LEVELS) - 1):
        total = tokens_RL[:, level].sum()
        row = {"tokens": float(total), "alike": rms(squared_RL[:, level])}
        for name in signals[0]:
            weight_R = np.array([signal[name] for signal in signals])
            row[name] = rms(allotted(tokens_RL, squared_RL, total, promise(weight_R, tokens_RL)))
        row["by the true errors"] = rms(allotted(tokens_RL, squared_RL, total, gains(squared_RL, tokens_RL)))
        rows.append(row)
    return rows


def rms(squared_R: Array) -> float:
    return float(max(squared_R.mean(), 0.0) ** 0.5)


def promise(weight_R: Array, tokens_RL: Array) -> Array:
    """Believed gain per token of going on to each level: variance falls as one over the tokens, from the signal."""
    believed_RL = weight_R[:, None] * tokens_RL[:, :1] / tokens_RL
    return gains(believed_RL, tokens_RL)


def gains(squared_RL: Array, tokens_RL: Array) -> Array:
    """Fall of the squared error per token on the way to each level after the first."""
    return -np.diff(squared_RL, axis=1) / np.diff(tokens_RL, axis=1)


def allotted(tokens_RL: Array, squared_RL: Array, total: float, gains_RL: Array) -> Array:
    """Squared errors (R,) where levels are raised one by one, most gain first, as long as the total allows it."""
    at = np.zeros(len(tokens_RL), dtype=int)
    spent = tokens_RL[:, 0].sum()
    while True:
        best, most = -1, -np.inf
        for row, level in enumerate(at):
            if level + 1 == tokens_RL.shape[1] or gains_RL[row, level] <= most:
                continue
            if spent + tokens_RL[row, level + 1] - tokens_RL[row, level] <= total:
                best, most = row, gains_RL[row, level]
        if best < 0:
            return squared_RL[np.arange(len(at)), at]
        spent += tokens_RL[best, at[best] + 1] - tokens_RL[best, at[best]]
        at[best] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward-model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--responses", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "estimators")
    arguments = parser.parse_args()
    found = []
    for number, game in enumerate(games(arguments.data, arguments.reward_model, arguments.responses)):
        target_n, deviation = sampled_shapley(game, game.n, arguments.pairs, number)  # type: ignore[arg-type]
        found.append((game, target_n, deviation))
    deviations = [deviation / float(np.linalg.norm(target_n)) for _, target_n, deviation in found]
    result = {
        "responses": arguments.responses,
        "order_pairs": arguments.pairs,
        "reference_error": float(np.median(deviations)),
        "designs": compare_designs(found),
        "sharing": compare_sharing(found),
    }
    (arguments.out / "token_trials.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"reference {result['reference_error']:.3f}")
    for row in result["designs"]:
        error = "{:.3f} ({:.3f} to {:.3f})".format(*row["error"])
        print(f"| {row['design']} | {row['evaluations']:.1f} | {row['tokens']:.1f} | {error} |")
    for row in result["sharing"]:
        print("| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |", list(row))


if __name__ == "__main__":
    main()
