"""Supervised fine-tuning of a policy: next-token prediction on texts, or on completions of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from scar_ray.config.schema import Config, Part
from scar_ray.tasks.data import load_rows
from scar_ray.tasks.dialogues import Demonstration, load_demonstrations
from scar_ray.tasks.rewrites import load_rewrites
from scar_ray.workers.supervised.completions import Encoded, demonstration_rows, encode
from scar_ray.workers.supervised.engine import Sums, Training, fit, process_group
from scar_ray.workers.supervised.folder import Log, save_model
from scar_ray.workers.supervised.sources import policy_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Rows = list[list[int]]


@dataclass(frozen=True, slots=True)
class LmRow:
    """One sequence to predict."""

    ids: Sequence[int]
    n_prompt: int = 0
    """Tokens at its beginning that belong to the prompt."""

    def weight(self, prompt_weight: float) -> float:
        """Sum of the weights of the predicted tokens, all but the first: 1 of a completion token."""
        predicted_of_prompt = max(0, self.n_prompt - 1)
        return prompt_weight * predicted_of_prompt + (len(self.ids) - 1 - predicted_of_prompt)


def sft(config: Config, folder: Path, log: Log) -> dict[str, float]:
    """Trains a causal language model on the task and writes it and its tokenizer to `folder`.

    imdb, demo: the texts of `task.train`, each followed by the EOS. tldr, hh: the completions of `task.sft_train`
    after their prompts; product search: those of `tasks.rewrites`. From scratch where `model.scratch` is set, else from
    `model.policy.path`. Returns the summary, which holds the perplexity per token on the held-out part. UserError for
    bad data or a missing model.
    """
    pairs = config.task.has_prompts
    if pairs:
        shown, held_out = (_demonstrations(config, part) for part in ("sft_train", "sft_test"))
        texts = [f"{row.prompt}{row.completion}" for row in shown]
    else:
        texts, held_out_texts = (
            [row.text for row in load_rows(config.task, part, labelled=False)] for part in ("sft_train", "sft_test")
        )
    with process_group(config.cluster.device, config.seed, config.cluster.threads_per_actor) as device:
        model, tokenizer = policy_and_tokenizer(config, texts)
        model.to(device)
        longest = config.sft.max_tokens
        weight = config.sft.prompt_weight if pairs else 1.0
        training = Training(
            config.sft,
            config.seed,
            log,
            config.model.policy.dtype,
            weight_of=lambda row: row.weight(weight),
            learner=config.cluster.learner,
        )
        summary: dict[str, float] = {}
        if pairs:
            rows, told = demonstration_rows(config.task, tokenizer, shown, longest)
            log.line(told)
            tests, _ = demonstration_rows(config.task, tokenizer, held_out, longest)
            train_rows(model, _with_end(rows, tokenizer, longest), training, weight)
            log.line("measuring the perplexity on held-out completions")
            summary["perplexity"] = perplexity_of(model, _with_end(tests, tokenizer, longest))
            summary["rows"] = len(rows)
        else:
            train_policy(model, tokenizer, texts, training)
            log.line("measuring the perplexity on held-out texts")
            summary["perplexity"] = perplexity(model, tokenizer, held_out_texts, longest)
            summary["texts"] = len(texts)
        summary |= {"parameters": sum(p.numel() for p in model.parameters()), "seconds": round(log.seconds, 1)}
        log.line(f"perplexity {summary['perplexity']:.1f} after {summary['seconds']:.0f} s")
        save_model(folder, model, tokenizer, summary)
    return summary


def _demonstrations(config: Config, part: Part) -> list[Demonstration]:
    if config.task.is_search:
        return load_rewrites(config.task, part, config.credit.candidates.count)
    return load_demonstrations(config.task, part)


def _with_end(rows: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[LmRow]:
    """The rows followed by the EOS, but for those that are cut."""
    return [LmRow((*ids, tokenizer.eos_token_id)[:max_tokens], n_prompt) for ids, n_prompt in rows]


def train_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    training: Training,
) -> None:
    """Trains `model` in place on `texts`, each followed by the EOS, under `process_group`."""
    rows = pack([[*ids, tokenizer.eos_token_id] for ids in encode(tokenizer, texts)], training.hyper.max_tokens)
    train_rows(model, [LmRow(row) for row in rows], training)


def train_rows(model: PreTrainedModel, rows: Sequence[LmRow], training: Training, prompt_weight: float = 1.0) -> None:
    """Trains `model` in place to predict the rows, under `process_group`; every epoch in a new order."""
    hyper = training.hyper
    rng = np.random.default_rng(training.seed)
    n_steps = max(1, len(rows) // hyper.batch)
    batches = [
        [rows[i] for i in order[k * hyper.batch : (k + 1) * hyper.batch]]
        for order in (rng.permutation(len(rows)) for _ in range(hyper.epochs))
        for k in range(n_steps)
    ]
    fit(model, batches, partial(_loss, model, prompt_weight), training)


def pack(sequences: Sequence[Sequence[int]], max_tokens: int) -> Rows:
    """Rows of at most `max_tokens` tokens that together hold every token once.

    Sequences are cut at `max_tokens`; full pieces are rows, the rest are packed best-fit, longest first.
    So rows begin where a text begins as often as can be: that is where responses will be sampled.
    """
    pieces = [list(ids[i : i + max_tokens]) for ids in sequences for i in range(0, len(ids), max_tokens)]
    rows: Rows = []
    by_space: list[list[int]] = [[] for _ in range(max_tokens + 1)]
    for piece in sorted(pieces, key=len, reverse=True):
        space = next((s for s in range(len(piece), max_tokens) if by_space[s]), None)
        row = len(rows) if space is None else by_space[space].pop()
        if space is None:
            rows.append([])
        rows[row].extend(piece)
        by_space[max_tokens - len(rows[row])].append(row)
    return rows


def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> float:
    """exp of the mean negative log-likelihood (nats) of a token, over the first `max_tokens` of each text."""
    rows = [LmRow([*ids, tokenizer.eos_token_id][:max_tokens]) for ids in encode(tokenizer, texts)]
    return perplexity_of(model, rows)


@torch.no_grad()
def perplexity_of(model: PreTrainedModel, rows: Sequence[LmRow]) -> float:
    """exp of the mean negative log-likelihood (nats) of a completion token; of every token without prompts."""
    model.eval()
    rows = sorted((row for row in rows if row.weight(0.0) > 0.0), key=lambda row: len(row.ids))
    nll = 0.0
    for start in range(0, len(rows), 32):
        nll += float(_loss(model, 0.0, model, rows[start : start + 32])[0])
    return math.exp(nll / sum(row.weight(0.0) for row in rows))


def _loss(model: PreTrainedModel, prompt_weight: float, engine: torch.nn.Module, rows: Sequence[LmRow]) -> Sums:
    """Weighted sum of the negative log-likelihoods (nats) of all tokens but the first of each row."""
    width = max(len(row.ids) for row in rows)
    pad = model.config.pad_token_id
    ids_BT = torch.tensor([[*row.ids, *[pad] * (width - len(row.ids))] for row in rows], device=model.device)
    weights_BT = torch.tensor(
        [
            [prompt_weight] * row.n_prompt + [1.0] * (len(row.ids) - row.n_prompt) + [0.0] * (width - len(row.ids))
            for row in rows
        ],
        device=model.device,
    )
    mask_BT = torch.arange(width, device=model.device) < torch.tensor(
        [[len(row.ids)] for row in rows], device=model.device
    )
    logits = engine(input_ids=ids_BT, attention_mask=mask_BT.long()).logits[:, :-1].float()
    nll = F.cross_entropy(logits.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    return (nll * weights_BT[:, 1:].flatten()).sum(), {}
