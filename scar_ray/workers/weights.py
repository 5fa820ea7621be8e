"""The policy's weights as engines and model folders want them; collective over the learner's ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

GATHER_BYTES = 256 << 20
"""Parameters gathered together from ZeRO-3 shards before they are sent."""


class PolicyWeights:
    """The policy's weights under their Hugging Face names: gathered from ZeRO-3 shards, LoRA merged, tied ones once.

    Iteration is collective over the learner's ranks.
    """

    def __init__(self, policy: torch.nn.Module, dtype: torch.dtype, zero_stage: int) -> None:
        self._policy, self._dtype, self._sharded = policy, dtype, zero_stage == 3
        self._entries = list(policy_entries(policy))

    def metadata(self) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
        """(name, dtype, whole shape) of what iteration yields, without gathering it."""
        return [(name, self._dtype, tuple(getattr(p, "ds_shape", p.shape))) for name, p, _ in self._entries]

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
