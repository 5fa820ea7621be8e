"""Supervised fine-tuning of a policy: next-token prediction on texts, each followed by the EOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from scar_ray.config.schema import Config
from scar_ray.tasks.data import load_rows
from scar_ray.workers.supervised.engine import Training, fit, one_rank
from scar_ray.workers.supervised.folder import RunLog, save_model, whole_or_nothing
from scar_ray.workers.supervised.sources import policy_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100
Rows = list[list[int]]


def sft(config: Config, out: Path) -> dict[str, float]:
    """Trains a causal language model on `task.train` and writes it and its tokenizer to the folder `out`.

    From scratch where `model.scratch` is set, else from `model.policy.path`. Returns the summary, which holds
    the perplexity per token on `task.test`. UserError for bad data, a missing model, an `out` that is not
    empty.
    """
    texts = [row.text for row in load_rows(config.task, "train", labelled=False)]
    held_out = [row.text for row in load_rows(config.task, "test", labelled=False)]
    with (
        whole_or_nothing(out) as folder,
        one_rank(config.cluster.device, config.seed, config.cluster.threads_per_actor) as device,
    ):
        log = RunLog(folder, "sft")
        model, tokenizer = policy_and_tokenizer(config, texts)
        model.to(device)
        training = Training(config.sft, config.seed, log, config.model.policy.dtype)
        train_policy(model, tokenizer, texts, training)
        log.line("measuring the perplexity on held-out texts")
        summary = {
            "perplexity": perplexity(model, tokenizer, held_out, config.sft.max_tokens),
            "texts": len(texts),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": round(log.seconds, 1),
        }
        log.line(f"perplexity {summary['perplexity']:.1f} after {summary['seconds']:.0f} s")
        log.close()
        save_model(folder, model, tokenizer, summary)
    return summary


def train_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    training: Training,
) -> None:
    """Trains `model` in place on `texts`, under `one_rank`."""
    hyper = training.hyper
    rows = pack([[*ids, tokenizer.eos_token_id] for ids in encode(tokenizer, texts)], hyper.max_tokens)
    rng = np.random.default_rng(training.seed)
    n_steps = max(1, len(rows) // hyper.batch)
    batches = [
        [rows[i] for i in order[k * hyper.batch : (k + 1) * hyper.batch]]
        for order in (rng.permutation(len(rows)) for _ in range(hyper.epochs))
        for k in range(n_steps)
    ]

    def loss_of(engine: torch.nn.Module, batch: Rows) -> torch.Tensor:
        ids, labels = _tensors(batch, tokenizer.pad_token_id, model.device)
        return engine(input_ids=ids, attention_mask=(labels != IGNORED).long(), labels=labels).loss

    fit(model, batches, loss_of, training)


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Rows:
    """Token ids of the texts, without special tokens and of any length."""
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


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


@torch.no_grad()
def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> float:
    """exp of the mean negative log-likelihood (nats) of a token, over the first `max_tokens` of each text."""
    model.eval()
    rows = [[*ids, tokenizer.eos_token_id][:max_tokens] for ids in encode(tokenizer, texts)]
    rows = sorted((row for row in rows if len(row) > 1), key=len)
    nll, count = 0.0, 0
    for start in range(0, len(rows), 32):
        batch = rows[start : start + 32]
        ids, labels = _tensors(batch, tokenizer.pad_token_id, model.device)
        predicted = sum(len(row) - 1 for row in batch)
        loss = model(input_ids=ids, attention_mask=(labels != IGNORED).long(), labels=labels).loss
        nll += float(loss) * predicted
        count += predicted
    return math.exp(nll / count)


def _tensors(rows: Rows, pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids and labels, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows], device=device)
    return ids, labels
