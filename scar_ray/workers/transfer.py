"""Weight transfer from the learner to the engines, through vLLM's own API on every kind of hardware.

The trainer side of vLLM's API (`WeightTransferTrainerFactory`) runs on every learner rank; rank 0 sends. The
backends "nccl" (engines with GPUs of their own) and "ipc" (engines on the learner's GPUs) are vLLM's. For CPU
engines, which vLLM's backends do not serve, this module registers one more, "object_store", that hands the
tensors over through Ray's object store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

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

from scar_ray.workers.errors import get_all

GATHER_BYTES = 256 << 20
"""Parameters gathered together from ZeRO-3 shards before they are sent."""


class PolicySource(WeightSource):
    """The policy's weights under their Hugging Face names: gathered from ZeRO-3 shards, LoRA merged, tied ones once.

    Iteration is collective over the learner's ranks.
    """

    def __init__(self, policy: torch.nn.Module, dtype: torch.dtype, zero_stage: int) -> None:
        self._policy, self._dtype, self._sharded = policy, dtype, zero_stage == 3
        self._entries = list(policy_entries(policy))

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, self._dtype, tuple(getattr(p, "ds_shape", p.shape))) for name, p, _ in self._entries]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for group in self._groups():
            with torch.no_grad(), self._gathered(group):
                ready = [(name, merged(weight, lora).to(self._dtype)) for name, weight, lora in group]
                if self._sharded:  # the shards' storage goes when the context ends
                    ready = [(name, tensor.clone()) for name, tensor in ready]
            yield from ready

    def _gathered(self, group: Sequence[tuple[str, torch.nn.Parameter, LoraPair | None]]) -> Any:
        if not self._sharded:
            return nullcontext()
        import deepspeed

        parameters = [p for _, weight, lora in group for p in (weight, *((lora.a, lora.b) if lora else ()))]
        return deepspeed.zero.GatheredParameters(parameters)

    def _groups(self) -> Iterator[list[tuple[str, torch.nn.Parameter, LoraPair | None]]]:
        group: list[tuple[str, torch.nn.Parameter, LoraPair | None]] = []
        size = 0
        for entry in self._entries:
            group.append(entry)
            size += getattr(entry[1], "ds_numel", entry[1].numel()) * entry[1].element_size()
            if size >= GATHER_BYTES:
                yield group
                group, size = [], 0
        if group:
            yield group


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The adapter of one weight: W + scaling * B @ A, transposed where W maps inputs (rows) to outputs (GPT-2)."""

    a: torch.nn.Parameter
    b: torch.nn.Parameter
    scaling: float
    transposed: bool


def policy_entries(policy: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter, LoraPair | None]]:
    """Yields (Hugging Face name, weight, adapter or None) for every parameter of a policy, adapters folded in.

    Raises ValueError for an adapter that cannot be merged: on an embedding, or on a weight shared with one.
    """
    modules = dict(policy.named_modules())
    adapted = {
        name.rpartition(".")[0]
        for name, module in modules.items()
        if name.endswith((".lora_A", ".lora_embedding_A")) and len(module)
    }
    for name, parameter in policy.named_parameters():
        if ".lora_" in name:
            continue
        owner = name.rsplit(".", 2)[0] if ".base_layer." in name else None
        pair = None
        if owner is not None and name.endswith(".base_layer.weight") and len(modules[owner].lora_A):
            layer = modules[owner]
            adapted.remove(owner)
            pair = LoraPair(
                layer.lora_A["default"].weight,
                layer.lora_B["default"].weight,
                float(layer.scaling["default"]),
                bool(layer.fan_in_fan_out),
            )
        yield name.removeprefix("base_model.model.").replace(".base_layer.", "."), parameter, pair
    if adapted:
        layer = min(adapted).removeprefix("base_model.model.")
        raise ValueError(
            f"model.policy.lora.target_modules: the adapter of {layer} cannot be merged into an embedding's weights; "
            "leave it out"
        )


def merged(weight: torch.Tensor, lora: LoraPair | None) -> torch.Tensor:
    """W + scaling * B @ A in float32; the weight itself where it has no adapter."""
    if lora is None:
        return weight.detach()
    change = lora.scaling * (lora.b.detach().float() @ lora.a.detach().float())
    return weight.detach().float() + (change.T if lora.transposed else change)


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


@dataclass
class ObjectStoreTrainerInit(TrainerInitInfo):
    """Trainer side of the CPU backend."""

    backend: ClassVar[str] = "object_store"


class ObjectStoreTrainer(TrainerWeightTransferEngine[ObjectStoreTrainerInit]):
    """Sends the weights as one Ray object; every engine reads the same copy."""

    init_info_cls = ObjectStoreTrainerInit

    @classmethod
    def trainer_init(
        cls, init_info: ObjectStoreTrainerInit, *, client: Any, source: WeightSource | None = None
    ) -> ObjectStoreTrainer:
        engine = cls(client=client, source=source, is_sender=init_info.is_sender)
        if engine.is_sender:
            client.init_weight_transfer_engine({})
        return engine

    def send_weights(self) -> None:
        assert self.source is not None
        weights = {name: tensor.detach().cpu() for name, tensor in self.source}
        if self.is_sender:
            self.client.start_weight_update()
            self.client.update_weights({"refs": [ray.put(weights)]})
            self.client.finish_weight_update()


class WorkerExtension:
    """Named in the engine's configuration so that worker processes import this module and know the backend."""


WeightTransferEngineFactory.register_engine("object_store", ObjectStoreEngine)
WeightTransferTrainerFactory.register_engine("object_store", ObjectStoreTrainer)


def open_transfer(
    backend: str,
    *,
    rank: int,
    client: EngineClient,
    source: WeightSource,
    world_size: int,
    address: tuple[str, int],
) -> TrainerWeightTransferEngine[Any]:
    """The trainer side of `backend` ("nccl", "ipc" or "object_store"), ready to send; call it on every rank.

    `world_size` and `address` (host, port) describe the NCCL group of learner rank 0 and all engine workers.
    """
    init: TrainerInitInfo
    if backend == "nccl":
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        init = NCCLTrainerInitInfo(
            master_address=address[0], master_port=address[1], world_size=world_size, rank=rank, packed=True
        )
    elif backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        init = IPCTrainerInitInfo(rank=rank, packed=True)
    else:
        init = ObjectStoreTrainerInit(rank=rank)
    return WeightTransferTrainerFactory.trainer_init(init, client=client, source=source)
