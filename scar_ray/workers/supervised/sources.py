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
    if config.model.scratch:
        _fits("sft", config.sft.max_tokens, config.model.scratch.max_positions)
        tokenizer = train_tokenizer(texts, config.model.scratch)
        return new_policy(config.model.scratch, tokenizer), tokenizer
    model, tokenizer = _pretrained(config, config.model.policy.path, "model.policy.path", classifier=False)
    _fits("sft", config.sft.max_tokens, model.config.max_position_embeddings)
    return model, tokenizer


def reward_model_and_tokenizer(config: Config, texts: Sequence[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The reward model to train; from scratch it takes the tokenizer of the policy folder, if any."""
    from transformers import AutoTokenizer

    longest, policy = config.rm.max_tokens + 1, config.model.policy.path
    if config.model.scratch and not config.rm.from_policy:
        _fits("rm", longest, config.model.scratch.max_positions)
        tokenizer = (
            AutoTokenizer.from_pretrained(policy)
            if policy and (Path(policy) / "tokenizer_config.json").exists()
            else train_tokenizer(texts, config.model.scratch)
        )
        return new_reward_model(config.model.scratch, tokenizer), tokenizer
    path, key = (policy, "policy") if config.rm.from_policy else (config.model.reward.path, "reward")
    model, tokenizer = _pretrained(config, path, f"model.{key}.path", classifier=True)
    _fits("rm", longest, model.config.max_position_embeddings)
    model.config.reward_offset = 0.0
    return model, tokenizer


def _pretrained(
    config: Config, path: str, key: str, *, classifier: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # that a head is new is the point
    logging.disable_progress_bar()
    if not path:
        raise UserError(f"{key} is empty; name the model to start from, or set model.scratch")
    trust = config.model.trust_remote_code
    try:
        settings = AutoConfig.from_pretrained(path, trust_remote_code=trust)
        if classifier and "ForSequenceClassification" not in (settings.architectures or [""])[0]:
            settings.num_labels = 1
        auto_class = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
        model = auto_class.from_pretrained(path, config=settings, trust_remote_code=trust, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{key}: cannot load {path!r}: {reason}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"{key}: the tokenizer of {path!r} has no EOS token; use a causal model")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        # Padding must differ from the EOS: a sequence classifier reads at the last token that is not padding.
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    if classifier and model.config.num_labels not in (1, 2):
        raise UserError(f"{key}: {path!r} has {model.config.num_labels} labels; a reward has 1 or 2")
    return model, tokenizer


def _fits(section: str, tokens: int, max_positions: int) -> None:
    if tokens > max_positions:
        raise UserError(
            f"{section}.max_tokens: sequences of {tokens} tokens exceed the model's context of "
            f"{max_positions}; lower it"
        )
