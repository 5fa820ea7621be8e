"""The three things a trainer needs, as protocols: the loop runs on Ray actors and on plain fakes alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.sampling import Sampling
from scar_ray.records import CreditPlan, Evaluation, Prompt, Request, Response

Float32Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Token ids of a batch, ragged."""

    prompt_ids: tuple[tuple[int, ...], ...]
    """B prompts."""
    response_ids: tuple[tuple[int, ...], ...]
    """B responses of T_b tokens."""

    def __len__(self) -> int:
        return len(self.response_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(ids) for ids in self.response_ids)

    @property
    def mask_BT(self) -> NDArray[np.bool_]:
        """True at response tokens, False at the padding on the right."""
        lengths = np.asarray(self.lengths)
        return np.arange(max(self.lengths))[None, :] < lengths[:, None]


@dataclass(frozen=True, slots=True)
class Forward:
    """The learner's view of a batch before any update; zeros at padding."""

    logprobs_BT: Float32Array
    """Log-probabilities (nats) of the response tokens under the sampling temperature."""
    ref_logprobs_BT: Float32Array
    """The same under the frozen reference policy."""
    values_BT: Float32Array | None
    """Value of the state in which each token was chosen, before the token; None without a critic."""


@dataclass(frozen=True, slots=True)
class PPOBatch:
    """Everything the update reads; (B, T) arrays, right-padded."""

    sequences: Sequences
    old_logprobs_BT: Float32Array
    old_values_BT: Float32Array | None
    """None without a critic, as are the returns."""
    advantages_BT: Float32Array
    returns_BT: Float32Array | None
    weights_BT: Float32Array
    """Importance weights of the tokens; ones unless the correction is on."""
    lr_scale: float
    """Learning rate of this step as a share of the configured one."""
    counted_B: NDArray[np.bool_]
    """False for responses that only fill a mini-batch: they are in no loss and no metric."""
    ref_logprobs_BT: Float32Array | None = None
    """Where the KL penalty is a term of the loss."""
    kl_coef: float = 0.0
    """Weight of that term."""


class RolloutPool(Protocol):
    """Samples responses from the current policy."""

    def generate(self, requests: Sequence[Request], sampling: Sampling | None = None) -> Iterator[Response]:
        """Yields each response as it finishes, in any order; sampled as the task says unless `sampling` is given."""
        ...


class Parsing(Protocol):
    """Finds the constituents of texts in the background."""

    def prefetch(self, texts: Sequence[str]) -> None:
        """Starts on the texts; returns at once."""
        ...

    def ready(self, text: str) -> bool:
        """Whether the text's constituents are there."""
        ...


class RewardPool(Protocol):
    """Evaluates responses and their coalitions, beside whatever else runs."""

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        """Starts a step of responses to `prompts`, one each in the order of rows; `more` are submitted after them."""
        ...

    def submit(self, response: Response, plan: CreditPlan) -> None:
        """Queues a response, in any order; returns at once."""
        ...

    def results(self) -> dict[int, Evaluation]:
        """Waits for all responses of the step; evaluations by row."""
        ...


class Learner(Protocol):
    """Policy, reference and, where the algorithm has one, a critic, with their optimizers."""

    def forward(self, sequences: Sequences, sampling: Sampling | None = None) -> Forward:
        """The batch under policy, reference and critic; `sampling` is how it was sampled, if not as the task says."""
        ...

    def update(self, batch: PPOBatch, rows: Sequence[int], *, train_policy: bool) -> Mapping[str, float]:
        """One optimizer step on the mini-batch `rows`; returns its metrics, means over its counted tokens."""
        ...

    def sync(self, version: int) -> None:
        """Brings the policy's weights to the rollout engines, as `version`."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...

    def export(self, folder: Path) -> None:
        """Writes the policy as a Hugging Face model folder."""
        ...
