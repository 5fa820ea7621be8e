"""Values of coalitions for rewards that cannot read partial answers: the policy writes what is left out.

v(S) is the mean reward of m responses in which the units of S are kept in place and the policy of the step writes the
rest, sampled as the run samples; v(empty) that of m fresh responses to the prompt, v(all) the reward of the response
itself. Where S is a beginning of the response the policy goes on from its tokens: v(S) is the value of that state under
the policy, estimated without bias. Other gaps are filled from left to right. One with kept units behind it is asked
for by `model.policy.infill`, a text around the prompt, what stands before the gap (filled gaps included) and the kept
units behind it; the policy writes up to an EOS, at most as many tokens as make the response as long as one may be. What
it writes there is drawn from the policy's answer to that text, not from its distribution of responses given S: such
values are as good as the policy is at filling gaps. The last gap, if nothing follows it, is gone on from as a
beginning is.

The standard error of a value is the deviation of the m rewards over sqrt(m); for rewards of 0 and 1 it is at most
1 / (2 sqrt(m)). The credits of `prefix` are differences of two such values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, groupby

import numpy as np

from scar_ray.config.schema import Config
from scar_ray.records import BoolArray, CreditPlan, Evaluation, FloatArray, Prompt, Request, Response, Units
from scar_ray.trainer.agreement import check_version
from scar_ray.trainer.protocols import RewardPool, RolloutPool
from scar_ray.workers.reward_tasks import Job

TAG = 1
"""Sets the seeds of completions apart from those of the responses of the same step."""


@dataclass(frozen=True, slots=True)
class State:
    """What the policy completes; all that a value depends on, so that equal ones are completed once."""

    prompt: Prompt
    runs: tuple[tuple[int, ...], ...]
    """Kept tokens, with a gap between each run and the next; the first is empty where the beginning is left out, the
    last where the end is. A beginning is one run and an empty one."""
    version: int
    """Of the policy."""

    @property
    def gaps(self) -> int:
        return len(self.runs) - 1

    def seed(self, run_seed: int, sample: int, gap: int = 0) -> int:
        """Seed of a gap of a completion: independent of engines, batches and of which response asks."""
        first, *others = self.runs
        identity = [run_seed, self.version, self.prompt.index, sample, TAG, len(first), *first]
        if others != [()]:
            identity += [number for run in others for number in (len(run), *run)] + [gap]
        return int(np.random.SeedSequence(identity).generate_state(1)[0]) & 0x7FFFFFFF

    def request(self, row: int, gap: int, before: tuple[int, ...], run_seed: int, sample: int) -> Request:
        """What fills a gap after the tokens `before`."""
        after = tuple(chain.from_iterable(self.runs[gap + 1 :]))
        return Request(row, self.prompt, sample, self.seed(run_seed, sample, gap), before, after)


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
        """Tokens that the policy wrote for the values of the current step, without the EOS of filled gaps."""
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
        # The completions of each state are neighbours, as are the states of a response, for the prefix caches.
        wanted = [(state, sample) for state in numbers for sample in range(self._samples)]
        rows = range(len(jobs), len(jobs) + len(wanted))
        self._reward.begin([response.prompt for response, _ in jobs] + [state.prompt for state, _ in wanted])
        for response, plan in jobs:
            self._reward.submit(response, replace(plan, game=None))
        version = max(response.policy_version for response, _ in jobs)
        for completed in self._completed(dict(zip(rows, wanted, strict=True)), version):
            self._reward.submit(completed, CreditPlan())
        answers = self._reward.results()
        rewards_SM = np.array([answers[row].score for row in rows]).reshape(-1, self._samples)
        values_S, stderr_S = rewards_SM.mean(1), standard_errors(rewards_SM)
        return {
            response.row: with_values(answers[response.row], values_S[own], stderr_S[own])
            for (response, _), own in zip(jobs, asked, strict=True)
        }

    def _completed(self, wanted: dict[int, tuple[State, int]], version: int) -> Iterator[Response]:
        """A completion of each row's state, as it finishes: all first gaps are filled, then all second ones..."""
        before = {row: state.runs[0] for row, (state, _) in wanted.items()}
        for gap in range(max((state.gaps for state, _ in wanted.values()), default=0)):
            requests = {
                row: state.request(row, gap, before[row], self._seed, sample)
                for row, (state, sample) in wanted.items()
                if gap < state.gaps
            }
            for completed in self._rollout.generate(list(requests.values())):
                row, state = completed.row, wanted[completed.row][0]
                check_version(completed, version)
                filled = completed.n_tokens - len(requests[row].after)
                self.generated += filled - completed.kept
                if gap + 1 == state.gaps:
                    yield completed
                else:
                    before[row] = (*completed.token_ids[:filled], *state.runs[gap + 1])


def states(response: Response, plan: CreditPlan) -> list[State]:
    """What each coalition of a plan keeps, but for the full one; empty without a game."""
    if plan.game is None:
        return []
    assert plan.units is not None
    coalitions_Cn = np.delete(plan.game.coalitions_Cn, 1, axis=0)
    return [
        State(response.prompt, runs(response, plan.units, kept_n), response.policy_version) for kept_n in coalitions_Cn
    ]


def runs(response: Response, units: Units, kept_n: BoolArray) -> tuple[tuple[int, ...], ...]:
    """The tokens of the kept units, with a gap between each run and the next; see `State`.

    The EOS is kept with the last unit.
    """
    bounds = [*units.starts, response.n_tokens]
    found: list[tuple[int, ...]] = [()]
    for kept, unit in groupby(range(len(units)), key=lambda i: bool(kept_n[i])):
        first, *rest = unit
        if kept:
            found[-1] = response.token_ids[bounds[first] : bounds[first + len(rest) + 1]]
        else:
            found.append(())
    return tuple(found)


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
