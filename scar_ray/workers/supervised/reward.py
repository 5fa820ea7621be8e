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
from scar_ray.records import FloatArray
from scar_ray.tasks.data import Row, load_rows
from scar_ray.workers.supervised.completions import encode
from scar_ray.workers.supervised.engine import Sums, Training, fit, process_group
from scar_ray.workers.supervised.folder import Log, save_model
from scar_ray.workers.supervised.measures import quality
from scar_ray.workers.supervised.pairs import rm_on_pairs
from scar_ray.workers.supervised.scores import bucketed, crop_length, forward, rewards
from scar_ray.workers.supervised.sources import reward_model_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_TOKENS = 24
"""Length of the beginnings on which the accuracy on short texts is measured."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence with its target: a label 0 or 1, or a number to regress on."""

    ids: tuple[int, ...]
    target: float

    def __len__(self) -> int:
        return len(self.ids)


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(rewards_B, targets_B) -> mean over B."""


def rm(config: Config, folder: Path, log: Log) -> dict[str, float]:
    """Trains a reward model on the pairs (tldr, hh) or the labels (demo, imdb) of the task; writes it to `folder`.

    From scratch where `model.scratch` is set (one label), else from `model.reward.path` (a causal language model gets
    a new one-label head); with `rm.from_policy` from the policy. Returns the summary with its `quality` on held-out
    rows. UserError for bad data or a missing model.
    """
    return (rm_on_pairs if config.task.has_prompts else rm_on_labels)(config, folder, log)


def rm_on_labels(config: Config, folder: Path, log: Log) -> dict[str, float]:
    """Logistic regression on the labels of `task.train`; writes the model and its tokenizer to `folder`."""
    train, test = (load_rows(config.task, part, labelled=True) for part in ("rm_train", "rm_test"))
    with process_group(config.cluster.device, config.seed, config.cluster.threads_per_actor) as device:
        model, tokenizer = reward_model_and_tokenizer(config, [row.text for row in train])
        model.to(device)
        end = (tokenizer.eos_token_id,) if config.model.reward.append_eos else ()
        rows = list(zip(encode(tokenizer, [row.text for row in train]), train, strict=True))
        rng = np.random.default_rng(config.seed)
        epochs = [_epoch(rows, end, config.rm, rng) for _ in range(config.rm.epochs)]
        head = config.model.reward.label
        training = Training(config.rm, config.seed, log, config.model.reward.dtype, learner=config.cluster.learner)
        train_reward_model(model, epochs, F.binary_cross_entropy_with_logits, training, head)
        log.line("measuring the accuracy on held-out texts")
        tests = list(zip(encode(tokenizer, [row.text for row in test]), test, strict=True))
        summary = {
            **quality(_margins(model, tests, end, config.rm.max_tokens, head)),
            f"accuracy_first_{PROBE_TOKENS}_tokens": quality(_margins(model, tests, end, PROBE_TOKENS, head))[
                "accuracy"
            ],
            "texts": len(train),
            "test_texts": len(test),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": round(log.seconds, 1),
        }
        log.line(
            f"accuracy {summary['accuracy']:.4f}, margin {summary['margin']:.3f}, calibration error "
            f"{summary['calibration_error']:.3f} after {summary['seconds']:.0f} s"
        )
        save_model(folder, model, tokenizer, summary)
    return summary


def train_reward_model(
    model: PreTrainedModel,
    epochs: Iterable[Sequence[Example]],
    loss: Loss,
    training: Training,
    label: int = 1,
) -> None:
    """Trains `model` in place, under `process_group`; each epoch is a list of examples."""
    rng = np.random.default_rng(training.seed)
    batches = [batch for examples in epochs for batch in bucketed(examples, training.hyper.batch, rng)]

    def loss_of(engine: torch.nn.Module, batch: Sequence[Example]) -> Sums:
        rewards_B = forward(engine, model, [example.ids for example in batch], label)
        return loss(rewards_B, rewards_B.new_tensor([example.target for example in batch])) * len(batch), {}

    fit(model, batches, loss_of, training)


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


def _margins(
    model: PreTrainedModel,
    rows: Sequence[tuple[list[int], Row]],
    end: tuple[int, ...],
    max_tokens: int,
    label: int,
) -> FloatArray:
    """Rewards of the first `max_tokens` tokens of the texts, negated where the label is 0."""
    scores = rewards(model, [(*ids[:max_tokens], *end) for ids, _ in rows], label)
    return scores * np.array([1.0 if row.label == 1 else -1.0 for _, row in rows])
