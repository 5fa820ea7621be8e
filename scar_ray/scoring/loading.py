"""Loading a reward model or function, and the facts about models and tokenizers that scoring depends on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from scar_ray.config.callables import load_callable
from scar_ray.config.schema import RewardModelConfig
from scar_ray.records import Sample


def load_function(config: RewardModelConfig) -> Callable[[Sequence[Sample]], Any]:
    """The function of `config.function` with its options. ValueError, saying why, when it cannot be had."""
    path = "scar_ray.scoring.http:HttpReward" if config.function == "http" else config.function
    found = load_callable("model.reward.function", path)
    try:
        if inspect.isclass(found):
            inspect.signature(found).bind(**config.options)
            return found(**config.options)
        inspect.signature(found).bind([], **config.options)
    except TypeError as error:
        raise ValueError(
            f"model.reward.function={config.function} and model.reward.options do not fit: {error}"
        ) from error
    return partial(found, **config.options)


def load_classifier(config: RewardModelConfig, attention: bool, trust_remote_code: bool) -> Any:
    """The model with its classification head. ValueError when a weight is missing or it is no reward model."""
    from transformers import AutoModelForSequenceClassification

    model, info = AutoModelForSequenceClassification.from_pretrained(
        config.path,
        dtype=getattr(torch, config.dtype),
        attn_implementation="eager" if attention else None,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    key = f"model.reward.path={config.path}"
    missing = sorted(info["missing_keys"])
    if missing:  # Transformers would draw them at random
        raise ValueError(
            f"{key}: the model has no trained classification head ({missing[-1]} is missing); give a complete "
            "sequence-classification model"
        )
    check_classifier(model.config, config)
    return model


def check_classifier(model: Any, config: RewardModelConfig) -> None:
    """ValueError where a model of this configuration (Transformers') is no reward model."""
    key = f"model.reward.path={config.path}"
    labels = int(model.num_labels)
    if labels not in (1, 2):
        raise ValueError(
            f"{key}: a reward model has one label (the logit) or two (their difference), this one has {labels}"
        )
    if labels == 2 and config.label > 1:
        raise ValueError(f"model.reward.label={config.label}: the reward model has 2 labels; use 0 or 1")
    if model.is_encoder_decoder:
        raise ValueError(f"{key}: encoder-decoder reward models are not supported; give a causal model or an encoder")


def sequence_limit(model: Any, config: RewardModelConfig) -> int:
    """Longest sequence in tokens that the model reads. ValueError when `max_length` asks for more."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 10**9
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            # RoBERTa and its relatives count positions from the one after the padding's.
            limit = module.num_embeddings - module.padding_idx - 1
    if config.max_length is not None and config.max_length > limit:
        raise ValueError(
            f"model.reward.max_length={config.max_length}: the reward model reads {limit} tokens; lower it"
        )
    return config.max_length or limit


def is_causal(config: Any) -> bool:
    """True for decoder-only architectures, whose classification head reads the last token."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def reads_ids(config: RewardModelConfig, tokenizer: Any, policy_tokenizer: str | None, trust_remote_code: bool) -> bool:
    """Whether a causal reward model reads the policy's token ids as they are, not the text that they stand for."""
    from transformers import AutoTokenizer

    if policy_tokenizer is None or config.template != "{prompt}{response}":
        return False
    policy = AutoTokenizer.from_pretrained(policy_tokenizer, trust_remote_code=trust_remote_code)
    return same_tokenizer(policy, tokenizer)


def same_tokenizer(first: Any, second: Any) -> bool:
    """True when two tokenizers map every text to the same ids, special tokens included."""
    if type(first) is not type(second) or first.get_vocab() != second.get_vocab():
        return False
    if first.all_special_tokens != second.all_special_tokens:
        return False
    backends = [getattr(tokenizer, "backend_tokenizer", None) for tokenizer in (first, second)]
    return None not in backends and backends[0].to_str() == backends[1].to_str()
