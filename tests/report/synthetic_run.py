"""Makes run folders with realistic values, so that reports can be tested without training anything."""

import json
from pathlib import Path

import numpy as np

HEIGHT = {"sparse": 1.1, "uniform": 1.3, "abc": 1.6, "scar_span": 2.1, "scar_token": 1.9}
"""Reward that the synthetic learning curve of a method comes to."""
PROMPTS = ("The film was", "I went to see", "Honestly , this", "A story of")
BEFORE = (
    ((" slow", -0.62), (" and", -0.03), (" not very", -0.41), (" funny", 0.22), (" .", 0.01)),
    ((" it", 0.02), (" with", 0.0), (" friends who", 0.08), (" fell asleep", -0.93), (" .", -0.02)),
    (
        (" is", 0.01),
        (" a", 0.02),
        (" movie", -0.05),
        (" that I", 0.03),
        (" would never", -0.88),
        (" watch", 0.1),
    ),
    ((" two", 0.0), (" men", -0.02), (" in a", 0.0), (" dull", -0.71), (" town", 0.04), (" .", 0.0)),
)
AFTER = (
    (
        (" not bad", 0.48),
        (" at all", 0.11),
        (" :", 0.0),
        (" a", 0.03),
        (" wonderful", 1.21),
        (" cast .", 0.17),
    ),
    (
        (" it", 0.02),
        (" twice", 0.35),
        (" and", 0.01),
        (" loved", 1.08),
        (" every minute", 0.44),
        (" .", 0.02),
    ),
    (
        (" is", 0.02),
        (" brilliant", 1.17),
        (" ,", 0.0),
        (" if", -0.12),
        (" a little", -0.06),
        (" long .", -0.33),
    ),
    (
        (" love", 0.66),
        (" and", 0.0),
        (" friendship", 0.51),
        (" , told", 0.04),
        (" with great", 0.39),
        (" charm", 0.7),
    ),
)


