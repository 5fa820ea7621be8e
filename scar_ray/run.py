"""What `scar-ray train` does once its configuration is valid."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scar_ray import credit
from scar_ray.config.placement import placement
from scar_ray.config.preflight import preflight
from scar_ray.config.schema import Config
from scar_ray.judge.responses import EVALUATIONS, forget_after, write_responses
from scar_ray.parsing.parallel import ParallelParser
from scar_ray.run_folder import credit_name, locked, model_card, new_folder, recorded, write_config
from scar_ray.tasks.arithmetic import wrong_step_metrics
from scar_ray.tasks.truth import truth_metrics
from scar_ray.text.parse import parse
from scar_ray.trainer import checkpoints
from scar_ray.trainer.accounting import Accounting
from scar_ray.trainer.best import BEST, BestPolicy
from scar_ray.trainer.completion import CompletedValues, new_values
from scar_ray.trainer.evaluation import Evaluator, headline, summary
from scar_ray.trainer.experience import Scored
from scar_ray.trainer.loop import StepResult, Trainer
from scar_ray.trainer.metrics import MetricsWriter
from scar_ray.trainer.progress import Progress
from scar_ray.trainer.timeline import pool_metrics, timeline_record, work_metrics

MAX_PARSERS = 8
"""Most processes that parse responses."""
PARSE_SECONDS = 5.0
"""A response whose parse takes longer gets the heuristic's; counted as credit/parse_fallbacks."""


class Stopped(KeyboardInterrupt):
    """The user asked the run to stop; its checkpoint is written."""


def train(config: Config, resume: Path | None = None) -> Path:
    """Trains a policy and returns the run folder. `resume` continues the run in that folder.

    UserError for what the user can put right; ActorFailed, SampleFailed, StaleEngine for what went wrong in a run.
    """
    from scar_ray.workers.environment import show_token

    show_token()
    from scar_ray.workers import cluster

    config = with_models(config)
    preflight(config)
    checkpoint = checkpoints.latest(resume / "checkpoints") if resume else None
    folder = resume or new_folder(config)
    with (
        locked(folder),
        recorded(folder, config),
        Progress(config.trainer.steps, checkpoint[1] if checkpoint else 0) as progress,
    ):
        progress.message(f"run folder: {folder}")
        with parallel_parser(config) as parser, cluster.session(config.cluster):
            progress.message("starting the actors: vLLM engines, DeepSpeed learner, reward models")
            actors = cluster.start(config, progress.message)
            try:
                write_config(folder, actors.config)  # with the reward engine that was measured: --resume keeps it
                Run(actors.config, folder, actors, progress, parser).go(checkpoint)
            finally:
                actors.stop()
        from scar_ray.report import write_report

        progress.message(f"report: {write_report([folder])}")
    return folder


def with_models(config: Config) -> Config:
    """The configuration with the demo's models for those that are not given; trained first if the cache has none."""
    model = config.model
    given = bool(model.policy.path), bool(model.reward.path or model.reward.function)
    if config.task.name != "demo" or all(given):
        return config
    from scar_ray.workers.supervised.demo import ensure_demo_models

    models = ensure_demo_models()
    policy = model.policy if given[0] else model.policy.model_copy(update={"path": str(models.policy)})
    reward = model.reward if given[1] else model.reward.model_copy(update={"path": str(models.reward)})
    return config.model_copy(update={"model": model.model_copy(update={"policy": policy, "reward": reward})})


