"""Decoder-only transformers by their numbers: parameters, FLOPs and bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that parameters, FLOPs and memory follow from. Biases are left out, no thousandth of either."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    head_size: int
    gated: bool = True
    """Three matrices in the feed-forward block, as Llama has, rather than two."""
    tied: bool = False
    """The output layer is the embedding."""
    output: bool = True
    """It has an output layer over the vocabulary; reward models and critics have a scalar head instead."""

    @property
    def layer_parameters(self) -> int:
        """Parameters of the matrices of one layer."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return attention + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All parameters, two norms a layer and the last one included."""
        embeddings = self.vocabulary * self.hidden * (2 if self.output and not self.tied else 1)
        return embeddings + self.layers * (self.layer_parameters + 2 * self.hidden) + self.hidden

    @property
    def token_flops(self) -> float:
        """FLOPs of the layers' matrices for one token, forward: two for each parameter."""
        return 2.0 * self.layers * self.layer_parameters

    @property
    def output_flops(self) -> float:
        """FLOPs of the output layer for one token; 0 without one."""
        return 2.0 * self.hidden * self.vocabulary * self.output

    @property
    def read_parameters(self) -> int:
        """Parameters read from memory for a token: all matrices, the output layer included."""
        return self.layers * self.layer_parameters + self.hidden * self.vocabulary * self.output

    def attention_flops(self, keys: float) -> float:
        """FLOPs of scores and weighted values of one token that attends to `keys` tokens, in all layers."""
        return 4.0 * self.layers * self.heads * self.head_size * keys

    @property
    def cached_values(self) -> int:
        """Numbers in the key-value cache for one token."""
        return 2 * self.layers * self.kv_heads * self.head_size

    def lora_parameters(self, rank: int) -> int:
        """Parameters of adapters of that rank on every matrix of the layers."""
        attention = self.heads * self.head_size
        kv = self.kv_heads * self.head_size
        sums = 2 * (self.hidden + attention) + 2 * (self.hidden + kv)
        return self.layers * rank * (sums + (3 if self.gated else 2) * (self.hidden + self.intermediate))

    def scalar(self) -> ModelShape:
        """The same trunk with a scalar head: a reward model or critic."""
        return replace(self, output=False)


def _llama(
    name: str, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int, **more: Any
) -> ModelShape:
    return ModelShape(name, hidden, layers, heads, kv_heads, intermediate, vocabulary, hidden // heads, **more)


SHAPES = {
    shape.name: shape
    for shape in (
        _llama("1B", 2048, 16, 32, 8, 8192, 128_256, tied=True),
        _llama("3B", 3072, 28, 24, 8, 8192, 128_256, tied=True),
        _llama("7B", 4096, 32, 32, 32, 11_008, 32_000),
        _llama("8B", 4096, 32, 32, 8, 14_336, 128_256),
        _llama("13B", 5120, 40, 40, 40, 13_824, 32_000),
        _llama("70B", 8192, 80, 64, 8, 28_672, 128_256),
    )
}
"""Llama 3.2 1B and 3B, Llama 2 7B and 13B, Llama 3 8B and 70B, as their config.json files have them."""

_UNGATED = ("gpt2", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "gpt_bigcode", "bert", "roberta")
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
_TIED_UNLESS_SAID = ("gpt2", "opt", "bloom", "gpt_bigcode", "gemma", "gemma2", "gemma3_text")


def model_shape(key: str, model: str) -> ModelShape:
    """The shape named `model` in the table, or that of the folder `model` with a config.json.

    UserError, naming the option `key`, for anything else.
    """
    if model.upper() in SHAPES:
        return SHAPES[model.upper()]
    folder = Path(model).expanduser()
    file = folder / "config.json" if folder.is_dir() else folder
    if not file.is_file():
        raise UserError(f"{key}={model}: neither a size ({', '.join(SHAPES)}) nor a folder with a config.json")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return _from_config({**content, **content.get("text_config", {})}, folder.name)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{key}={model}: {file.name} does not describe a transformer: {error}") from None


def _from_config(config: dict[str, Any], name: str) -> ModelShape:
    """The shape in a Hugging Face configuration. ValueError for one that lacks a size."""
    sizes: dict[str, int] = {}
    for field, names in _NAMES.items():
        found = next((config[key] for key in names if isinstance(config.get(key), int) and config[key] > 0), None)
        if found is None:
            raise ValueError(f"no whole number under {' or '.join(names)}")
        sizes[field] = found
    kind, hidden, heads = str(config.get("model_type", "")), sizes["hidden"], sizes["heads"]
    inner = config.get("intermediate_size") or config.get("n_inner") or config.get("ffn_dim") or 4 * hidden
    return ModelShape(
        name=name,
        hidden=hidden,
        layers=sizes["layers"],
        heads=heads,
        vocabulary=sizes["vocabulary"],
        kv_heads=int(config.get("num_key_value_heads") or heads),
        intermediate=int(inner),
        head_size=int(config.get("head_dim") or hidden // heads),
        gated=kind not in _UNGATED,
        tied=bool(config.get("tie_word_embeddings", kind in _TIED_UNLESS_SAID)),
    )
