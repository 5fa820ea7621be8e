"""Tensors on disk: safetensors shards and a JSON index, readable by any number of ranks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

SHARD_BYTES = 4 << 30
INDEX = "index.json"


def write_tensors(
    folder: Path, tensors: Iterable[tuple[str, torch.Tensor]], meta: dict[str, Any], *, write: bool
) -> None:
    """Writes the tensors in shards of at most about SHARD_BYTES, then the index.

    All ranks consume `tensors` (gathering them may be collective); only the one with `write` touches the disk.
    """
    from safetensors.torch import save_file

    shards: list[str] = []
    shard: dict[str, torch.Tensor] = {}
    size = 0

    def flush() -> None:
        name = f"state-{len(shards):05d}.safetensors"
        save_file(shard, folder / name)
        shards.append(name)

    if write:
        folder.mkdir(parents=True, exist_ok=True)
    for name, tensor in tensors:
        if not write:
            continue
        shard[name] = tensor.detach().cpu().contiguous().clone()
        size += shard[name].numel() * shard[name].element_size()
        if size >= SHARD_BYTES:
            flush()
            shard, size = {}, 0
    if write:
        if shard:
            flush()
        (folder / INDEX).write_text(json.dumps({"shards": shards, **meta}))


class StateTensors(Mapping[str, torch.Tensor]):
    """The tensors of a folder that `write_tensors` wrote, each read when it is asked for."""

    def __init__(self, folder: Path, shards: Iterable[Any]) -> None:
        self._folder = folder
        self._shard_of = {name: shard for shard in shards for name in shard.keys()}  # noqa: SIM118, no mapping

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._shard_of[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)

    def check_shapes(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """ValueError unless these are exactly the tensors, by name and shape."""
        for name in sorted(expected.keys() | self.keys()):
            if name not in self:
                problem = f"{name} is missing"
            elif name not in expected:
                problem = f"{name} is no part of this learner"
            elif (shape := tuple(self._shard_of[name].get_slice(name).get_shape())) != expected[name]:
                problem = f"{name} has shape {shape} instead of {expected[name]}"
            else:
                continue
            raise ValueError(
                f"checkpoint {self._folder}: {problem}; it was written with another model, critic or LoRA setting"
            )


def read_tensors(folder: Path) -> tuple[StateTensors, dict[str, Any]]:
    """The tensors and the meta data of a folder that `write_tensors` wrote. ValueError names a damaged file."""
    from safetensors import SafetensorError, safe_open

    file = folder / INDEX
    try:
        meta = json.loads(file.read_bytes())
        shards = []
        for name in meta["shards"]:
            file = folder / name
            shards.append(safe_open(file, framework="pt"))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"checkpoint file {file}: cannot be read ({reason}); resume from an older checkpoint"
        ) from error
    return StateTensors(folder, shards), meta
