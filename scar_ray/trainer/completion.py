"""Values of coalitions for rewards that cannot read partial answers: the policy writes what is left out.

v(S) is the mean reward of m responses in which the units of S are kept and the policy of the step writes the rest,
sampled as the run samples; v(empty) that of m fresh responses to the prompt, v(all) the reward of the response itself.
Where S is a beginning of the response the policy goes on from its tokens: v(S) is the value of that state under the
policy, estimated without bias.

The standard error of a value is the deviation of the m rewards over sqrt(m); for rewards of 0 and 1 it is at most
1 / (2 sqrt(m)). The credits of `prefix` are differences of two such values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from scar_ray.config.schema import Config
from scar_ray.records import CreditPlan, Evaluation, FloatArray, Prompt, Request, Response
from scar_ray.trainer.agreement import check_version
from scar_ray.trainer.protocols import RewardPool, RolloutPool
from scar_ray.workers.reward_tasks import Job

TAG = 1
"""Sets the seeds of completions apart from those of the responses of the same step."""


@dataclass(frozen=True, slots=True)
class State:
    """What the policy goes on from; all that a value depends on, so that equal ones are completed once."""

    prompt: Prompt
    kept: tuple[int, ...]
    """Tokens of the response."""
    version: int
    """Of the policy."""

    def seed(self, run_seed: int, sample: int) -> int:
        """Seed of a completion: independent of engines, batches and of which response asks."""
        identity = [run_seed, self.version, self.prompt.index, sample, TAG, len(self.kept), *self.kept]
        return int(np.random.SeedSequence(identity).generate_state(1)[0]) & 0x7FFFFFFF


def new_values(config: Config, rollout: RolloutPool, reward: RewardPool) -> RewardPool:
    """What answers the plans of a run: the reward pool itself, or completions that it scores (`credit.value`)."""
    return CompletedValues(config, rollout, reward) if config.credit.value == "complete" else reward


class CompletedValues:
    """A reward pool that answers plans by completion, through a rollout pool and a pool that scores whole responses.

    Responses that are equal up to a unit's end share the completions from there, and all responses to a prompt those
    of the empty coalition. The policy goes on as soon as all responses are there, beside the learner's forward pass.
    """

    def __init__(self, config: Config, rollout: RolloutPool, reward: RewardPool) -> None:
        self._rollout, self._reward = rollout, reward
        self._seed, self._samples = config.seed, config.credit.completions
        self._thread = ThreadPoolExecutor(1)
        self.generated = 0
        """Tokens that the policy wrote for the values of the current step."""
        self.begin([])

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        """Starts a step of responses to `prompts` and `more` that follow them."""
        self._expected, self.generated = len(prompts) + more, 0
        self._jobs: dict[int, Job] = {}
        self._answers: Future[dict[int, Evaluation]] | None = None

    def submit(self, response: Response, plan: CreditPlan) -> None:
        """Takes a response; with the last one the completions begin."""
        assert response.row not in self._jobs, response.row
        self._jobs[response.row] = response, plan
        if len(self._jobs) == self._expected:
            self._answers = self._thread.submit(self._evaluate)

    def results(self) -> dict[int, Evaluation]:
        """Waits for the values; evaluations by row.

        Raises what the two pools raise, and StaleEngine when an engine has other weights than the responses are from.
        """
        assert self._answers is not None, (len(self._jobs), self._expected)
        return self._answers.result()

    def _evaluate(self) -> dict[int, Evaluation]:
        """Has the responses scored, and all completions, which take the rows that follow."""
        jobs = [self._jobs[row] for row in sorted(self._jobs)]
        numbers: dict[State, int] = {}
        asked = [[numbers.setdefault(state, len(numbers)) for state in states(*job)] for job in jobs]
        requests = self._requests(list(numbers))
        self._reward.begin([response.prompt for response, _ in jobs] + [request.prompt for request in requests])
        for response, plan in jobs:
            self._reward.submit(response, replace(plan, game=None))
        versions = {response.policy_version for response, _ in jobs}
        for completed in self._rollout.generate(requests):
            check_version(completed, max(versions))
            self.generated += completed.n_tokens - completed.kept
            self._reward.submit(completed, CreditPlan())
        answers = self._reward.results()
        rewards_SM = np.array([answers[request.row].score for request in requests]).reshape(-1, self._samples)
        values_S, stderr_S = rewards_SM.mean(1), standard_errors(rewards_SM)
        return {
            response.row: with_values(answers[response.row], values_S[own], stderr_S[own])
            for (response, _), own in zip(jobs, asked, strict=True)
        }

    def _requests(self, wanted: Sequence[State]) -> list[Request]:
        """The requests of each state are neighbours, as are those of a response, for the engines' prefix caches."""
        return [
            Request(
                row=len(self._jobs) + number * self._samples + sample,
                prompt=state.prompt,
                sample=sample,
                seed=state.seed(self._seed, sample),
                kept=state.kept,
            )
            for number, state in enumerate(wanted)
            for sample in range(self._samples)
        ]


def states(response: Response, plan: CreditPlan) -> list[State]:
    """What each coalition of a plan keeps, but for the full one; empty without a game."""
    if plan.game is None:
        return []
    assert plan.units is not None
    ends = (0, *plan.units.ends)
    sizes_C = plan.game.coalitions_Cn.sum(1)
    beginnings_Cn = np.arange(len(plan.units)) < sizes_C[:, None]
    assert (plan.game.coalitions_Cn == beginnings_Cn).all(), "only beginnings of a response can be completed"
    kept = [response.token_ids[: ends[size]] for size in sizes_C]
    return [State(response.prompt, tokens, response.policy_version) for tokens in (kept[0], *kept[2:])]


def with_values(plain: Evaluation, values_S: FloatArray, stderr_S: FloatArray) -> Evaluation:
    """The evaluation of a response with the values of its plan, of which v(all) is its score; none without a game."""
    if len(values_S) == 0:
        return plain
    values_C = np.insert(values_S, 1, plain.score)
    return replace(plain, values_C=values_C, stderr_C=np.insert(stderr_S, 1, 0.0))


def standard_errors(rewards_SM: FloatArray) -> FloatArray:
    """Standard error of the mean of each row; NaN for rows of one."""
    samples = rewards_SM.shape[1]
    if samples == 1:
        return np.full(len(rewards_SM), math.nan)
    return np.asarray(rewards_SM.std(axis=1, ddof=1) / math.sqrt(samples))
