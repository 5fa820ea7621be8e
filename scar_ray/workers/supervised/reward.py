"""Training of a reward model: binary classification of texts, whole and in part; the logit is the reward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from scar_ray.config.schema import Config, SupervisedConfig
from scar_ray.tasks.data import Row, load_rows
from scar_ray.workers.supervised.engine import Training, fit, one_rank
from scar_ray.workers.supervised.folder import RunLog, save_model, whole_or_nothing
from scar_ray.workers.supervised.lm import encode
from scar_ray.workers.supervised.sources import reward_model_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST_CROP = 4
PROBE_TOKENS = 24
"""Length of the beginnings on which the accuracy on short texts is measured."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence with its target: a label 0 or 1, or a number to regress on."""

    ids: tuple[int, ...]
    target: float


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(rewards_B, targets_B) -> scalar."""


def rm(config: Config, out: Path) -> dict[str, float]:
    """Trains a reward model on the labels of `task.train`; writes it and its tokenizer to the folder `out`.

    From scratch where `model.scratch` is set (one label), else from `model.reward.path` (a causal language
    model gets a new one-label head). Returns the summary, which holds the accuracy on `task.test`. UserError
    for bad data, a missing model, an `out` that is not empty.
    """
    train_rows = load_rows(config.task, "train", labelled=True)
    test_rows = load_rows(config.task, "test", labelled=True)
    with (
        whole_or_nothing(out) as folder,
        one_rank(config.cluster.device, config.seed, config.cluster.threads_per_actor) as device,
    ):
        log = RunLog(folder, "rm")
        model, tokenizer = reward_model_and_tokenizer(config, [row.text for row in train_rows])
        model.to(device)
        end = (tokenizer.eos_token_id,) if config.model.reward.append_eos else ()
        rows = list(zip(encode(tokenizer, [row.text for row in train_rows]), train_rows, strict=True))
        rng = np.random.default_rng(config.seed)
        epochs = [_epoch(rows, end, config.rm, rng) for _ in range(config.rm.epochs)]
        head = config.model.reward.label
        training = Training(config.rm, config.seed, log, config.model.reward.dtype)
        train_reward_model(model, epochs, F.binary_cross_entropy_with_logits, training, head)
        log.line("measuring the accuracy on held-out texts")
        tests = list(zip(encode(tokenizer, [row.text for row in test_rows]), test_rows, strict=True))
        summary = {
            "accuracy": _accuracy(model, tests, end, config.rm.max_tokens, head),
            f"accuracy_first_{PROBE_TOKENS}_tokens": _accuracy(model, tests, end, PROBE_TOKENS, head),
            "texts": len(train_rows),
            "test_texts": len(test_rows),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": round(log.seconds, 1),
        }
        log.line(f"accuracy {summary['accuracy']:.4f} after {summary['seconds']:.0f} s")
        log.close()
        save_model(folder, model, tokenizer, summary)
    return summary


def train_reward_model(
    model: PreTrainedModel,
    epochs: Iterable[Sequence[Example]],
    loss: Loss,
    training: Training,
    label: int = 1,
) -> None:
    """Trains `model` in place, under `one_rank`; each epoch is a list of examples."""
    rng = np.random.default_rng(training.seed)
    batches = [batch for examples in epochs for batch in bucketed(examples, training.hyper.batch, rng)]

    def loss_of(engine: torch.nn.Module, batch: list[Example]) -> torch.Tensor:
        rewards_B = _forward(engine, model, [example.ids for example in batch], label)
        return loss(rewards_B, rewards_B.new_tensor([example.target for example in batch]))

    fit(model, batches, loss_of, training)


@torch.no_grad()
def rewards(model: PreTrainedModel, sequences: Sequence[Sequence[int]], label: int = 1) -> np.ndarray:
    """Reward of each sequence, in their order, read at its last token; float64."""
    model.eval()
    order = np.argsort([len(ids) for ids in sequences], kind="stable")
    out = np.zeros(len(sequences))
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        out[part] = _forward(model, model, [sequences[i] for i in part], label).double().cpu().numpy()
    return out


def bucketed(examples: Sequence[Example], size: int, rng: np.random.Generator) -> list[list[Example]]:
    """Batches of `size` examples (the last few are left out), each of similar lengths, in random order."""
    order = rng.permutation(len(examples))
    batches = []
    for start in range(0, len(order), size * 32):
        chunk = sorted(order[start : start + size * 32], key=lambda i: len(examples[i].ids))
        batches += [[examples[i] for i in chunk[k : k + size]] for k in range(0, len(chunk), size)]
    whole = [batch for batch in batches if len(batch) == size] or batches
    return [whole[i] for i in rng.permutation(len(whole))]


def crop_length(longest: int, rng: np.random.Generator) -> int:
    """Log-uniform in SHORTEST_CROP..longest: short pieces are as frequent as long ones."""
    low, high = np.log(min(SHORTEST_CROP, longest)), np.log(longest + 1)
    return min(longest, int(np.exp(rng.uniform(low, high))))


def _epoch(
    rows: Sequence[tuple[list[int], Row]],
    end: tuple[int, ...],
    hyper: SupervisedConfig,
    rng: np.random.Generator,
) -> list[Example]:
    """Every text once (a random window of a long one) and, with `crop`, a random piece of it as well."""
    examples = []
    for ids, row in rows:
        longest = min(len(ids), hyper.max_tokens)
        for length in [longest, crop_length(longest, rng)] if hyper.crop else [longest]:
            start = int(rng.integers(len(ids) - length + 1))
            examples.append(Example((*ids[start : start + length], *end), float(row.label)))
    return examples


def _accuracy(
    model: PreTrainedModel,
    rows: Sequence[tuple[list[int], Row]],
    end: tuple[int, ...],
    max_tokens: int,
    label: int,
) -> float:
    """Share of texts whose reward has the sign of the label, on their first `max_tokens` tokens."""
    scores = rewards(model, [(*ids[:max_tokens], *end) for ids, _ in rows], label)
    return float(np.mean((scores > 0) == np.array([row.label == 1 for _, row in rows])))


def _forward(
    engine: torch.nn.Module, model: PreTrainedModel, sequences: Sequence[Sequence[int]], label: int
) -> torch.Tensor:
    """Rewards (B) of right-padded sequences: the logit, or the difference of two."""
    width = max(map(len, sequences))
    pad = model.config.pad_token_id
    ids_BT = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in sequences], device=model.device)
    logits = engine(input_ids=ids_BT, attention_mask=(ids_BT != pad).long()).logits
    logits = logits.float()
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, label] - logits[:, 1 - label]
