"""Reward per GPU-hour: the same training with several credit methods and seeds, each run a Ray job.

    python benchmarks/reward_per_gpu_hour.py task=imdb methods=sparse,uniform,abc,prefix,scar_token,scar_span seeds=5 \\
        out=runs/imdb_credit trainer.steps=200

Every other word goes to `scar-ray train`. One with several values, `credit.alpha=0,0.5,1`, makes a variant of each
method for each value: that is an ablation. Of several such words all combinations are run, with `vary=each`
one word at a time, the others at their first values. Further words: `jobs=N` runs at the same time (default 1; 0 only
reads what is there), `settings=FILE` a JSON object with the words of single methods
({"abc": ["algorithm.optimizer.lr=1e-4"]}), `first_seed=K`, `baseline=METHOD` (default: the first).

The jobs go to the cluster of `RAY_API_SERVER_ADDRESS`; without that to one that is started on this machine and ended
afterwards. The same command goes on where it was stopped: what is done is not run again. Into `out` come
`comparison.json`, `metrics.csv` (every step of every run), `evaluations.csv`, `curves.png`, with variants
`ablation.png`, and `report.html`. GPU-seconds are those of `cost/*`: every actor is charged for as long as it holds a
device, idle or not; on CPU clusters a device is a CPU thread.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reward_comparison import write_comparison
from train_runs import status, train_words

from scar_ray.config.errors import UserError
from scar_ray.config.overrides import expand_sweep

ROOT = Path(__file__).resolve().parents[1]
_OWN = ("methods", "seeds", "first_seed", "out", "jobs", "settings", "baseline", "vary")
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    jobs: int
    baseline: str
    settings: Mapping[str, Sequence[str]]
    """Words of single methods."""
    words: tuple[str, ...]
    """Words for `scar-ray train`, variants not yet expanded."""
    vary_each: bool = False
    """One word with several values at a time, not all combinations."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run."""

    name: str
    words: tuple[str, ...]


def read_plan(words: Sequence[str]) -> Plan:
    """The plan of a command line. UserError, in one line, for what cannot be read."""
    own: dict[str, str] = {}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: write KEY=VALUE, for example seeds=5")
        if key in ("credit", "seed", "runs", "name"):
            raise UserError(f"{word}: set by this benchmark; use methods=, seeds=, out=")
        if key in _OWN:
            own[key] = value
        else:
            rest.append(word)
    if "methods" not in own or "out" not in own:
        raise UserError("methods= and out= are needed, for example methods=sparse,scar_span out=runs/credit")
    methods = tuple(own["methods"].split(","))
    settings = _settings(own["settings"]) if "settings" in own else {}
    if unknown := sorted(set(settings) - set(methods)):
        raise UserError(f"settings={own['settings']}: {', '.join(unknown)} is not among methods={own['methods']}")
    if (vary := own.get("vary", "all")) not in ("all", "each"):
        raise UserError(f"vary={vary}: all (combinations) or each (word alone)")
    first = _number(own, "first_seed", 0)
    return Plan(
        methods=methods,
        seeds=tuple(range(first, first + _number(own, "seeds", 1))),
        out=Path(own["out"]).absolute(),
        jobs=_number(own, "jobs", 1),
        baseline=own.get("baseline", methods[0]),
        settings=settings,
        words=tuple(rest),
        vary_each=vary == "each",
    )


def _settings(file: str) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"settings={file}: a JSON object is needed ({error})") from None
    return found


def _number(own: Mapping[str, str], key: str, default: int) -> int:
    text = own.get(key, str(default))
    if not text.isdigit():
        raise UserError(f"{key}={text}: a whole number is needed")
    return int(text)


