"""Models from scratch: a byte-level BPE tokenizer and Llama-shaped policies and reward models of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from scar_ray.config.schema import ArchitectureConfig

if TYPE_CHECKING:
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        PreTrainedTokenizerBase,
        PreTrainedTokenizerFast,
    )

EOS, PAD = "<eos>", "<pad>"


def train_tokenizer(texts: Iterable[str], architecture: ArchitectureConfig) -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most `vocab_size` tokens. Lossless: decode(encode(x)) == x; no BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=architecture.vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=architecture.max_positions,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def new_policy(architecture: ArchitectureConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A causal language model with random weights (torch's global generator)."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(_config_for(architecture, tokenizer))


def new_reward_model(
    architecture: ArchitectureConfig, tokenizer: PreTrainedTokenizerBase
) -> LlamaForSequenceClassification:
    """A sequence classifier with one label, the reward, and random weights (torch's global generator)."""
    from transformers import LlamaForSequenceClassification

    config = _config_for(architecture, tokenizer)
    config.num_labels = 1
    return LlamaForSequenceClassification(config)


def _config_for(architecture: ArchitectureConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    return llama_config(architecture, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)


def llama_config(architecture: ArchitectureConfig, vocabulary: int, eos: int, pad: int) -> LlamaConfig:
    """A Llama of this architecture, for a vocabulary of so many tokens with these special ones."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        intermediate_size=architecture.intermediate_size,
        max_position_embeddings=architecture.max_positions,
        tie_word_embeddings=architecture.tie_embeddings,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
