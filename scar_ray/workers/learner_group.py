"""The learner as the trainer sees it: all ranks as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from scar_ray.config.sampling import Sampling
from scar_ray.trainer.protocols import Float32Array, Forward, PPOBatch, Sequences
from scar_ray.workers.errors import ActorFailed, died, explain
from scar_ray.workers.learner import RankShare
from scar_ray.workers.objective import MiniBatch

GRACE_S = 5.0
"""How long the other ranks have, once one has failed, to say whether they failed too."""


class RayLearner:
    """Cuts batches into equal shares for the ranks and puts their answers together."""

    def __init__(self, ranks: Sequence[Any], names: Sequence[str]) -> None:
        self._ranks, self._names = list(ranks), list(names)

    def forward(self, sequences: Sequences, sampling: Sampling | None = None) -> Forward:
        """Log-probabilities under policy and reference, and values; `sampling`, if the batch was not sampled as usual.

        Ranks must take the same number of passes: the last row fills up a batch that they cannot divide equally.
        """
        count = len(sequences)
        rows = [min(row, count - 1) for row in range(-(-count // len(self._ranks)) * len(self._ranks))]
        shares = [
            RankShare(
                tuple(sequences.prompt_ids[row] for row in part), tuple(sequences.response_ids[row] for row in part)
            )
            for part in self._shares(rows)
        ]
        answers = self._all([r.forward.remote(share, sampling) for r, share in zip(self._ranks, shares, strict=True)])
        width = max(sequences.lengths)

        def joined(parts: Sequence[Float32Array]) -> Float32Array:
            return np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in parts])[:count]

        logprobs, reference, values = zip(*answers, strict=True)
        return Forward(joined(logprobs), joined(reference), None if values[0] is None else joined(values))

    def update(self, batch: PPOBatch, rows: Sequence[int], *, train_policy: bool) -> dict[str, float]:
        """One optimizer step on the mini-batch `rows`: means over its counted tokens, maxima for keys in _max."""
        counted = [batch.sequences.lengths[row] for row in rows if batch.counted_B[row]]
        tokens, whole = sum(counted), MiniBatch(sum(counted), len(counted))
        parts = [select(batch, share) for share in self._shares(rows)]
        answers = self._all(
            [r.update.remote(part, whole, train_policy) for r, part in zip(self._ranks, parts, strict=True)]
        )
        metrics = {}
        for name in answers[0]:
            values = [answer[name] for answer in answers]
            if name == "grad_norm":
                metrics[name] = values[0]
            else:
                metrics[name] = max(values) if name.endswith("_max") else sum(values) / tokens
        return metrics

    def open_transfer(
        self, backend: str, engines: Sequence[Any], tensor_parallel: int, address: tuple[str, int]
    ) -> None:
        """Connects the learner to the engines."""
        self._all([r.open_transfer.remote(backend, list(engines), tensor_parallel, address) for r in self._ranks])

    def sync(self, version: int) -> None:
        """Brings the policy's weights to all engines, as `version`."""
        self._all([r.send_weights.remote(version) for r in self._ranks])

    def save(self, folder: Path) -> None:
        self._all([r.save.remote(folder.absolute()) for r in self._ranks])

    def load(self, folder: Path) -> None:
        self._all([r.load.remote(folder.absolute()) for r in self._ranks])

    def export(self, folder: Path) -> None:
        self._all([r.export.remote(folder.absolute()) for r in self._ranks])

    def busy_seconds(self) -> float:
        return float(sum(self._all([r.busy_seconds.remote() for r in self._ranks])))

    def _shares(self, rows: Sequence[int]) -> list[Sequence[int]]:
        assert len(rows) % len(self._ranks) == 0, (len(rows), len(self._ranks))
        size = len(rows) // len(self._ranks)
        return [rows[i * size : (i + 1) * size] for i in range(len(self._ranks))]

    def _all(self, refs: list[Any]) -> list[Any]:
        """Answers of all ranks, in order. The first failure ends the wait: the other ranks may hang in a collective."""
        waiting = list(refs)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            if failure(done[0]) is not None:
                # When a rank dies the others lose their connection to it, and may say so before its death is known.
                later, _ = ray.wait(waiting, num_returns=len(waiting), timeout=GRACE_S) if waiting else ([], [])
                failures = [(ref, error) for ref in [*done, *later] if (error := failure(ref)) is not None]
                ref, error = next((both for both in failures if died(both[1])), failures[0])
                raise ActorFailed(f"{self._names[refs.index(ref)]}: {explain(error)}") from error
        return list(ray.get(refs))


def failure(ref: Any) -> Exception | None:
    """The exception that a finished call ended with; None when it returned."""
    try:
        ray.get(ref)
    except Exception as error:
        return error
    return None


def select(batch: PPOBatch, rows: Sequence[int]) -> PPOBatch:
    """The given rows of a batch."""
    index = list(rows)

    def chosen(array_BT: Float32Array | None) -> Float32Array | None:
        return None if array_BT is None else array_BT[index]

    return PPOBatch(
        sequences=Sequences(
            tuple(batch.sequences.prompt_ids[row] for row in index),
            tuple(batch.sequences.response_ids[row] for row in index),
        ),
        old_logprobs_BT=batch.old_logprobs_BT[index],
        old_values_BT=chosen(batch.old_values_BT),
        advantages_BT=batch.advantages_BT[index],
        returns_BT=chosen(batch.returns_BT),
        weights_BT=batch.weights_BT[index],
        lr_scale=batch.lr_scale,
        counted_B=batch.counted_B[index],
        ref_logprobs_BT=chosen(batch.ref_logprobs_BT),
        kl_coef=batch.kl_coef,
    )
