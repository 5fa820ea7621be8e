"""One DeepSpeed engine in the current process, and the loop that feeds it."""

from __future__ import annotations

import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from scar_ray.config.errors import UserError
from scar_ray.config.schema import SupervisedConfig
from scar_ray.workers import deepspeed_engine as ds
from scar_ray.workers.state_files import read_tensors, write_tensors
from scar_ray.workers.supervised.folder import Log

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedModel

RowT = TypeVar("RowT")
Sums = tuple[torch.Tensor, Mapping[str, float]]
"""The sum of the rows' losses, and sums of other figures, whose means are logged."""


def _one(_: object) -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained."""

    hyper: SupervisedConfig
    seed: int
    """Decides the order of the data; new models take their weights from torch's generator."""
    log: Log
    dtype: str = "float32"
    """Of the matrix products; weights and optimizer are always float32. bfloat16 runs under autocast."""
    weight_of: Callable[[Any], float] = _one
    """Weight of a row in the mean of a batch."""


_MAX_GRAD_NORM = 1.0


@contextmanager
def one_rank(device: str, seed: int, threads: int) -> Iterator[torch.device]:
    """A process group of this process alone, for DeepSpeed; yields the device.

    `threads` CPU threads work. Environment, thread count and random state are put back at the end, so that
    Ray actors started later inherit nothing of it.
    """
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "DS_ACCELERATOR": device}
    before, threads_before = os.environ.copy(), torch.get_num_threads()
    os.environ.update(environment)
    rng_devices = list(range(torch.cuda.device_count())) if device == "cuda" else []
    try:
        with torch.random.fork_rng(devices=rng_devices):
            torch.manual_seed(seed)
            torch.set_num_threads(threads)
            _init_group(device)
            yield torch.device(device, 0) if device == "cuda" else torch.device(device)
    finally:
        import deepspeed

        if torch.distributed.is_initialized():
            deepspeed.comm.destroy_process_group()
        torch.set_num_threads(threads_before)
        os.environ.clear()
        os.environ.update(before)


def _init_group(device: str) -> None:
    import deepspeed

    # Without this DeepSpeed compiles a shared-memory all-reduce for over a minute, which one rank never uses.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if device == "cuda" else "gloo"
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timedelta(minutes=5))
    deepspeed.init_distributed(dist_backend=backend, verbose=False)


def fit(
    model: PreTrainedModel,
    batches: Sequence[Sequence[RowT]],
    loss_of: Callable[[DeepSpeedEngine, Sequence[RowT]], Sums],
    training: Training,
) -> None:
    """Trains `model` in place, under `one_rank`: one AdamW step on each batch; all batches have the same size.

    `loss_of` gives sums over rows; what is minimised is the sum of a batch's losses over the sum of its weights, in
    however many forward passes it is computed. The learning rate rises linearly over the warm-up, then falls as a
    cosine. Goes on from the log's checkpoint where it has one: data, order and rates are functions of the step, so
    that a stopped training ends with the same weights, bit for bit. UserError when the loss is not finite.
    """
    hyper, n_steps = training.hyper, len(batches)
    size = min(hyper.micro_batch or hyper.batch, len(batches[0]))
    warmup = max(1, round(hyper.warmup_fraction * n_steps))
    model.train()
    engine = _engine(model, hyper, size, passes=-(-len(batches[0]) // size))
    with training.log.training(n_steps) as checkpoint:
        done = 0 if checkpoint is None else _restore(engine, checkpoint, n_steps)
        for step, batch in enumerate(batches[done:], start=done + 1):
            torch.manual_seed(int(np.random.SeedSequence([training.seed, step]).generate_state(1)[0]))  # dropout
            lr = hyper.lr * _schedule(step, warmup, n_steps)
            for group in engine.optimizer.param_groups:
                group["lr"] = lr
            figures = _update(engine, [batch[k : k + size] for k in range(0, len(batch), size)], loss_of, training)
            if not math.isfinite(figures["loss"]):
                raise UserError(f"step {step}: the loss is {figures['loss']}; lower the learning rate (now {hyper.lr})")
            training.log.step(step, n_steps, {**figures, "lr": lr})
            training.log.checkpoint(step, n_steps, lambda folder: _save(engine, folder, n_steps))
    engine.destroy()
    sys.stdout.flush()


def _engine(model: PreTrainedModel, hyper: SupervisedConfig, size: int, passes: int) -> DeepSpeedEngine:
    """DeepSpeed around the model: `passes` forward and backward passes of `size` rows make one AdamW step."""
    import deepspeed

    optimizer = torch.optim.AdamW(_decay_groups(model, hyper.weight_decay), lr=hyper.lr, betas=(0.9, 0.95))
    settings = {
        "train_batch_size": size * passes,
        "train_micro_batch_size_per_gpu": size,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": _MAX_GRAD_NORM,
        "zero_optimization": {"stage": 0},
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    return engine


def _update(
    engine: DeepSpeedEngine,
    parts: Sequence[Sequence[RowT]],
    loss_of: Callable[[DeepSpeedEngine, Sequence[RowT]], Sums],
    training: Training,
) -> dict[str, float]:
    """One AdamW step; the means of loss and figures over the batch. No step when the loss is not finite."""
    totals: dict[str, float] = defaultdict(float)
    weight = sum(training.weight_of(row) for part in parts for row in part)
    for part in parts:
        with torch.autocast(engine.device.type, torch.bfloat16, enabled=training.dtype == "bfloat16"):
            loss, figures = loss_of(engine, part)
        totals["loss"] += float(loss.detach()) / weight
        for name, value in figures.items():
            totals[name] += value / weight
        if not math.isfinite(totals["loss"]):
            break
        engine.backward(loss / weight * len(parts))  # DeepSpeed divides by the number of passes
        engine.step()
    return dict(totals)


def _save(engine: DeepSpeedEngine, folder: Path, n_steps: int) -> None:
    """Weights and moments into a folder."""
    updates = ds.updates_done(engine)
    write_tensors(folder, ds.read_state(engine), {"updates": updates, "steps": n_steps}, write=True)


def _restore(engine: DeepSpeedEngine, folder: Path, n_steps: int) -> int:
    """Puts weights and moments back and returns the steps done. UserError when the data have changed."""
    tensors, meta = read_tensors(folder)
    if meta["steps"] != n_steps:
        raise UserError(
            f"checkpoint {folder}: is of a training of {meta['steps']} steps, the data make {n_steps} now; restore the "
            "data, or remove the folder to start anew"
        )
    updates = int(meta["updates"])
    tensors.check_shapes(ds.state_shapes(engine, updates))
    ds.write_state(engine, tensors, updates)
    return updates


def _decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; norms and biases do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Factor on the learning rate at `step` (from 1)."""
    if step <= warmup:
        return step / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup + 1)))
