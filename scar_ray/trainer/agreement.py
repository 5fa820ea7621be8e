"""Do the engines sample from the learner's weights?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scar_ray.config.schema import Config, Sampling
from scar_ray.records import Response
from scar_ray.trainer.experience import logprob_gaps
from scar_ray.trainer.protocols import Float32Array

GAP_LIMITS = {"float32": 0.01, "bfloat16": 2.0}
"""Largest believable log-probability difference (nats) between engine and learner, by the policy's type."""


class StaleEngine(RuntimeError):
    """An engine sampled from other weights than the learner's: the message names it."""


def check_engines(
    config: Config, sampling: Sampling, responses: Sequence[Response], logprobs_BT: Float32Array, version: int
) -> dict[str, float]:
    """Refuses responses of engines whose weights are not the learner's: StaleEngine.

    `version` is the policy's, `logprobs_BT` what the learner makes of the responses, sampled with `sampling`. Returns
    the largest difference of a token's log-probability by engine (nats).
    """
    for response in responses:
        check_version(response, version)
    gaps = logprob_gaps(responses, logprobs_BT)
    limit = config.cluster.rollout.max_logprob_gap or GAP_LIMITS[config.model.policy.dtype]
    # Nucleus sampling renormalises the engine's probabilities over what it keeps.
    limit -= float(np.log(sampling.top_p))
    for engine, gap in gaps.items():
        if not gap <= limit:
            cause = "the engine's weights are wrong" if np.isfinite(gap) else "the policy or the engine has diverged"
            raise StaleEngine(
                f"{engine} and the learner disagree by {gap:.3g} nats on a token's log-probability "
                f"(cluster.rollout.max_logprob_gap={limit:g}): {cause}"
            )
    return gaps


def check_version(response: Response, version: int) -> None:
    """StaleEngine unless the response was sampled from the policy `version`."""
    if response.policy_version != version:
        raise StaleEngine(
            f"{response.engine} sampled with policy version {response.policy_version}, the learner is at "
            f"{version}: its weight update was lost; restart the run with --resume"
        )
