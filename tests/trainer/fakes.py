"""The three parts that a trainer needs, without actors or models: they write down what happens to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from make_response import make_response, words

from scar_ray import credit
from scar_ray.config.schema import Config, Sampling
from scar_ray.credit import CreditMethod, every_token
from scar_ray.records import CreditPlan, Evaluation, Prompt, Request, Response, SequenceScore, TokenRewards
from scar_ray.trainer.loop import Trainer
from scar_ray.trainer.protocols import Forward, Parsing, PPOBatch, Sequences

TEXTS = ("good film", "not good at all", "a very long and dull film", "great")
"""Responses of 2, 4, 6 and 1 words; an EOS follows each."""


def text_of(request: Request) -> str:
    return TEXTS[(request.prompt.index + request.sample) % len(TEXTS)]


@dataclass
class FakeRollout:
    """Two engines that finish the last request first."""

    events: list[Any]
    versions: list[int] = field(default_factory=lambda: [0, 0])
    """Policy versions of the engines."""
    sampling: Sampling | None = None
    """How the last step was to be sampled, where it said."""
    asked: list[Request] = field(default_factory=list)
    """The requests of the last step."""
    error: float = 0.0
    """What the second engine's log-probabilities are off by."""

    def generate(self, requests: Sequence[Request], sampling: Sampling | None = None) -> Iterator[Response]:
        self.asked, self.sampling = list(requests), sampling
        for request in reversed(requests):
            self.events.append(f"finished {request.row}")
            response = make_response(words(text_of(request)), row=request.row)
            engine = request.row % 2
            yield replace(
                response,
                prompt=request.prompt,
                sample=request.sample,
                logprobs_T=np.full(response.n_tokens, -1.0 - (self.error if engine else 0.0), np.float32),
                policy_version=self.versions[engine],
                engine=f"rollout-{engine}",
            )


@dataclass
class FakeReward:
    """Scores a response with its number of tokens; every unit earns the same."""

    events: list[Any]
    jobs: dict[int, tuple[Response, CreditPlan]] = field(default_factory=dict)

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        self.events.append(f"begin {len(prompts) + more}")
        self.jobs = {}

    def submit(self, response: Response, plan: CreditPlan) -> None:
        self.events.append(f"submit {response.row}")
        self.jobs[response.row] = (response, plan)

    def results(self) -> dict[int, Evaluation]:
        self.events.append("results")
        return {row: self._evaluate(*job) for row, job in self.jobs.items()}

    @staticmethod
    def _evaluate(response: Response, plan: CreditPlan) -> Evaluation:
        score = float(response.n_tokens)
        if plan.game is None:
            return Evaluation(score, gold=-score if plan.gold else None)
        return Evaluation(score, score * plan.game.coalitions_Cn.mean(1))


@dataclass
class FakeLearner:
    """The policy moves by `approx_kl` with every update; log-probabilities are -1, the reference's -1.5."""

    events: list[Any]
    rollout: FakeRollout
    approx_kl: list[float] = field(default_factory=lambda: [0.0])
    """What the updates of a step report, in turn; the last one again and again."""
    batches: list[PPOBatch] = field(default_factory=list)
    updates: list[tuple[list[int], bool]] = field(default_factory=list)
    """Rows and `train_policy` of every update."""

    def forward(self, sequences: Sequences, sampling: Sampling | None = None) -> Forward:
        self.events.append("forward")
        mask = sequences.mask_BT.astype(np.float32)
        return Forward(-1.0 * mask, -1.5 * mask, 0.25 * mask)

    def update(self, batch: PPOBatch, rows: Sequence[int], *, train_policy: bool) -> Mapping[str, float]:
        self.events.append("update")
        if not self.batches or self.batches[-1] is not batch:
            self.batches.append(batch)
            self._number = 0
        self.updates.append((list(rows), train_policy))
        moved = self.approx_kl[min(self._number, len(self.approx_kl) - 1)]
        self._number += 1
        return {"approx_kl": moved, "ratio_max": 1.0 + self._number, "policy_loss": float(self._number)}

    def sync(self, version: int) -> None:
        self.events.append(f"sync {version}")
        self.rollout.versions = [version, version]

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...

    def export(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Broken(CreditMethod):
    """Gives every token of a response of three the same, whatever it has earned."""

    each: float = 1.0
    tokens: int = 3

    def plan(self, response: Response) -> CreditPlan:
        return CreditPlan()

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        return TokenRewards(np.full(self.tokens, self.each), every_token(response), np.full(3, self.each))


@dataclass
class Bench:
    """A trainer on fakes and the list of what happened."""

    trainer: Trainer
    rollout: FakeRollout
    reward: FakeReward
    learner: FakeLearner
    events: list[Any]


def prompts(count: int) -> list[Prompt]:
    return [Prompt(i, (7, i), f"Prompt {i}") for i in range(count)]


def config(sections: Mapping[str, Any] | None = None, **algorithm: Any) -> Config:
    """Four responses a step, two mini-batches of two, two epochs; other sections and settings on top."""
    base = {
        "algorithm": {"batch": {"prompts": 4, "minibatch": 2}, "epochs": 2} | algorithm,
        "trainer": {"steps": 4},
        "cluster": {"learner": {"micro_batch": 1}},
    }
    for name, values in (sections or {}).items():
        base[name] = base.get(name, {}) | values if isinstance(values, dict) else values
    return Config.model_validate(base)


def bench(
    chosen: Config | None = None,
    method: CreditMethod | None = None,
    n_prompts: int = 8,
    parsing: Parsing | None = None,
) -> Bench:
    chosen = chosen or config()
    events: list[Any] = []
    rollout, reward = FakeRollout(events), FakeReward(events)
    learner = FakeLearner(events, rollout)
    method = method or credit.build(**chosen.credit.method_options())
    trainer = Trainer(chosen, prompts(n_prompts), method, rollout, reward, learner, parsing)
    return Bench(trainer, rollout, reward, learner, events)