@contextmanager
def parallel_parser(config: Config) -> Iterator[ParallelParser | None]:
    """Processes with the parser of `credit.parser`; None for the heuristic, which takes no time worth sharing."""
    if config.credit.parser == "heuristic" or config.credit.method not in credit.PARSING:
        yield None
        return
    processes = min(max((os.cpu_count() or 1) // 2, 1), MAX_PARSERS)
    with ParallelParser(config.credit.parser, processes, PARSE_SECONDS) as parser:
        yield parser


class Run:
    """A training run in its folder: steps, logs, samples, checkpoints, and the final policy."""

    def __init__(
        self, config: Config, folder: Path, actors: Any, progress: Progress, parser: ParallelParser | None
    ) -> None:
        from transformers import AutoTokenizer

        from scar_ray.tasks.prompts import load_held_out, load_prompts

        self._config, self._folder, self._actors, self._progress = config, folder, actors, progress
        tokenizer = AutoTokenizer.from_pretrained(
            config.model.policy.path, trust_remote_code=config.model.trust_remote_code
        )
        method = credit.build(**config.credit.method_options(), parser=parse if parser is None else parser.parse)
        self._parser = parser
        prompts = load_prompts(config, tokenizer, say=progress.message)
        self._values = new_values(config, actors.rollout, actors.reward)
        self._trainer = Trainer(config, prompts, method, actors.rollout, self._values, actors.learner, parser)
        self._evaluator = None
        if config.eval.every:
            held_out = load_held_out(config, tokenizer)
            self._evaluator = Evaluator(config, held_out, actors.rollout, actors.reward, actors.learner)
        self._best = BestPolicy(folder, actors.learner, f"eval/{config.eval.select}", model_card(config, folder, True))
        self._fallbacks = 0
        self._stop = False

    def go(self, checkpoint: tuple[Path, int, dict[str, Any]] | None) -> None:
        """Runs all steps that are left. Stopped when the user interrupted the run."""
        config, done = self._config, 0
        writer = MetricsWriter(
            self._folder,
            config.trainer.tensorboard,
            config.trainer.wandb,
            config.model_dump(mode="json"),
            self._folder.name,
            go_on=f"`scar-ray train --resume {self._folder}`",
        )
        cost, elapsed = 0.0, 0.0
        if checkpoint is not None:
            path, done, state = checkpoint
            self._actors.learner.load(path)
            self._trainer.kl.load_state(state["kl"])
            cost, elapsed = state["cost_total"], state["time_s"]
            writer.resume_from(done)
            forget_after(self._folder, done)
            self._progress.message(f"resumed from {path}")
            if not self._best.load_state(state.get("best")):
                self._progress.message("the best policy was of a step that is done again: it is looked for anew")
        self._actors.learner.sync(done)
        self._started = time.perf_counter() - elapsed
        self._accounting = accounting(config, self._actors, cost)
        try:
            with interruptible(self._ask_to_stop):
                if checkpoint is None and self._evaluator is not None:
                    self._log(writer, 0, self._evaluate(0), ())
                for step in range(done + 1, config.trainer.steps + 1):
                    result = self._trainer.step(step - 1)
                    metrics = self._metrics(step, result)
                    if self._is_sampled(step):
                        reward = self._actors.reward
                        writer.write_timeline(step, timeline_record(result.clock, reward.spans, reward.names))
                    if self._is_due(step, config.eval.every):
                        metrics |= self._evaluate(step)
                    self._log(writer, step, metrics, result.scored)
                    is_best = self._is_best(step, metrics)
                    if self._stop or is_best or self._is_due(step, config.trainer.checkpoint_every):
                        self._save(step)
                    if self._stop:
                        raise Stopped(f"stopped after step {step}; continue with --resume {self._folder}")
        finally:
            writer.close()
        self._export()

    def _ask_to_stop(self) -> None:
        self._stop = True
        self._progress.message("stopping: this step is finished and a checkpoint written; Ctrl-C again stops at once")

    def _is_due(self, step: int, every: int) -> bool:
        """Whether something done every so many steps, and after the last one, is done now; 0: never."""
        return every > 0 and (step % every == 0 or step == self._config.trainer.steps)

    def _is_sampled(self, step: int) -> bool:
        """Whether responses and the timeline of this step are kept."""
        return step == 1 or self._is_due(step, self._config.trainer.sample_every)

    def _evaluate(self, step: int) -> dict[str, float]:
        """Measures the policy on the held-out prompts and keeps its responses in the run folder."""
        assert self._evaluator is not None
        started = time.perf_counter()
        measured = self._evaluator.evaluate(step)
        file = self._folder / EVALUATIONS / f"step-{step:06d}.jsonl"
        write_responses(file, [one.to_json() for one in measured])
        return {f"eval/{name}": value for name, value in summary(measured).items()} | {
            "time_s": time.perf_counter() - self._started,
            "time/eval": time.perf_counter() - started,
            **self._accounting.charge_evaluation(),
        }

    def _is_best(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether this step's evaluation was the best one; its policy is exported then."""
        value = metrics.get(f"eval/{self._config.eval.select}")
        return value is not None and self._best.offer(step, value)

    def _metrics(self, step: int, result: StepResult) -> dict[str, float]:
        reward = self._actors.reward
        return result.metrics | {
            "step": float(step),
            "time_s": time.perf_counter() - self._started,
            **work_metrics(reward.work),
            **pool_metrics(result.clock, reward.spans, reward.names),
            **self._parse_fallbacks(),
            **self._generated(),
            **self._truth(result.scored),
            **self._accounting.charge(),
        }

    def _truth(self, scored: Sequence[Scored]) -> dict[str, float]:
        """How near the credits are to the truth, which the demo's grammar and the checker of sums know."""
        credited = ((one.response, one.rewards) for one in scored)
        if self._config.task.name == "arithmetic":
            return wrong_step_metrics(credited)
        if self._config.task.name != "demo":
            return {}
        found = truth_metrics(credited)
        return {f"credit/{name}": value for name, value in found.items()}

    def _log(self, writer: MetricsWriter, step: int, metrics: Mapping[str, float], scored: Sequence[Scored]) -> None:
        writer.write(step, metrics)
        if self._is_sampled(step):
            for one in scored[: self._config.trainer.samples_kept]:
                writer.write_sample(step, one.response, one.score, one.rewards, credit_name(self._config))
        if step > 0:
            self._progress.update(step, metrics)
        if "eval/reward" in metrics:
            found = {name.removeprefix("eval/"): value for name, value in metrics.items() if name.startswith("eval/")}
            self._progress.message(f"held-out prompts after step {step}: {headline(found)}")

    def _parse_fallbacks(self) -> dict[str, float]:
        """Sentences of this step that the parser failed on or was too slow for."""
        if self._parser is None:
            return {}
        before, self._fallbacks = self._fallbacks, self._parser.counts.fallbacks
        return {"credit/parse_fallbacks": float(self._fallbacks - before)}

    def _generated(self) -> dict[str, float]:
        """Tokens that the policy wrote for the values of this step."""
        values = self._values
        return {"credit/generated_tokens": float(values.generated)} if isinstance(values, CompletedValues) else {}

    def _save(self, step: int) -> None:
        state = {
            "kl": self._trainer.kl.state(),
            "best": self._best.state(),
            "cost_total": self._accounting.total,
            "time_s": time.perf_counter() - self._started,
        }
        keep, best = self._config.trainer.keep_checkpoints, self._best.found
        folder = self._folder / "checkpoints"
        checkpoints.save(folder, step, self._actors.learner, state, keep, best.step if best else None)

    def _export(self) -> None:
        policy = self._folder / "policy"
        self._actors.learner.export(policy)
        (policy / "README.md").write_text(model_card(self._config, self._folder))
        self._progress.message(f"policy: {policy}")
        if self._best.found is not None:
            self._progress.message(f"best policy: {self._folder / BEST} (step {self._best.found.step})")


def accounting(config: Config, actors: Any, total: float) -> Accounting:
    """Who is charged for what: GPUs by actor, or CPU threads on CPU clusters; `total` has been charged already."""
    cluster, plan = config.cluster, placement(config.cluster)
    if cluster.device == "cpu":
        weight = dict.fromkeys(("rollout", "learner", "reward"), float(cluster.threads_per_actor))
        held = float(cluster.threads_per_actor * sum(role.actors for role in plan.roles))
    else:
        weight = {
            "rollout": float(cluster.rollout.tensor_parallel),
            "learner": 1.0,
            "reward": cluster.reward.gpus_per_actor * cluster.reward.tensor_parallel,
        }
        held = plan.gpus
    busy = {
        "rollout": actors.rollout.busy_seconds,
        "learner": actors.learner.busy_seconds,
        "reward": actors.reward.busy_seconds,
    }
    return Accounting(busy, weight, held, total)


@contextmanager
def interruptible(stop: Any) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop`, the second one interrupts."""
    asked = False

    def handle(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
