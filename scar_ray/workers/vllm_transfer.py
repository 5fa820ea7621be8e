"""The part of the weight transfer that is vLLM's: both sides of its GPU backends, and the CPU backend's engine side.

The backends "nccl" (engines with GPUs of their own) and "ipc" (engines on the learner's GPUs) are vLLM's. For CPU
engines, which they do not serve, this module registers one more, "object_store".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory

from scar_ray.workers.weights import PolicyWeights


class PolicySource(WeightSource):
    """The policy's weights as vLLM's trainer side reads them."""

    def __init__(self, weights: PolicyWeights) -> None:
        self._weights = weights

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(*one) for one in self._weights.metadata()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(self._weights)


def open_gpu_transfer(
    backend: str, *, rank: int, client: Any, weights: PolicyWeights, world_size: int, address: tuple[str, int]
) -> TrainerWeightTransferEngine[Any]:
    """The trainer side of "nccl" or "ipc": `transfer.open_transfer`."""
    init: TrainerInitInfo
    if backend == "nccl":
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        init = NCCLTrainerInitInfo(
            master_address=address[0], master_port=address[1], world_size=world_size, rank=rank, packed=True
        )
    else:
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        init = IPCTrainerInitInfo(rank=rank, packed=True)
    return WeightTransferTrainerFactory.trainer_init(init, client=client, source=PolicySource(weights))


@dataclass
class ObjectStoreInit(WeightTransferInitInfo):
    """The engine needs no rendezvous."""


@dataclass
class ObjectStoreUpdate(WeightTransferUpdateInfo):
    """Weights of one update: a Ray object, or a safetensors file for engines whose worker is no Ray process."""

    refs: list[Any] = field(default_factory=list)
    """One reference to a dictionary of tensors; in a list, so that Ray passes it on unresolved."""
    path: str = ""


class ObjectStoreEngine(WeightTransferEngine[ObjectStoreInit, ObjectStoreUpdate]):
    """Engine side of the CPU backend: a layerwise reload, and the tied output head packed anew."""

    init_info_cls = ObjectStoreInit
    update_info_cls = ObjectStoreUpdate

    def init_transfer_engine(self, init_info: ObjectStoreInit) -> None:
        """Nothing to open."""

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: ObjectStoreUpdate) -> None:
        if update_info.path:
            from safetensors.torch import load_file

            weights = load_file(update_info.path)
        else:
            weights = ray.get(update_info.refs[0])
        self.model.load_weights(iter(weights.items()))

    def finish_weight_update(self) -> None:
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        # A head tied to the embedding multiplies with a packed copy that the reload leaves as it was.
        for module in self.model.modules():
            if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear") and module.weight.numel():
                dispatch_cpu_unquantized_gemm(module, remove_weight=False)

    def shutdown(self) -> None:
        """Nothing to close."""


class WorkerExtension:
    """Named in the engine's configuration so that worker processes import this module and know the backend."""


WeightTransferEngineFactory.register_engine("object_store", ObjectStoreEngine)
