"""Where along a response policies have moved away from their reference: the KL of each position, by credit method.

    python benchmarks/kl_by_position.py runs/imdb/runs/*-s? [--out benchmarks/results/kl_by_position]

Takes run folders, such as those of `reward_per_gpu_hour.py`. From each final policy one response to every held-out
prompt is sampled as in the run, and at each position the KL of the two distributions of the next token is computed in
full, sum_v p(v) log(p(v) / q(v)) in nats; after a response has ended it is 0, so that the sum over positions estimates
the KL of whole responses. Writes JSON, a table by quarters of the longest response, and a plot of every run and the
means of the methods.

It answers what a credit method does to late tokens: rewards that are paid before a token cannot be influenced by it in
its return, so a method that pays early lets late tokens learn less of the score.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markdown_table import markdown_table
from numpy.typing import NDArray
from reward_comparison import Mean, mean_over_seeds, without_nan
from reward_plots import pyplot

from scar_ray.analysis.completing import sampled
from scar_ray.config.load import load_resolved
from scar_ray.config.sampling import Sampling
from scar_ray.objectives.ppo import forbid_early_eos
from scar_ray.records import Prompt
from scar_ray.run_folder import credit_name
from scar_ray.tasks.prompts import load_held_out

QUARTERS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kl_by_position")
    arguments = parser.parse_args()
    found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for run in arguments.runs:
        method, kl_T = run_kl(run)
        found[method].append(kl_T)
        print(f"{run.name}: {kl_T.sum():.2f} nats", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = {method: summary(seeds) for method, seeds in found.items()}
    (arguments.out / "kl_by_position.json").write_text(json.dumps(without_nan(as_json(rows)), indent=1) + "\n")
    (arguments.out / "kl_by_position.md").write_text(table(rows))
    draw(found, arguments.out / "kl_by_position.png")


def run_kl(run: Path) -> tuple[str, NDArray[np.float64]]:
    """The credit method of a finished run, and the KL of its final policy at each position, mean over the prompts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = load_resolved(run / "config.json", (), fixed=())
    tokenizer = AutoTokenizer.from_pretrained(run / "policy")
    policy = AutoModelForCausalLM.from_pretrained(run / "policy").eval()
    reference = AutoModelForCausalLM.from_pretrained(config.model.policy.path).eval()
    prompts = load_held_out(config, tokenizer)
    sampling = config.eval.sampling(config.task.sampling)
    found = position_kl(policy, reference, prompts, sampling, tokenizer.eos_token_id, config.eval.seed)
    return credit_name(config), found


@torch.no_grad()
def position_kl(
    policy: Any, reference: Any, prompts: Sequence[Prompt], sampling: Sampling, eos: int, seed: int
) -> NDArray[np.float64]:
    """KL(policy || reference) of the next token at each response position, mean over responses of the policy.

    Both distributions are those that are sampled from: tempered, without an EOS before `min_new_tokens`.
    """
    torch.manual_seed(seed)
    total_T = np.zeros(sampling.max_new_tokens)
    by_length: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_length[len(prompt.token_ids)].append(prompt)
    for length, alike in sorted(by_length.items()):
        given = torch.tensor([prompt.token_ids for prompt in alike])
        ids = sampled(policy, given, sampling, eos, sampling.min_new_tokens, sampling.max_new_tokens)
        width = ids.shape[1] - length
        logprobs = [
            torch.log_softmax(
                forbid_early_eos(model(ids).logits[:, length - 1 : -1].float(), eos, sampling.min_new_tokens)
                / sampling.temperature,
                dim=-1,
            )
            for model in (policy, reference)
        ]
        chosen_RTV, reference_RTV = logprobs
        each_RT = torch.where(chosen_RTV.isinf(), 0.0, chosen_RTV.exp() * (chosen_RTV - reference_RTV)).sum(-1)
        ended_RT = (ids[:, length:] == eos).cumsum(1) - (ids[:, length:] == eos).long() > 0
        total_T[:width] += each_RT.masked_fill(ended_RT, 0.0).double().sum(0).numpy()
    return total_T / len(prompts)


def summary(seeds: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """The KL of whole responses, the share of each quarter of the positions in it, and all positions of all seeds."""
    shares = np.array([[part.sum() for part in np.array_split(kl_T, QUARTERS)] for kl_T in seeds])
    shares /= shares.sum(1, keepdims=True)
    return {
        "kl": mean_over_seeds([float(kl_T.sum()) for kl_T in seeds]),
        "shares": [mean_over_seeds(column.tolist()) for column in shares.T],
        "positions": [np.round(kl_T, 5).tolist() for kl_T in seeds],
    }


def as_json(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        method: row | {"kl": asdict(row["kl"]), "shares": [asdict(share) for share in row["shares"]]}
        for method, row in rows.items()
    }


def table(rows: Mapping[str, dict[str, Any]]) -> str:
    """Markdown: the KL and where it is."""
    heads = ("credit", "runs", "KL", *(f"share of quarter {i + 1}" for i in range(QUARTERS)))
    cells = [
        [method, str(len(row["positions"])), f"{row['kl'].mean:.2f}", *map(_percent, row["shares"])]
        for method, row in rows.items()
    ]
    return markdown_table(heads, cells)


def _percent(share: Mean) -> str:
    spread = "" if np.isnan(share.low) else f" ± {100 * (share.high - share.mean):.1f}"
    return f"{100 * share.mean:.1f}{spread} %"


def draw(found: Mapping[str, Sequence[NDArray[np.float64]]], file: Path) -> None:
    """Every run thin, the means of the methods thick."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for number, (method, seeds) in enumerate(found.items()):
        positions = np.arange(1, len(seeds[0]) + 1)
        for kl_T in seeds:
            axis.plot(positions, kl_T, color=f"C{number}", linewidth=0.5, alpha=0.5)
        axis.plot(positions, np.mean(seeds, axis=0), color=f"C{number}", linewidth=2, label=method)
    axis.set(xlabel="response token", ylabel="KL to the reference (nats)")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
