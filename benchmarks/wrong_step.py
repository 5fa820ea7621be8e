"""Does credit land on the step that broke the answer? Against the known first wrong step of sums in several steps.

    scar-ray sft task=arithmetic
    python benchmarks/wrong_step.py --policy models/arithmetic/policy

The policy answers held-out problems of `task=arithmetic`; counted are those with a wrong answer and a wrong line,
of which the checker knows the first (`scar_ray.tasks.arithmetic`). Every method shares out the reward over the lines:
`prefix` by completion with several numbers of completions, and `prefix` and `scar_sentence` of the masked response,
`uniform` and `sparse` as rivals. Measured are how often the first wrong line has the lowest credit (a tie counts as one
chance among the tied), its mean rank from the lowest, 1, and the tokens generated for the values of a response. All
of it again for the responses that had a chance: other completions of what stands before the wrong line were right at
least one time in four. Where the policy fails whatever it writes, no step of it breaks the answer.
Writes `wrong_step.json`, `table.md` and `wrong_step.png`. Credits and counts do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.load import load
from scar_ray.config.schema import Config
from scar_ray.credit import build
from scar_ray.records import CreditPlan, Evaluation, FloatArray, Prompt, Response, SequenceScore, TokenRewards, Units
from scar_ray.run_folder import hardware, versions
from scar_ray.tasks.arithmetic import rank_of, wrong_unit
from scar_ray.text.units import segment

RIVALS = {
    "prefix, masked": ("credit=prefix", "credit.unit=sentence"),
    "scar_sentence, masked": ("credit=scar_sentence",),
    "uniform": ("credit=uniform",),
    "sparse": ("credit=sparse",),
}
COMPLETIONS = (1, 2, 4, 8, 16, 32)
MAX_LINES = 64
Q95 = 1.96
JUDGES, HAD_A_CHANCE = 32, 0.25
"""Completions, with another seed, that tell whether a response had a chance; and from which share of right ones on."""

Broken = Sequence[tuple[Response, Units, int]]
"""Responses, their lines, and the number of the first wrong one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, required=True, help="folder that `scar-ray sft task=arithmetic` wrote")
    parser.add_argument("--prompts", type=int, default=400, help="held-out problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "wrong_step")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = compare(arguments.policy, arguments.prompts, arguments.seed)
    (arguments.out / "wrong_step.json").write_text(json.dumps(result, indent=1) + "\n")
    write_report(result, arguments.out)


def settings(policy: Path, prompts: int, *more: str) -> Config:
    return load(["task=arithmetic", f"model.policy.path={policy.absolute()}", f"eval.prompts={prompts}", *more])


def compare(policy: Path, prompts: int, seed: int) -> dict[str, Any]:
    """A row for each method, over the same responses; engine and reward live in this process."""
    from transformers import AutoTokenizer

    from scar_ray.tasks.prompts import load_held_out
    from scar_ray.trainer.experience import requests_of_step
    from scar_ray.workers.environment import engine_env

    config = settings(policy, prompts, f"seed={seed}")
    os.environ.update(engine_env(config.cluster))  # before vLLM is imported
    held_out = load_held_out(config, AutoTokenizer.from_pretrained(policy))
    engine, reward = new_engine(config), LocalReward(config)
    responses = sorted(engine.generate(requests_of_step(held_out, 1, 0, seed)), key=lambda response: response.row)
    broken = [
        (response, lines, wrong)
        for response in responses
        if len(lines := segment(response, "sentence", MAX_LINES)) > 1
        and (wrong := wrong_unit(response, lines)) is not None
    ]
    sizes = [len(lines) for _, lines, _ in broken]
    judge = settings(policy, prompts, "credit=prefix_complete", f"credit.completions={JUDGES}", f"seed={seed + 1}")
    chances = chances_before(judge, engine, reward, broken)
    could = np.array(chances) >= HAD_A_CHANCE
    return {
        "policy": json.loads((policy / "summary.json").read_text()),
        "seed": seed,
        "responses": len(responses),
        "broken": len(broken),
        "lines": float(np.mean(sizes)),
        "chance": float(np.mean([1 / size for size in sizes])),
        "wrong_line": np.bincount([wrong for _, _, wrong in broken]).tolist(),
        "versions": versions(),
        "hardware": hardware(config),
        "had_a_chance": int(could.sum()),
        "chances_before": chances,
        "rows": list(_rows(policy, prompts, seed, engine, reward, broken, could)),
    }


def chances_before(config: Config, engine: Any, reward: LocalReward, broken: Broken) -> list[float]:
    """Value of what stands before the first wrong line of each response."""
    from scar_ray.trainer.completion import CompletedValues

    method, values = build(**config.credit.method_options()), CompletedValues(config, engine, reward)
    values.begin([response.prompt for response, _, _ in broken])
    for row, (response, _, _) in enumerate(broken):
        values.submit(replace(response, row=row), method.plan(response))
    answers = values.results()
    chances = []
    for row, (_, _, wrong) in enumerate(broken):
        values_C = answers[row].values_C
        assert values_C is not None
        chances.append(float(values_C[0 if wrong == 0 else wrong + 1]))  # nothing, all, the first line...
    return chances


def new_engine(config: Config) -> Any:
    """A vLLM engine with the policy, in this process."""
    from scar_ray.workers.rollout import EngineOptions, RolloutWorker

    model, cluster = config.model.policy, config.cluster
    options = EngineOptions(
        model.path, model.dtype, "cpu", "object_store", False, cluster.rollout, config.task.sampling
    )
    return RolloutWorker("rollout-0", options)


class LocalReward:
    """Scores responses and coalitions in this process."""

    def __init__(self, config: Config) -> None:
        from scar_ray.scoring import FunctionReward

        self._function = FunctionReward(config.model.reward)

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        del prompts, more
        self._jobs: list[tuple[Response, CreditPlan]] = []

    def submit(self, response: Response, plan: CreditPlan) -> None:
        self._jobs.append((response, plan))

    def results(self) -> dict[int, Evaluation]:
        evaluations, _ = self._function.evaluate(self._jobs)
        return {response.row: found for (response, _), found in zip(self._jobs, evaluations, strict=True)}


def _rows(
    policy: Path, prompts: int, seed: int, engine: Any, reward: LocalReward, broken: Broken, could: NDArray[np.bool_]
) -> Iterator[dict[str, Any]]:
    from scar_ray.trainer.completion import CompletedValues

    for samples in COMPLETIONS:
        words = ("credit=prefix_complete", f"credit.completions={samples}", f"seed={seed}")
        config = settings(policy, prompts, *words)
        values = CompletedValues(config, engine, reward)
        yield {
            "method": "prefix, completed",
            "completions": samples,
            **_measured(config, values, broken, could),
            "generated": values.generated / len(broken),
        }
    for name, words in RIVALS.items():
        found = _measured(settings(policy, prompts, *words), reward, broken, could)
        yield {"method": name, "completions": None, **found, "generated": 0.0}


def _measured(config: Config, values: Any, broken: Broken, could: NDArray[np.bool_]) -> dict[str, float]:
    """Share of the responses whose first wrong line has the lowest credit, with a 95% interval, and its mean rank."""
    method = build(**config.credit.method_options())
    plans = [method.plan(response) for response, _, _ in broken]
    values.begin([response.prompt for response, _, _ in broken])
    for row, ((response, _, _), plan) in enumerate(zip(broken, plans, strict=True)):
        values.submit(replace(response, row=row), plan)
    answers: dict[int, Evaluation] = values.results()
    lowest, ranks = [], []
    for row, ((response, lines, wrong), plan) in enumerate(zip(broken, plans, strict=True)):
        score = SequenceScore(answers[row].score, 1.0, 0.0)
        credits_n = line_credits(method.assign(response, plan, answers[row], score), lines).round(9)
        least = credits_n == credits_n.min()
        lowest.append(float(least[wrong] / least.sum()))
        ranks.append(rank_of(credits_n, wrong))
    found = _means(np.array(lowest), np.array(ranks))
    return found | {
        f"{name}_chance": one for name, one in _means(np.array(lowest)[could], np.array(ranks)[could]).items()
    }


def _means(lowest: FloatArray, ranks: FloatArray) -> dict[str, float]:
    error = Q95 * float(lowest.std(ddof=1)) / len(lowest) ** 0.5
    return {"lowest": float(lowest.mean()), "interval": error, "rank": float(ranks.mean())}


def line_credits(rewards: TokenRewards, lines: Units) -> FloatArray:
    """The method's own where its units are the lines, else what their tokens are paid, the EOS with the last line."""
    if rewards.units.ends == lines.ends:
        return rewards.credits_n
    return np.add.reduceat(rewards.rewards_T, lines.starts)


def write_report(result: dict[str, Any], out: Path) -> None:
    lines = [
        "| credit | completions | first wrong line has the lowest credit | mean rank "
        "| the same where there was a chance | mean rank | generated tokens a response |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        samples = "" if row["completions"] is None else row["completions"]
        lines.append(
            f"| {row['method']} | {samples} | {row['lowest']:.3f} ± {row['interval']:.3f} | {row['rank']:.2f} "
            f"| {row['lowest_chance']:.3f} ± {row['interval_chance']:.3f} | {row['rank_chance']:.2f} "
            f"| {row['generated']:.0f} |"
        )
    chance = f"chance: {result['chance']:.3f}; {result['broken']} broken of {result['responses']} responses, "
    chance += f"{result['had_a_chance']} of them had a chance"
    (out / "table.md").write_text("\n".join([*lines, "", chance]) + "\n")
    print("\n".join([*lines, chance]))
    _plot(result, out / "wrong_step.png")


def _plot(result: dict[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5))
    completed = [row for row in result["rows"] if row["completions"] is not None]
    places = [row["completions"] for row in completed]
    errors = [row["interval"] for row in completed]
    axis.errorbar(places, [row["lowest"] for row in completed], yerr=errors, marker="o", capsize=3, label="completed")
    errors = [row["interval_chance"] for row in completed]
    lowest, label = [row["lowest_chance"] for row in completed], "completed, where there was a chance"
    axis.errorbar(places, lowest, yerr=errors, marker="s", capsize=3, label=label)
    for style, row in zip(("--", "-.", ":", (0, (1, 3))), result["rows"][len(completed) :], strict=True):
        axis.axhline(row["lowest"], linestyle=style, color="grey", label=row["method"])
    axis.set(
        xscale="log",
        xticks=places,
        xticklabels=places,
        ylim=(0, 1.02),
        xlabel="completions of each beginning",
        ylabel="first wrong line has the lowest credit",
    )
    axis.minorticks_off()
    axis.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
