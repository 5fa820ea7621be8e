"""The training loop: policy optimisation with token rewards, on anything that fulfils the three protocols.

prompts -> rollout -> responses -> credit.plan -> reward pool -> evaluations -> credit.assign -> token rewards
                          |                                                                        |
                          +-----> learner.forward (log-probs, reference, values) ------------------+
                                                                                                   v
                      rollout <- weight sync <- learner.update (epochs x mini-batches) <- KL, advantages

who waits for whom: the reward pool scores responses while others are generated and while the learner computes
its forward pass; the update waits for both; the next rollout waits for the weight sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scar_ray.config.schema import Config
from scar_ray.credit import CreditMethod
from scar_ray.credit.audit import audit, audit_plan, pick
from scar_ray.objectives.kl import AdaptiveKL, FixedKL
from scar_ray.objectives.schedule import lr_multiplier
from scar_ray.records import CreditPlan, Prompt, Response
from scar_ray.trainer.agreement import check_engines
from scar_ray.trainer.experience import (
    Scored,
    ppo_batch,
    prompts_of_step,
    requests_of_step,
    score_response,
    sequences_of,
    value_metrics,
)
from scar_ray.trainer.protocols import Learner, Parsing, PPOBatch, RewardPool, RolloutPool
from scar_ray.trainer.timeline import Clock


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one training step leaves behind."""

    metrics: dict[str, float]
    scored: list[Scored]
    clock: Clock
    """When what happened."""