def write_run(
    folder: Path,
    *,
    credit: str = "scar_span",
    seed: int = 0,
    steps: int = 60,
    planned: int | None = None,
    settings: dict | None = None,
    gold: list[float] | None = None,
) -> Path:
    """A run folder of `steps` steps out of `planned`; `settings` are dotted changes to its configuration.

    With `gold` there is an evaluation before the first step and every ten, with these scores of a second model.
    """
    planned = planned if planned is not None else steps
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "name": folder.name,
        "task": {"name": "demo"},
        "credit": {
            "method": credit.partition("_")[0],
            "unit": credit.partition("_")[2] or "span",
            "alpha": 0.8,
        },
        "algorithm": {"kl": {"coef": 0.05}},
        "cluster": {"device": "cpu"},
        "trainer": {"steps": planned},
    }
    for dotted, value in (settings or {}).items():
        *sections, leaf = dotted.split(".")
        section = config
        for name in sections:
            section = section[name]
        section[leaf] = value
    done = steps == planned
    run = {
        "name": folder.name,
        "task": "demo",
        "credit": credit,
        "seed": seed,
        "versions": {"scar_ray": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpus": 2},
        "started": "2025-06-01T10:00:00+00:00",
        "finished": "2025-06-01T10:04:00+00:00" if done else None,
        "status": "done" if done else "running",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps(run))
    rows = metrics(credit, seed, steps)
    if gold is not None:
        rows = with_evaluations(rows, gold)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if steps:
        lines = samples(1, BEFORE, credit) + (samples(steps, AFTER, credit) if steps > 1 else [])
        (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        logged = [timeline(step, seed) for step in sorted({1, steps})]
        (folder / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
    return folder


def metrics(credit: str, seed: int, steps: int) -> list[dict]:
    """Lines of metrics.jsonl: a saturating learning curve, KL that grows with it, phases, cost by role."""
    rng = np.random.default_rng([seed, *credit.encode()])
    done = np.arange(1, steps + 1) / 60
    reward = -0.4 + HEIGHT.get(credit, 1.5) * (1 - np.exp(-2.2 * done)) + rng.normal(0, 0.09, steps)
    kl = np.maximum(9 * done**1.3 / (1 + done) + rng.normal(0, 0.15, steps), 0.01 * rng.random(steps))
    more = 0.6 if credit.startswith("scar") else 0.0
    times = {"rollout": 0.55, "reward": 0.12 + more, "forward": 0.14, "update": 0.82, "sync": 0.06}
    rows, clock, total = [], 0.0, 0.0
    for t in range(steps):
        spent = {phase: mean * rng.uniform(0.9, 1.15) for phase, mean in times.items()}
        wall = sum(spent.values())
        clock += wall
        costs = {
            "rollout": spent["rollout"],
            "reward": spent["reward"],
            "learner": spent["forward"] + spent["update"] + spent["sync"],
        }
        costs["idle"] = 2 * wall - sum(costs.values())
        total += 2 * wall
        rows.append(
            {
                "step": t + 1,
                "time_s": clock,
                "reward/mean": reward[t],
                "reward/std": 0.9,
                "reward/final_mean": reward[t] - 0.05,
                "kl/k1": kl[t],
                "kl/k3": kl[t] * 0.9,
                "kl/coef": 0.05,
                "length/mean": 14 + 3 * done[t] + rng.normal(0, 0.4),
                "length/eos_share": min(1.0, 0.7 + 0.3 * done[t]),
                "ppo/policy_loss": rng.normal(-0.02, 0.005),
                "ppo/value_loss": 0.4 * np.exp(-done[t]) + 0.05,
                "ppo/entropy": 3.4 - 1.2 * (1 - np.exp(-done[t])) + rng.normal(0, 0.03),
                "ppo/clip_fraction": 0.08 + rng.normal(0, 0.01),
                "ppo/approx_kl": 0.01 + abs(rng.normal(0, 0.002)),
                "ppo/value_error": 0.25 / 2**seed,
                "ppo/explained_variance": None if t == 0 else 0.8 * (1 - np.exp(-3 * done[t])),
                "ppo/grad_norm": 0.7 + rng.normal(0, 0.05),
                "credit/residual_max": 1e-15,
                "credit/evaluations": 900.0,
                "credit/evaluations_unique": 620.0,
                "engine/logprob_gap_max": abs(rng.normal(2e-4, 5e-5)),
                "tokens/generated": 900.0,
                "tokens/per_s": 900 / wall,
                **{f"time/{phase}": seconds for phase, seconds in spent.items()},
                **{f"cost/{role}": seconds for role, seconds in costs.items()},
                "cost/total": total,
            }
        )
    return rows


def with_evaluations(rows: list[dict], gold: list[float]) -> list[dict]:
    """The lines with evaluations at steps 0, 10, 20, ...: a reward that rises from -0.4, gold as given."""
    found = [{"step": 0}, *rows]
    for number, score in enumerate(gold):
        found[10 * number] |= {
            "eval/reward": -0.4 + 0.3 * number,
            "eval/reward_std": 0.5,
            "eval/reward_stderr": 0.05,
            "eval/gold": score,
            "eval/gold_std": 2.0,
            "eval/gold_stderr": 0.2,
            "eval/kl_k1": 0.8 * number**1.3,
            "eval/kl_k3": 0.8 * number**1.3,
            "eval/length": 14.0 + number,
            "eval/eos_share": 0.75,
            "eval/distinct_1": 0.5,
            "eval/distinct_2": 0.8 - 0.05 * number,
            "eval/distinct_3": 0.9,
            "eval/responses": 128.0,
        }
    return found


def samples(step: int, responses: tuple, credit: str) -> list[dict]:
    """Lines of samples.jsonl: the units of each response and their credits."""
    return [
        {
            "step": step,
            "row": row,
            "prompt": PROMPTS[row],
            "response": "".join(text for text, _ in units),
            "score": round(sum(value for _, value in units) + 0.1, 3),
            "final": round(sum(value for _, value in units) + 0.05, 3),
            "finished": row % 2 == 0,
            "base": 0.1,
            "residual": 2.2e-16,
            "method": credit,
            "units": [{"text": text, "credit": value} for text, value in units],
            "rewards": [value for _, value in units],
        }
        for row, units in enumerate(responses)
    ]


def timeline(step: int, seed: int, actors: int = 4) -> dict:
    """A line of timeline.jsonl: two engines, the learner, and reward actors that begin while responses come."""
    rng = np.random.default_rng([seed, step])
    engines = []
    for number in range(2):
        marks = np.sort(rng.uniform(0.25, 0.95 + 0.05 * number, 12)).round(4).tolist()
        spans = [[0.0, marks[-1], f"{len(marks)} responses"]]
        engines.append({"name": f"rollout-{number}", "role": "rollout", "spans": spans, "marks": marks})
    learner = [[1.0, 1.24, "forward"], [1.42, 2.3, "update"], [2.3, 2.38, "sync"]]
    rewards = []
    for number in range(actors):
        spans, at = [], 0.3 + 0.02 * number
        while at < 1.3:
            end = min(at + rng.uniform(0.05, 0.2), 1.4)
            told = f"row {len(spans) * actors + number}, {int(9e4 * (end - at)):,} tokens, waited 0.02 s"
            spans.append([round(at, 4), round(end, 4), told])
            at = end + 0.004
        rewards.append({"name": f"reward-{number}", "role": "reward", "spans": spans, "marks": []})
    lanes = [*engines, {"name": "learner", "role": "learner", "spans": learner, "marks": []}, *rewards]
    return {"step": step, "seconds": 2.4, "lanes": lanes}