def jobs_of(plan: Plan) -> list[Job]:
    """All runs, seed by seed, so that a stopped benchmark has all methods of the first seeds."""
    variants = expand_sweep(plan.words)
    common = (
        variants[0] if plan.vary_each else [word for word in variants[0] if all(word in other for other in variants)]
    )
    if plan.vary_each:
        variants = [words for words in variants if len(set(words) - set(common)) <= 1]
    found = []
    for seed in plan.seeds:
        for words in variants:
            for method in plan.methods:
                told = [re.sub(r"[^\w.]+", "-", word) for word in words if word not in common]
                name = "-".join([method, *told, f"s{seed}"])
                own = plan.settings.get(method, ())
                found.append(Job(name, (*words, f"credit={method}", *own, f"seed={seed}")))
    return found


def run_job(job: Job, runs: Path, address: str) -> Path:
    """Runs one job to its end, from its last checkpoint where it has one; its output goes to `NAME.log`."""
    folder = runs / job.name
    words = train_words(folder, job.words)
    if words is None:
        return folder
    started = time.monotonic()
    environment = os.environ | {"RAY_API_SERVER_ADDRESS": address}
    command = [str(ROOT / "launch/ray_job.sh"), "train", *words]
    with (runs / f"{job.name}.log").open("ab") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env=environment, start_new_session=True).returncode
    if status(folder) != "done":
        tail = (runs / f"{job.name}.log").read_text(errors="replace").strip().splitlines()[-5:]
        raise UserError(f"{job.name} ended with code {code}; see {log.name}\n  " + "\n  ".join(tail))
    print(f"{job.name}: {time.monotonic() - started:.0f} s", flush=True)
    return folder


def run_jobs(jobs: Sequence[Job], runs: Path, address: str, at_a_time: int) -> None:
    """Runs the jobs in their order. After a failure or Ctrl-C no further one starts; Ctrl-C also stops those under way.

    A stopped run finishes its step and writes a checkpoint.
    """
    with ThreadPoolExecutor(at_a_time) as pool:
        started = [pool.submit(run_job, job, runs, address) for job in jobs]
        try:
            for future in started:
                future.result()
        except BaseException as error:
            for future in started:
                future.cancel()
            if isinstance(error, KeyboardInterrupt):
                print("stopping the jobs; the same command goes on from their checkpoints", flush=True)
                for future, job in zip(started, jobs, strict=True):
                    if future.running():
                        _stop(runs / f"{job.name}.log", address)
            raise


def _stop(log: Path, address: str) -> None:
    """Stops the last job of a log and waits until it has ended."""
    found = re.findall(r"raysubmit_\w+", log.read_text(errors="replace"))
    if found:
        environment = {"RAY_AUTH_MODE": "token"} | os.environ
        stop = [str(Path(sys.executable).parent / "ray"), "job", "stop", "--address", address, found[-1]]
        subprocess.run(stop, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def cluster(runs: Path) -> Iterator[str]:
    """Address of the job server: that of the environment, else of a cluster on this machine, ended with the block."""
    if address := os.environ.get("RAY_API_SERVER_ADDRESS"):
        yield address
        return
    log = runs / "cluster.log"
    with socket.create_server(("", 0)) as free:  # the agent's own port is taken where another Ray runs
        agent = f"--dashboard-agent-listen-port={free.getsockname()[1]}"
    with log.open("wb") as out:
        head = subprocess.Popen(
            [str(ROOT / "launch/start_node.sh"), "head", agent, "--block"],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_S
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if head.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"no Ray cluster could be started here; see {log}")
            time.sleep(0.5)
        yield "http://127.0.0.1:8265"
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(60)


def main(words: Sequence[str]) -> int:
    try:
        plan = read_plan(words)
        runs = plan.out / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        jobs = jobs_of(plan)
        if plan.jobs and any(status(runs / job.name) != "done" for job in jobs):
            with cluster(runs) as address:
                run_jobs(jobs, runs, address, plan.jobs)
        folders = [runs / job.name for job in jobs if status(runs / job.name) is not None]
        if not folders:
            raise UserError(f"{runs} holds no run yet; leave jobs=0 out")
        command = "python benchmarks/reward_per_gpu_hour.py " + " ".join(words)
        print(write_comparison(folders, plan.out, plan.baseline, command))
    except (UserError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