class Trainer:
    """Runs training steps; holds no random state: every choice is a function of (seed, step, prompt, sample)."""

    def __init__(
        self,
        config: Config,
        prompts: Sequence[Prompt],
        credit: CreditMethod,
        rollout: RolloutPool,
        reward: RewardPool,
        learner: Learner,
        parsing: Parsing | None = None,
    ) -> None:
        """`parsing` is what `credit` gets its constituents from, where that takes time."""
        self._parsing = parsing
        self._config, self._prompts, self._credit = config, prompts, credit
        self._rollout, self._reward, self._learner = rollout, reward, learner
        # An audit asks for so many coalitions more that completing them would cost more than the step.
        self._can_audit = credit.plays_game and config.credit.value == "mask"
        kl = config.algorithm.kl
        self.kl: FixedKL | AdaptiveKL = (
            FixedKL(kl.coef) if kl.controller == "fixed" else AdaptiveKL(kl.coef, kl.target, kl.horizon)
        )

    def step(self, step: int) -> StepResult:
        """Training step number `step`, counted from 0: sample, score, share out, learn, sync."""
        algorithm, clock = self._config.algorithm, Clock()
        with clock.phase("rollout"):
            responses, plans = self._sample(step, clock)
            audited = self._submit_audit(step, responses, plans)
        sequences = sequences_of(responses)
        with clock.phase("forward"):
            forward = self._learner.forward(sequences)
        gaps = check_engines(self._config, self._config.task.sampling, responses, forward.logprobs_BT, version=step)
        with clock.phase("reward"):
            evaluations = self._reward.results()
        scored = [
            score_response(r, plans[r.row], evaluations[r.row], self._credit, algorithm, self._config.task.sampling)
            for r in responses
        ]
        batch, metrics = ppo_batch(scored, sequences, forward, algorithm, self.kl.coef, self._lr_scale(step))
        metrics["kl/coef"] = self.kl.coef
        metrics |= value_metrics(list(evaluations.values()))
        if audited is not None:
            row, asked = audited
            found = audit(plans[row], evaluations[row], asked, evaluations[len(responses)])
            metrics |= {f"credit/{name}": value for name, value in found.items()}
        with clock.phase("update"):
            metrics |= self._update(batch, step)
        with clock.phase("sync"):
            self._learner.sync(step + 1)
        self.kl.update(metrics["kl/k1"], len(responses))
        metrics["engine/logprob_gap_max"] = max(gaps.values())
        metrics["tokens/per_s"] = metrics["tokens/generated"] / max(sum(clock.seconds.values()), 1e-9)
        metrics |= {f"time/{name}": seconds for name, seconds in clock.seconds.items()}
        return StepResult(metrics, scored, clock)

    def _sample(self, step: int, clock: Clock) -> tuple[list[Response], dict[int, CreditPlan]]:
        """Responses in row order and their credit plans; each is on its way to the reward pool when it finishes."""
        batch, seed = self._config.algorithm.batch, self._config.seed
        prompts = prompts_of_step(self._prompts, step, batch.prompts, seed)
        requests = requests_of_step(prompts, batch.samples, step, seed)
        responses: list[Response] = []
        plans: dict[int, CreditPlan] = {}
        self._reward.begin([request.prompt for request in requests], more=int(self._audits(step)))
        waiting: deque[Response] = deque()

        def plan_next() -> None:
            response = waiting.popleft()
            plans[response.row] = self._credit.plan(response)
            self._reward.submit(response, plans[response.row])

        for response in self._rollout.generate(requests):
            clock.arrived(response.engine)
            responses.append(response)
            waiting.append(response)
            if self._parsing is not None:
                self._parsing.prefetch([response.text])
            while waiting and (self._parsing is None or self._parsing.ready(waiting[0].text)):
                plan_next()
        while waiting:
            plan_next()
        return sorted(responses, key=lambda response: response.row), plans

    def _audits(self, step: int) -> bool:
        """One more evaluation belongs to this step: the audit of one of its responses."""
        every = self._config.credit.audit_every
        return self._can_audit and every > 0 and step % every == 0

    def _submit_audit(
        self, step: int, responses: Sequence[Response], plans: Mapping[int, CreditPlan]
    ) -> tuple[int, CreditPlan] | None:
        """The row that is audited and what the audit asks, which is on its way; None without anything to audit."""
        if not self._audits(step):
            return None
        row = pick(sorted(plans.items()))
        asked = plans[0] if row is None else audit_plan(plans[row])
        self._reward.submit(replace(responses[row or 0], row=len(responses)), asked)
        return None if row is None else (row, asked)

    def _lr_scale(self, step: int) -> float:
        optimizer = self._config.algorithm.optimizer
        return lr_multiplier(step, self._config.trainer.steps, optimizer.warmup_steps, optimizer.schedule)

    def _update(self, batch: PPOBatch, step: int) -> dict[str, float]:
        """Several passes over the batch in mini-batches, until the policy has moved by `target_kl`.

        Responses that do not count come last and fill up the last mini-batch; where none counts there is no update.
        """
        algorithm, counted = self._config.algorithm, int(batch.counted_B.sum())
        size = algorithm.batch.minibatch
        train_policy = step >= algorithm.critic.warmup_steps
        history: list[Mapping[str, float]] = []
        if counted == 0:
            return {"ppo/counted_share": 0.0, "ppo/epochs": 0.0}
        for epoch in range(algorithm.epochs):
            order = np.random.default_rng([self._config.seed, step, epoch]).permutation(len(batch.sequences))
            order = order[np.argsort(~batch.counted_B[order], kind="stable")]
            starts = range(0, counted, size)
            for start in starts:
                rows = order[start : start + size].tolist()
                history.append(self._learner.update(batch, rows, train_policy=train_policy))
            in_epoch = history[-len(starts) :]
            moved = float(np.mean([update["approx_kl"] for update in in_epoch]))
            if algorithm.target_kl is not None and moved > algorithm.target_kl:
                break
        metrics = {
            f"ppo/{name}": (max if name.endswith("_max") else np.mean)([update[name] for update in history])
            for name in history[0]
        }
        return {name: float(value) for name, value in metrics.items()} | {
            "ppo/counted_share": counted / len(batch.sequences),
            "ppo/epochs": float(epoch + 1),
        }
