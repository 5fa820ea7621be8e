"""Weight transfer from the learner to the engines, through vLLM's API on every kind of hardware.

Every learner rank opens it; rank 0 sends. "nccl" and "ipc" are vLLM's own backends for GPUs (`vllm_transfer`). CPU
engines get the tensors through Ray's object store; a learner on CPUs needs nothing of vLLM and does not import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import ray

from scar_ray.workers.errors import get_all
from scar_ray.workers.weights import PolicyWeights


class Transfer(Protocol):
    """An open connection to the engines; to be called on all ranks together."""

    def send_weights(self) -> None: ...


class EngineClient:
    """Drives the update on any number of independent engines, one Ray actor each.

    An NCCL group numbers its members: the learner is 0 and every engine gets ranks of its own behind it.
    ActorFailed names the engine that failed.
    """

    def __init__(self, engines: Sequence[Any], tensor_parallel: int) -> None:
        self._engines, self._tensor_parallel = list(engines), tensor_parallel
        self._names = [f"rollout-{i}" for i in range(len(self._engines))]
        self.version = 0
        """Version that the next finished update carries."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        calls = []
        for i, engine in enumerate(self._engines):
            own = dict(init_info)
            if "rank_offset" in own:
                own["rank_offset"] = 1 + i * self._tensor_parallel
            calls.append(engine.init_weight_transfer_engine.remote(own))
        get_all(calls, self._names)

    def start_weight_update(self) -> None:
        get_all([engine.start_weight_update.remote() for engine in self._engines], self._names)

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        get_all([engine.update_weights.remote(update_info) for engine in self._engines], self._names)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        del weight_version  # vLLM's backends pass none; ours is the learner's count of updates
        get_all([engine.finish_weight_update.remote(self.version) for engine in self._engines], self._names)


class ObjectStoreTransfer:
    """Sends the weights as one Ray object; every engine reads the same copy."""

    def __init__(self, rank: int, client: EngineClient, weights: PolicyWeights) -> None:
        self._sends, self._client, self._weights = rank == 0, client, weights
        if self._sends:
            client.init_weight_transfer_engine({})

    def send_weights(self) -> None:
        weights = {name: tensor.detach().cpu() for name, tensor in self._weights}
        if self._sends:
            self._client.start_weight_update()
            self._client.update_weights({"refs": [ray.put(weights)]})
            self._client.finish_weight_update()


def open_transfer(
    backend: str,
    *,
    rank: int,
    client: EngineClient,
    weights: PolicyWeights,
    world_size: int,
    address: tuple[str, int],
) -> Transfer:
    """The trainer side of `backend` ("nccl", "ipc" or "object_store"), ready to send; call it on every rank.

    `world_size` and `address` (host, port) describe the NCCL group of learner rank 0 and all engine workers.
    """
    if backend == "object_store":
        return ObjectStoreTransfer(rank, client, weights)
    from scar_ray.workers.vllm_transfer import open_gpu_transfer

    return open_gpu_transfer(backend, rank=rank, client=client, weights=weights, world_size=world_size, address=address)
