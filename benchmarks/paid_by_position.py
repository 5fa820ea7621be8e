"""What a credit method pays along a response beside what its parts added to the score when they were written.

    python benchmarks/paid_by_position.py runs/tldr/runs/sparse-s0 [--credit scar_span,scar_token] [--out FOLDER]

Takes a run folder and its held-out responses before training (`eval/step-000000.jsonl`; `--step N` for others), and
shares out the score of each by every method and by prefix credit, which pays a token v(beginning with it) - v(beginning
without it). Both sum to v(all) - v(empty). Writes JSON and a table of the mean payments in each quarter of a response's
tokens, with standard errors over responses; a unit is paid at its last token. Under it: how the score of the first
quarter, half, ... of the responses correlates with that of the whole.

A method that pays the end of responses more than it added makes going on look better than it is: where a score
saturates, Shapley values do so, as they are averages over orders in which the end comes first too. One that pays the
end less makes ending look better.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markdown_table import markdown_table
from numpy.typing import NDArray
from reward_comparison import without_nan

from scar_ray.analysis.explain import explain_many
from scar_ray.analysis.explanation import Explanation
from scar_ray.analysis.loading import load_reward_model
from scar_ray.config.load import load_resolved

QUARTERS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with evaluations")
    parser.add_argument("--credit", default="scar_span", help="methods, with commas between")
    parser.add_argument("--step", type=int, default=0, help="the evaluation whose responses are taken")
    parser.add_argument("--limit", type=int, default=128, help="how many responses at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "paid_by_position")
    arguments = parser.parse_args()
    methods = ["prefix", *arguments.credit.split(",")]
    responses = arguments.run / f"eval/step-{arguments.step:06d}.jsonl"
    if not responses.is_file():
        parser.error(f"{responses}: no such evaluation; give a run with eval.every > 0 and one of its steps")
    config = load_resolved(arguments.run / "config.json", (), fixed=())
    lines = responses.read_text().splitlines()[: arguments.limit]
    pairs = [(row["prompt"], row["response"]) for row in map(json.loads, lines)]
    model = load_reward_model(config.model.reward.path, config, "cpu", attention="abc" in methods)
    overrides = ["credit.alpha=1", f"credit.masking={config.credit.masking}"]
    explained = [*explain_many(model, pairs, methods, overrides=overrides)]
    by_method = zip(*explained, strict=True)
    found = {method: np.array([*map(by_quarter, each)]) for method, each in zip(methods, by_method, strict=True)}
    known_Q = correlations(np.array([each.base for each, *_ in explained]), found["prefix"])
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = {
        method: [{"mean": mean, "stderr": stderr} for mean, stderr in over_responses(paid_RQ)]
        for method, paid_RQ in found.items()
    }
    result = {
        "run": arguments.run.name,
        "step": arguments.step,
        "responses": len(pairs),
        "paid": rows,
        "correlations": known_Q,
    }
    (arguments.out / "paid_by_position.json").write_text(json.dumps(without_nan(result), indent=1) + "\n")
    told = ", ".join(f"{known:.2f}" for known in known_Q)
    text = f"{table(found)}\nCorrelation of the scores after each quarter with the final ones: {told}.\n"
    (arguments.out / "paid_by_position.md").write_text(text)
    print(text, end="")


def by_quarter(explained: Explanation) -> NDArray[np.float64]:
    """The credits (4,) paid in each quarter of the response's tokens, a unit's at its last token."""
    ends_n = np.cumsum([unit.n_tokens for unit in explained.units])
    quarters_n = np.ceil(QUARTERS * ends_n / ends_n[-1]).astype(int) - 1
    return np.bincount(quarters_n, [unit.credit for unit in explained.units], QUARTERS)


def correlations(base_R: NDArray[np.float64], prefix_RQ: NDArray[np.float64]) -> list[float]:
    """Pearson's correlation of v(first quarters) with v(all), over responses, for one, two and three quarters.

    NaN where all scores are equal.
    """
    scores_RQ = base_R[:, None] + prefix_RQ.cumsum(1)
    with np.errstate(invalid="ignore"):
        return [float(np.corrcoef(scores_RQ[:, q], scores_RQ[:, -1])[0, 1]) for q in range(QUARTERS - 1)]


def over_responses(paid_RQ: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Mean and standard error of each quarter."""
    stderr_Q = paid_RQ.std(0, ddof=1) / np.sqrt(len(paid_RQ))
    return list(zip(paid_RQ.mean(0).tolist(), stderr_Q.tolist(), strict=True))


def table(found: Mapping[str, NDArray[np.float64]]) -> str:
    """Markdown: the mean payments of each quarter, and of the whole."""
    heads = ("credit", *(f"quarter {i + 1}" for i in range(QUARTERS)), "all")
    rows = []
    for method, paid_RQ in found.items():
        columns = over_responses(np.column_stack([paid_RQ, paid_RQ.sum(1)]))
        rows.append([method, *(f"{mean:.3f} ± {stderr:.3f}" for mean, stderr in columns)])
    return markdown_table(heads, rows)


if __name__ == "__main__":
    main()
