"""The model and tokenizer that supervised training starts from: a folder, a hub name, or random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scar_ray.config.errors import UserError
from scar_ray.config.schema import Config
from scar_ray.tasks.scratch import new_policy, new_reward_model, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def policy_and_tokenizer(config: Config, texts: Sequence[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The policy to train; from scratch its tokenizer is trained on `texts`."""
    from transformers import AutoModelForCausalLM

    if config.model.scratch:
        _fits("sft", config.sft.max_tokens, config.model.scratch.max_positions)
        tokenizer = train_tokenizer(texts, config.model.scratch)
        return new_policy(config.model.scratch, tokenizer), tokenizer
    model, tokenizer = _pretrained(config, "policy", AutoModelForCausalLM)
    _fits("sft", config.sft.max_tokens, model.config.max_position_embeddings)
    return model, tokenizer


def reward_model_and_tokenizer(config: Config, texts: Sequence[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The reward model to train; from scratch it takes the tokenizer of the policy folder, if any."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if config.model.scratch:
        _fits("rm", config.rm.max_tokens + 1, config.model.scratch.max_positions)
        shared = (Path(config.model.policy.path) / "tokenizer_config.json") if config.model.policy.path else None
        tokenizer = (
            AutoTokenizer.from_pretrained(config.model.policy.path)
            if shared and shared.exists()
            else train_tokenizer(texts, config.model.scratch)
        )
        return new_reward_model(config.model.scratch, tokenizer), tokenizer
    model, tokenizer = _pretrained(config, "reward", AutoModelForSequenceClassification)
    _fits("rm", config.rm.max_tokens + 1, model.config.max_position_embeddings)
    return model, tokenizer


def _pretrained(config: Config, role: str, auto_class: type) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoConfig, AutoTokenizer

    path = getattr(config.model, role).path
    if not path:
        raise UserError(f"model.{role}.path is empty; name the model to start from, or set model.scratch")
    trust = config.model.trust_remote_code
    try:
        settings = AutoConfig.from_pretrained(path, trust_remote_code=trust)
        classifies = "ForSequenceClassification" in (settings.architectures or [""])[0]
        if role == "reward" and not classifies:
            settings.num_labels = 1
        model = auto_class.from_pretrained(path, config=settings, trust_remote_code=trust, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.{role}.path: cannot load {path!r}: {reason}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"model.{role}.path: the tokenizer of {path!r} has no EOS token; use a causal model")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        # Padding must differ from the EOS: a sequence classifier reads at the last token that is not padding.
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    if role == "reward" and model.config.num_labels not in (1, 2):
        raise UserError(f"model.reward.path: {path!r} has {model.config.num_labels} labels; a reward has 1 or 2")
    return model, tokenizer


def _fits(section: str, tokens: int, max_positions: int) -> None:
    if tokens > max_positions:
        raise UserError(
            f"{section}.max_tokens: sequences of {tokens} tokens exceed the model's context of "
            f"{max_positions}; lower it"
        )
