"""Training of a reward model on preference pairs: Bradley-Terry, whole completions and their beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from scar_ray.config.schema import Config
from scar_ray.tasks.dialogues import load_demonstrations, load_pairs
from scar_ray.workers.supervised.completions import Encoded, demonstration_rows, pair_rows
from scar_ray.workers.supervised.engine import Sums, Training, fit, process_group
from scar_ray.workers.supervised.folder import Log, save_model
from scar_ray.workers.supervised.measures import quality
from scar_ray.workers.supervised.scores import bucketed, crop_length, forward, rewards
from scar_ray.workers.supervised.sources import reward_model_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class PairExample:
    """Two sequences with the same prompt."""

    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def rm_on_pairs(config: Config, folder: Path, log: Log) -> dict[str, float]:
    """Trains a reward model on the pairs of `task.rm_train`; writes it and its tokenizer to `folder`.

    Maximises log sigmoid(r(x, chosen) - r(x, rejected)), the likelihood of Bradley and Terry. Returns the summary:
    `quality` on `task.rm_test`, and with `rm.centre` the mean reward of demonstrations, `demonstrations_mean`, which
    is then taken off every reward. UserError for bad data or a missing model.
    """
    train, test = load_pairs(config.task, "rm_train"), load_pairs(config.task, "rm_test")
    shown = load_demonstrations(config.task, "sft_train")[: config.rm.centre_rows] if config.rm.centre else []
    with process_group(config.cluster.device, config.seed, config.cluster.threads_per_actor) as device:
        texts = [f"{row.prompt}{completion}" for row in train for completion in (row.chosen, row.rejected)]
        model, tokenizer = reward_model_and_tokenizer(config, texts)
        model.to(device)
        longest, head = config.rm.max_tokens, config.model.reward.label
        rows, told = pair_rows(config.task, tokenizer, train, longest)
        log.line(told)
        end = (tokenizer.eos_token_id,) if config.model.reward.append_eos else ()
        training = Training(config.rm, config.seed, log, config.model.reward.dtype, learner=config.cluster.learner)
        train_on_pairs(model, rows, end, training, head)
        log.line("measuring the accuracy on held-out pairs")
        tests, _ = pair_rows(config.task, tokenizer, test, longest)
        summary = _quality_on_pairs(model, tests, end, head)
        if shown:
            demonstrations, _ = demonstration_rows(config.task, tokenizer, shown, longest)
            summary["demonstrations_mean"] = centre(model, demonstrations, end, head)
        summary |= {
            "pairs": len(rows),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": round(log.seconds, 1),
        }
        log.line(
            f"accuracy {summary['accuracy']:.4f}, margin {summary['margin']:.3f}, calibration error "
            f"{summary['calibration_error']:.3f} on {len(tests)} pairs after {summary['seconds']:.0f} s"
        )
        save_model(folder, model, tokenizer, summary)
    return summary


def train_on_pairs(
    model: PreTrainedModel,
    rows: Sequence[tuple[Encoded, Encoded]],
    end: tuple[int, ...],
    training: Training,
    label: int = 1,
) -> None:
    """Trains `model` in place, under `process_group`: each pair once an epoch, with `crop` a beginning of it as well.

    `end` follows every completion.
    """
    hyper, rng = training.hyper, np.random.default_rng(training.seed)
    batches = []
    for _ in range(hyper.epochs):
        examples = [PairExample((*chosen, *end), (*rejected, *end)) for (chosen, _), (rejected, _) in rows]
        if hyper.crop:
            examples += [cropped(better, worse, end, rng) for better, worse in rows]
        batches += bucketed(examples, hyper.batch, rng)

    def loss_of(engine: torch.nn.Module, pairs: Sequence[PairExample]) -> Sums:
        sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        better, worse = forward(engine, model, sequences, label).split(len(pairs))
        margins = better - worse
        figures = {"accuracy": float((margins > 0).sum()), "margin": float(margins.detach().sum())}
        return -F.logsigmoid(margins).sum(), figures

    fit(model, batches, loss_of, training)


def cropped(better: Encoded, worse: Encoded, end: tuple[int, ...], rng: np.random.Generator) -> PairExample:
    """Both completions cut to the same fraction of their tokens, one at least, and followed by `end`.

    The fraction makes the length of the longer one log-uniform.
    """
    lengths = [len(ids) - n_prompt for ids, n_prompt in (better, worse)]
    fraction = crop_length(max(lengths), rng) / max(lengths)
    chosen, rejected = (
        (*ids[: n_prompt + max(1, round(fraction * length))], *end)
        for (ids, n_prompt), length in zip((better, worse), lengths, strict=True)
    )
    return PairExample(chosen, rejected)


def centre(model: PreTrainedModel, rows: Sequence[Encoded], end: tuple[int, ...], label: int) -> float:
    """The mean reward of the demonstrations, kept as `reward_offset` in the model's configuration.

    Whoever scores with the model takes the offset off (`scar_ray.scoring`), so that demonstrations score zero on
    average; the model's weights stay as they are.
    """
    mean = float(rewards(model, [(*ids, *end) for ids, _ in rows], label).mean())
    model.config.reward_offset = mean
    return mean


def _quality_on_pairs(
    model: PreTrainedModel, rows: Sequence[tuple[Encoded, Encoded]], end: tuple[int, ...], label: int
) -> dict[str, float]:
    """`quality` of the pairs, how many there are, and the accuracy of preferring the longer completion."""
    scores = rewards(model, [(*ids, *end) for pair in rows for ids, _ in pair], label)
    longer = np.array([float(len(better) - len(worse)) for (better, _), (worse, _) in rows])
    return {
        **quality(scores[0::2] - scores[1::2]),
        "accuracy_of_longer": quality(longer)["accuracy"],
        "test_pairs": len(rows),
    }
