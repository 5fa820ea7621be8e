"""Log-probabilities of responses under a policy and its reference, without anything that trains."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from scar_ray.config.schema import Sampling
from scar_ray.trainer.protocols import Float32Array
from scar_ray.workers import deepspeed_engine as ds
from scar_ray.workers.learner import LearnerOptions, RankShare, widened
from scar_ray.workers.modeling import TokenPolicy, load_policy, pad


class LikelihoodRank:
    """One rank with its shard of two frozen models; answers `forward` as the rank of a learner without a critic."""

    def __init__(self, rank: int, options: LearnerOptions, policy: str, address: tuple[str, int]) -> None:
        """`policy` is evaluated against the reference at `options.model.policy.path`."""
        from transformers import AutoTokenizer

        model, learner = options.model, options.learner
        if options.device == "cpu":
            torch.set_num_threads(options.threads)
        self._device, self._micro_batch = torch.device(options.device), learner.micro_batch
        ds.open_group(rank, learner.ranks, address, options.device, learner.timeout_s)
        self._eos_id = int(
            AutoTokenizer.from_pretrained(policy, trust_remote_code=model.trust_remote_code).eos_token_id
        )
        config = ds.engine_config(learner, model.policy.dtype, 1, 0.0, options.device)
        with ds.sharded_loading(config):
            loaded = [
                load_policy(path, model.policy.dtype, model.trust_remote_code) for path in (policy, model.policy.path)
            ]
        self._models: list[Any] = [
            ds.frozen_engine(
                TokenPolicy(one, options.sampling, self._eos_id, value_head=False).to(self._device), config
            )
            for one in loaded
        ]
        self._busy_s = 0.0

    def ready(self) -> None:
        """Returns once the models have loaded."""

    def busy_seconds(self) -> float:
        """Seconds spent computing so far, waiting for other ranks included."""
        return self._busy_s

    @torch.no_grad()
    def forward(self, share: RankShare, sampling: Sampling | None = None) -> tuple[Float32Array, Float32Array, None]:
        """Log-probabilities and reference log-probabilities of this rank's rows, each (rows, T); no values."""
        started = time.perf_counter()
        width = max(map(len, share.response_ids))
        columns: tuple[list[Float32Array], ...] = ([], [])
        for start in range(0, len(share.response_ids), self._micro_batch):
            rows = slice(start, start + self._micro_batch)
            batch = pad(share.prompt_ids[rows], share.response_ids[rows], self._eos_id, self._device)
            for column, model in zip(columns, self._models, strict=True):
                column.append(widened(model(batch, sampling=sampling).logprobs_RT, batch.mask_RT, width))
        self._busy_s += time.perf_counter() - started
        logprobs, reference = (np.concatenate(column) for column in columns)
        return logprobs, reference, None
