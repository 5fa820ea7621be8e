"""Tiny models with random weights, for tests of the real stack: policies of several architectures, reward models."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from scar_ray.config.schema import ArchitectureConfig
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.scratch import train_tokenizer

HIDDEN, LAYERS, HEADS, POSITIONS = 64, 2, 2, 256
POLICIES = ("llama", "llama_tied", "gpt2", "neox")


def tokenizer(vocab_size: int = 400, seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer trained on the demo's reviews; another seed gives another vocabulary."""
    texts = [review.text for review in reviews(seed, 500)]
    return train_tokenizer(texts, ArchitectureConfig(vocab_size=vocab_size, hidden_size=HIDDEN, heads=HEADS))


def special(tok: PreTrainedTokenizerFast) -> dict[str, int]:
    return {"vocab_size": len(tok), "pad_token_id": tok.pad_token_id, "eos_token_id": tok.eos_token_id}


def new_model(kind: str, tok: PreTrainedTokenizerFast, seed: int = 0, labels: int = 1) -> PreTrainedModel:
    """A model with weights large enough for its outputs to differ from token to token."""
    torch.manual_seed(seed)
    llama = LlamaConfig(
        **special(tok),
        bos_token_id=None,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=kind == "llama_tied",
        num_labels=labels,
    )
    gpt2 = GPT2Config(
        **special(tok), n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS, num_labels=labels
    )
    neox = GPTNeoXConfig(
        **special(tok),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
    )
    bert = BertConfig(
        vocab_size=len(tok),
        pad_token_id=tok.pad_token_id,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        num_labels=labels,
    )
    build = {
        "llama": lambda: LlamaForCausalLM(llama),
        "llama_tied": lambda: LlamaForCausalLM(llama),
        "gpt2": lambda: GPT2LMHeadModel(gpt2),
        "neox": lambda: GPTNeoXForCausalLM(neox),
        "llama_reward": lambda: LlamaForSequenceClassification(llama),
        "gpt2_reward": lambda: GPT2ForSequenceClassification(gpt2),
        "bert_reward": lambda: BertForSequenceClassification(bert),
    }
    model = build[kind]()
    perturb(model, seed, 0.2)
    return model.eval()


@torch.no_grad()
def perturb(model: torch.nn.Module, seed: int, scale: float) -> None:
    """Adds noise to every weight matrix."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def save(model: PreTrainedModel, tok: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Writes model and tokenizer as a Hugging Face folder."""
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
