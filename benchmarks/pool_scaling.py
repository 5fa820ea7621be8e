"""How the reward pool scales: 1 to 64 actors whose model is a known delay per token, and real models on 2 actors.

    python benchmarks/pool_scaling.py --actors 1 2 4 8 16 32 64 --out benchmarks/results/pool_scaling

The work grows with the actors: so many responses for each, of 16 to 53 tokens behind a prompt of 450, with the exact
Owen value of every token. A delay stands for the model: an actor answers when `tokens * delay` seconds have gone since
it was asked, so the efficiency, tokens * delay / (actors * seconds of the step), is what the pool itself leaves of the
actors' time, the end of the step included, where some have nothing left to do. Seconds are those from the first
response to the last result; all responses are there at once, which is the most that the pool can be asked at a time.
Actors are started without a claim on CPUs, as sleeping needs none; `--per-process 16` runs 16 of them as threads of one
Ray actor, for machines on which 64 processes would fight for the cores.

The real models are two actors with a random Llama each against one of them, in turns. Where the machine has fewer
free cores than actors, the wall times of real models say nothing; the CPU seconds of the actors do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markdown_table import markdown_table

from scar_ray.games import balanced, owen
from scar_ray.games.tokens import Lengths
from scar_ray.records import CreditPlan, Evaluation, Prompt, Question, Response, Units
from scar_ray.scoring import Workload
from scar_ray.workers.reward_tasks import Job, TaskSizes

PROMPT, SHORTEST, LONGEST = 450, 16, 53
"""Tokens of the prompt and of the responses."""


class Delay:
    """A reward model that takes `delay` seconds for each token it computes, and imports nothing heavy."""

    def __init__(self, name: str, delay: float) -> None:
        self._name, self._delay = name, delay

    def ready(self) -> str:
        return self._name

    def evaluate(self, jobs: Sequence[Job]) -> tuple[list[Evaluation], Workload, float]:
        started = time.perf_counter()
        tokens = sum(cost(*job) for job in jobs)
        found = [None if asked.coalitions_Cn is None else asked.coalitions_Cn.mean(1) for _, asked in jobs]
        values = [Evaluation(0.0 if asked.scored else np.nan, one) for one, (_, asked) in zip(found, jobs, strict=True)]
        time.sleep(max(0.0, started + tokens * self._delay - time.perf_counter()))
        return values, Workload(tokens=tokens, computed_tokens=tokens), tokens * self._delay


def cost(response: Response, asked: Question) -> int:
    """Tokens that a trie computes."""
    prompt = len(response.prompt.token_ids)
    if asked.coalitions_Cn is None or asked.units is None:
        return prompt + response.n_tokens
    lengths = tuple(np.diff((0, *asked.units.ends)).tolist())
    return Lengths(prompt, lengths).trie_tokens(asked.coalitions_Cn)


def responses(count: int, vocabulary: int, prompt: int = PROMPT, seed: int = 0) -> list[Job]:
    """Random responses of different lengths, each token a unit, and the exact Owen value on a balanced tree."""
    rng = np.random.default_rng(seed)
    jobs = []
    for row, length in enumerate(rng.integers(SHORTEST, LONGEST + 1, count).tolist()):
        head, ids = (tuple(rng.integers(3, vocabulary, size).tolist()) for size in (prompt, length))
        spans = tuple((i, i + 1) for i in range(length))
        asked = Prompt(row, head, "")
        response = Response(row, asked, 0, ids, "x" * length, spans, False, np.zeros(length, np.float32), 0, "engine")
        tree = balanced(length)
        jobs.append((response, CreditPlan(Units(tuple(range(1, length + 1)), tree), owen(tree))))
    return jobs


def step(pool: Any, jobs: Sequence[Job]) -> float:
    """Seconds of one step."""
    started = time.perf_counter()
    pool.begin([response.prompt for response, _ in jobs])
    for job in jobs:
        pool.submit(*job)
    pool.results()
    return time.perf_counter() - started


def with_delays(actors: int, delay: float, each: int, per_process: int, sizes: TaskSizes) -> dict[str, float]:
    """One number of actors: tokens, seconds, efficiency, and what the driver's process took."""
    import ray

    from scar_ray.workers.reward_pool import RayRewardPool

    names = [f"reward-{number}" for number in range(actors)]
    actor = ray.remote(Delay).options(num_cpus=0, max_concurrency=per_process)
    handles = [actor.remote(name, delay) for name in names[::per_process]]
    ray.get([handle.ready.remote() for handle in handles])
    served = [handles[number // per_process] for number in range(actors)]
    pool, jobs = RayRewardPool(served, names, sizes), responses(actors * each, 4000)
    step(pool, jobs[:actors])  # connections are made
    driver = time.process_time()
    seconds = step(pool, jobs)
    driver = time.process_time() - driver
    tokens, tasks = pool.work.computed_tokens, len(pool.spans)
    started, ended = (pick(moment) for pick, moment in zip((min, max), times(pool.spans), strict=True))
    pool.close()
    for handle in handles:
        ray.kill(handle)
    return {
        "actors": actors,
        "processes": len(handles),
        "responses": len(jobs),
        "tasks": tasks,
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "seconds_of_tasks": round(ended - started, 3),
        "driver_cpu_s": round(driver, 3),
        "efficiency": round(tokens * delay / actors / seconds, 4),
    }


def times(spans: Sequence[Any]) -> tuple[list[float], list[float]]:
    return [span.started for span in spans], [span.ended for span in spans]


def new_reward_model(folder: Path) -> int:
    """Saves a random Llama of 4 layers of 256 with a tokenizer; returns the size of its vocabulary."""
    import torch

    from scar_ray.config.schema import ArchitectureConfig
    from scar_ray.tasks.grammar import reviews
    from scar_ray.tasks.scratch import new_reward_model, train_tokenizer

    torch.manual_seed(0)
    shape = ArchitectureConfig(
        vocab_size=1000, hidden_size=256, layers=4, heads=4, intermediate_size=1024, max_positions=1024
    )
    tokenizer = train_tokenizer((review.text for review in reviews(0, 500)), shape)
    new_reward_model(shape, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def with_models(folder: Path, count: int, rounds: int, sizes: TaskSizes) -> dict[str, Any]:
    """One and two actors with real models, in turns, on the same responses; medians over the rounds."""
    import ray

    from scar_ray.config.schema import ClusterConfig, RewardModelConfig
    from scar_ray.workers.environment import actor_env
    from scar_ray.workers.reward import RewardOptions, RewardWorker
    from scar_ray.workers.reward_pool import RayRewardPool

    vocabulary = new_reward_model(folder)
    options = RewardOptions(
        model=RewardModelConfig(path=str(folder)),
        policy_tokenizer=str(folder),
        masking="delete",
        device="cpu",
        batch_tokens=16_384,
        attention=False,
        trust_remote_code=False,
        threads=1,
    )
    names, jobs = ["reward-0", "reward-1"], responses(count, vocabulary)
    environment = {"env_vars": actor_env(ClusterConfig())}
    actor = ray.remote(RewardWorker).options(num_cpus=0, runtime_env=environment)
    handles = [actor.remote(name, options) for name in names]
    ray.get([handle.ready.remote() for handle in handles])
    pools = {size: RayRewardPool(handles[:size], names[:size], sizes) for size in (1, 2)}
    rows: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    step(pools[2], jobs[:2])
    for _ in range(rounds):
        for size, pool in pools.items():
            busy = pool.busy_seconds()
            rows[size].append((step(pool, jobs), pool.busy_seconds() - busy))
    seconds = {size: np.median(np.array(found), axis=0).tolist() for size, found in rows.items()}
    tokens = pools[2].work.computed_tokens
    for pool in pools.values():
        pool.close()
    return {
        "responses": count,
        "rounds": rounds,
        "tokens": tokens,
        "seconds": {str(size): round(found[0], 3) for size, found in seconds.items()},
        "efficiency_at_2": round(seconds[1][0] / 2 / seconds[2][0], 3),
        "busy_share_at_2": round(seconds[2][1] / 2 / seconds[2][0], 3),
    }


def plot(rows: Sequence[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    actors, found = [row["actors"] for row in rows], [row["efficiency"] for row in rows]
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    axes.plot(actors, found, "o-", color="#0b62a8")
    axes.set_xscale("log", base=2)
    axes.set_xticks(actors, [str(int(count)) for count in actors])
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("reward actors")
    axes.set_ylabel("efficiency")
    axes.axhline(0.9, color="#999", linewidth=0.8, linestyle=":")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)


def table(rows: Sequence[dict[str, float]]) -> str:
    names = ("actors", "processes", "responses", "tasks", "tokens", "seconds", "driver_cpu_s", "efficiency")
    return markdown_table(names, [[f"{row[name]:,}" for name in names] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--responses", type=int, default=16, help="responses for each actor")
    parser.add_argument("--per-process", type=int, default=1, help="actors that are threads of one process")
    parser.add_argument("--delay", type=float, default=1e-4, help="seconds for a token")
    parser.add_argument("--real", type=int, default=16, help="responses for two real models; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the real models")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pool_scaling"))
    given = parser.parse_args()
    import ray

    paths = os.pathsep.join([str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=500 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    given.out.mkdir(parents=True, exist_ok=True)
    rows, sizes = [], TaskSizes()
    for actors in given.actors:
        rows.append(with_delays(actors, given.delay, given.responses, given.per_process, sizes))
        print(rows[-1], flush=True)
    result: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers")},
        "delay_s": given.delay,
        "task_tokens": sizes.tokens,
        "delays": rows,
    }
    if given.real:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            result["models"] = with_models(Path(folder), given.real, given.rounds, sizes)
        print(result["models"], flush=True)
    ray.shutdown()
    (given.out / "pool_scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / "table.md").write_text(table(rows))
    plot(rows, given.out / "efficiency.png")


if __name__ == "__main__":
    # Actors find the class in the module, not in a script.
    from pool_scaling import main as run

    run()
