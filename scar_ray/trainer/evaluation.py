"""What a policy does on held-out prompts: reward, a second reward model's, length, variety, KL, ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.schema import Config
from scar_ray.credit import build
from scar_ray.objectives.kl import k1, k3
from scar_ray.records import CreditPlan, FloatArray, Prompt, Response
from scar_ray.text.diversity import distinct
from scar_ray.trainer.agreement import check_engines
from scar_ray.trainer.experience import requests_of_step, sequences_of
from scar_ray.trainer.protocols import Forward, Learner, RewardPool, RolloutPool

DISTINCT = (1, 2, 3)
"""n of the n-grams that variety is measured by."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One response to a held-out prompt and what was measured on it."""

    prompt_index: int
    """Position among all held-out prompts of the task."""
    sample: int
    prompt: str
    response: str
    tokens: int
    """Policy tokens, the EOS included."""
    finished: bool
    reward: float
    """The reward model's score, or a credit method's own, before clipping and penalties."""
    gold: float | None
    """Score of the second reward model, where there is one."""
    k1: float
    """log pi - log ref, summed over the tokens (nats): an unbiased estimate of the KL, negative at times."""
    k3: float
    """Sum over the tokens of the estimate that is never negative (nats)."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Evaluator:
    """Samples responses to the held-out prompts and measures them; never changes a policy or the order of training.

    Prompts and seeds are the same each time, so what differs between two evaluations is the policy.
    """

    def __init__(
        self, config: Config, prompts: Sequence[Prompt], rollout: RolloutPool, reward: RewardPool, learner: Learner
    ) -> None:
        self._config, self._rollout, self._reward, self._learner = config, rollout, reward, learner
        self._sampling = config.eval.sampling(config.task.sampling)
        self._credit = build(**config.credit.method_options())
        self._requests = requests_of_step(prompts, config.eval.samples, 0, config.eval.seed)

    def evaluate(self, version: int) -> list[Measured]:
        """Responses of the policy `version` that engines and learner hold, in the order of prompts and samples.

        StaleEngine when an engine holds other weights; SampleFailed for a response that has no score.
        """
        plain = CreditPlan(gold=self._config.eval.gold is not None)
        plans: dict[int, CreditPlan] = {}
        self._reward.begin([request.prompt for request in self._requests])
        responses: list[Response] = []
        for response in self._rollout.generate(self._requests, self._sampling):
            responses.append(response)
            plans[response.row] = plain
            if self._credit.scores_itself:
                plans[response.row] = replace(self._credit.plan(response), gold=plain.gold)
            self._reward.submit(response, plans[response.row])
        responses.sort(key=lambda response: response.row)
        forward = self._learner.forward(sequences_of(responses), self._sampling)
        check_engines(self._config, self._sampling, responses, forward.logprobs_BT, version)
        evaluations = self._reward.results()
        rewards = [self._credit.score(r, plans[r.row], evaluations[r.row]) for r in responses]
        return list(_measured(responses, rewards, [evaluations[r.row].gold for r in responses], forward))


def _measured(
    responses: Sequence[Response], rewards: Sequence[float], golds: Sequence[float | None], forward: Forward
) -> Iterable[Measured]:
    mask_BT = sequences_of(responses).mask_BT
    logprobs, reference = forward.logprobs_BT.astype(np.float64), forward.ref_logprobs_BT.astype(np.float64)
    k1_B = np.where(mask_BT, k1(logprobs, reference), 0.0).sum(1)
    k3_B = np.where(mask_BT, k3(logprobs, reference), 0.0).sum(1)
    for row, (response, reward, gold) in enumerate(zip(responses, rewards, golds, strict=True)):
        yield Measured(
            prompt_index=response.prompt.index,
            sample=response.sample,
            prompt=response.prompt.text,
            response=response.text,
            tokens=response.n_tokens,
            finished=response.finished,
            reward=reward,
            gold=gold,
            k1=float(k1_B[row]),
            k3=float(k3_B[row]),
        )


def summary(measured: Sequence[Measured]) -> dict[str, float]:
    """Means over the responses, by name; NaN where a measure is not defined.

    `reward_stderr` and `gold_stderr` are standard errors of the means, over prompts: samples of one prompt are not
    independent. KL estimates are taken as they are, negative ones too.
    """
    prompts = np.array([one.prompt_index for one in measured])
    columns = {"reward": np.array([one.reward for one in measured])}
    if measured[0].gold is not None:
        columns["gold"] = np.array([one.gold for one in measured], dtype=np.float64)
    found: dict[str, float] = {}
    for name, values in columns.items():
        found |= {
            name: float(values.mean()),
            f"{name}_std": float(values.std()),
            f"{name}_stderr": standard_error(values, prompts),
        }
    found |= {
        "length": float(np.mean([one.tokens for one in measured])),
        "eos_share": float(np.mean([one.finished for one in measured])),
        "kl_k1": float(np.mean([one.k1 for one in measured])),
        "kl_k3": float(np.mean([one.k3 for one in measured])),
        "responses": float(len(measured)),
    }
    texts = [one.response for one in measured]
    return found | {f"distinct_{n}": distinct(texts, n) for n in DISTINCT}


def standard_error(values: FloatArray, prompts: NDArray[np.intp]) -> float:
    """Standard error of the mean of responses, from the means of their prompts; NaN for a single prompt."""
    _, owner = np.unique(prompts, return_inverse=True)
    means = np.bincount(owner, weights=values) / np.bincount(owner)
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan


def headline(found: dict[str, float]) -> str:
    """The measures of one evaluation in a line."""
    parts = [f"reward {found['reward']:.3f} ± {found['reward_stderr']:.3f}"]
    if "gold" in found:
        parts.append(f"gold {found['gold']:.3f} ± {found['gold_stderr']:.3f}")
    parts += [
        f"KL {found['kl_k1']:.2f}",
        f"length {found['length']:.1f}",
        f"ended {100 * found['eos_share']:.0f} %",
        f"distinct-2 {found['distinct_2']:.2f}",
    ]
    return "  ".join(parts)
