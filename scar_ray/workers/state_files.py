"""Tensors on disk: safetensors shards and a JSON index, readable by any number of ranks."""

from __future__ import annotations

import json
from collections.abc import Iterable
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


def read_tensors(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All tensors and the meta data of a folder that `write_tensors` wrote. ValueError when a file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        meta = json.loads((folder / INDEX).read_text())
        tensors: dict[str, torch.Tensor] = {}
        for name in meta["shards"]:
            tensors |= load_file(folder / name)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {folder}: cannot be read ({error})") from error
    return tensors, meta
