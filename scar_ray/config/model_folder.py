"""What a Hugging Face model folder says about itself, read from its JSON files alone, without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx")
_HALF = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The facts that a run depends on; None where the folder does not say."""

    path: Path
    architectures: tuple[str, ...]
    context: int | None
    """Longest sequence in tokens."""
    vocab_size: int | None
    """Rows of the embedding."""
    tokenizer_size: int | None
    """Tokens that the tokenizer can produce: its largest id + 1."""
    n_labels: int | None
    """Classes of a sequence classification head."""
    n_parameters: int
    """Estimated from the size of the weights."""


def is_local(path: str) -> bool:
    """Whether a model or data path means a file or folder here rather than a name on the hub (`owner/name`).

    A path that exists, that starts like one, or with more than one slash; also one below an existing folder.
    """
    parts = Path(path).parts
    return Path(path).expanduser().exists() or path[:1] in "/.~" or len(parts) > 2 or Path(parts[0]).is_dir()


def read_model_folder(path: Path) -> ModelFolder:
    """The facts of one folder.

    Raises:
        UserError: what keeps it from being a complete model folder; the caller names the folder.
    """
    if not path.is_dir():
        raise UserError("no such model folder")
    if not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise UserError("is a LoRA adapter without its base model; merge it into the base model first")
        raise UserError("has no config.json; give a folder that save_pretrained wrote")
    config = _json(path / "config.json")
    text_config = {**config, **config.get("text_config", {})}
    weights = sum(file.stat().st_size for pattern in _WEIGHTS for file in path.glob(pattern))
    if not weights:
        raise UserError("has no weights (*.safetensors or pytorch_model*.bin); give a complete model folder")
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise UserError("has no tokenizer; save the tokenizer into the same folder")
    half = (config.get("dtype") or config.get("torch_dtype")) in _HALF
    return ModelFolder(
        path=path,
        architectures=tuple(config.get("architectures") or ()),
        context=next((int(text_config[key]) for key in _CONTEXT_KEYS if text_config.get(key)), None),
        vocab_size=text_config.get("vocab_size"),
        tokenizer_size=_tokenizer_size(path / "tokenizer.json"),
        n_labels=_n_labels(config),
        n_parameters=weights // (2 if half else 4),
    )


def same_tokenizer(first: ModelFolder, second: ModelFolder) -> bool:
    """Whether both folders hold the very same tokenizer.json."""
    files = [folder.path / "tokenizer.json" for folder in (first, second)]
    return all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()


def _n_labels(config: dict[str, Any]) -> int | None:
    if "id2label" in config:
        return len(config["id2label"])
    return config.get("num_labels")


def _tokenizer_size(file: Path) -> int | None:
    if not file.is_file():
        return None
    tokenizer = _json(file)
    vocab = tokenizer.get("model", {}).get("vocab", {})
    # Unigram models list (token, score) pairs in the order of their ids.
    ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab)))
    ids += [token["id"] for token in tokenizer.get("added_tokens", ())]
    return max(ids) + 1 if ids else None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file.name} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file.name} is damaged: it holds no JSON object")
    return content
