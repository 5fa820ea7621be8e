"""A DeepSpeed engine, in this process alone or as one rank of several, and the loop that feeds it."""

from __future__ import annotations

import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from scar_ray.config.errors import UserError
from scar_ray.config.schema import LearnerConfig, OptimizerConfig, SupervisedConfig
from scar_ray.workers import deepspeed_engine as ds
from scar_ray.workers.state_files import read_tensors, write_tensors
from scar_ray.workers.supervised.folder import Halted, Log

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
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """How gradients and moments are spread over the ranks (ZeRO), and what is offloaded."""


@contextmanager
def process_group(device: str, seed: int, threads: int) -> Iterator[torch.device]:
    """The group of ranks that this process belongs to, else one of this process alone; yields the device.

    Alone, `threads` CPU threads work, and environment, thread count and random state are put back at the end, so that
    Ray actors started later inherit nothing of it.
    """
    own = torch.device(device, 0) if device == "cuda" else torch.device(device)
    if torch.distributed.is_initialized():
        torch.manual_seed(seed)
        yield own
        return
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "DS_ACCELERATOR": device}
    before, threads_before = os.environ.copy(), torch.get_num_threads()
    os.environ.update(environment)
    rng_devices = list(range(torch.cuda.device_count())) if device == "cuda" else []
    try:
        with torch.random.fork_rng(devices=rng_devices):
            torch.manual_seed(seed)
            torch.set_num_threads(threads)
            _init_group(device)
            yield own
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
    """Trains `model` in place, under `process_group`: one AdamW step on each batch; all batches have the same size.

    Every rank is called with the same batches and computes its share of their rows. `loss_of` gives sums over rows;
    what is minimised is the sum of a batch's losses over the sum of its weights, in however many forward passes and
    on however many ranks it is computed. The learning rate rises linearly over the warm-up, then falls as a
    cosine. Goes on from the log's checkpoint where it has one: data, order and rates are functions of the step, so
    that a stopped training ends with the same weights, bit for bit. UserError when the loss is not finite, Halted
    after the checkpoint that the user's stop asks for.
    """
    hyper, n_steps = training.hyper, len(batches)
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    share, rest = divmod(len(batches[0]), ranks)
    if rest:
        raise UserError(
            f"batches of {len(batches[0])} rows: {ranks} ranks (cluster.learner.ranks) cannot share them alike; use "
            "another batch size or number of ranks"
        )
    size = min(hyper.micro_batch or hyper.batch, share)
    warmup = max(1, round(hyper.warmup_fraction * n_steps))
    model.train()
    if training.learner.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    engine = _engine(model, training, size, passes=-(-share // size))
    with training.log.training(n_steps) as checkpoint:
        done = 0 if checkpoint is None else _restore(engine, checkpoint, n_steps)
        for step, batch in enumerate(batches[done:], start=done + 1):
            drawn = [training.seed, step, rank] if rank else [training.seed, step]
            torch.manual_seed(int(np.random.SeedSequence(drawn).generate_state(1)[0]))  # dropout
            lr = hyper.lr * _schedule(step, warmup, n_steps)
            for group in engine.optimizer.param_groups:
                group["lr"] = lr
            weight, own = sum(map(training.weight_of, batch)), batch[rank::ranks]
            parts = [own[k : k + size] for k in range(0, share, size)]
            figures = _update(engine, parts, weight, loss_of, training)
            if not math.isfinite(figures["loss"]):
                raise UserError(f"step {step}: the loss is {figures['loss']}; lower the learning rate (now {hyper.lr})")
            training.log.step(step, n_steps, {**figures, "lr": lr})
            (stop,) = _over_ranks([float(training.log.stopping)], engine.device)
            if stop or step % hyper.checkpoint_every == 0 or step == n_steps:
                training.log.checkpoint(step, lambda folder: _save(engine, folder, n_steps))
            if stop:
                raise Halted(step)
    engine.destroy()
    sys.stdout.flush()


def _engine(model: PreTrainedModel, training: Training, size: int, passes: int) -> DeepSpeedEngine:
    """DeepSpeed around the model: `passes` forward and backward passes of `size` rows a rank make one AdamW step."""
    optimizer = OptimizerConfig(lr=training.hyper.lr, eps=1e-8)
    groups = _decay_groups(model, training.hyper.weight_decay, optimizer.lr)
    learner = training.learner.model_copy(update={"micro_batch": size})
    settings = ds.engine_config(learner, "float32", passes, optimizer.max_grad_norm, model.device.type)
    return ds.build_engine(model, groups, optimizer, settings)


def _update(
    engine: DeepSpeedEngine,
    parts: Sequence[Sequence[RowT]],
    weight: float,
    loss_of: Callable[[DeepSpeedEngine, Sequence[RowT]], Sums],
    training: Training,
) -> dict[str, float]:
    """One AdamW step on a batch of so much weight, of which this rank has these parts.

    Returns the means of loss and figures over the batch. No step when the loss is not finite.
    """
    totals: dict[str, float] = defaultdict(float)
    ranks = torch.distributed.get_world_size()
    for part in parts:
        with torch.autocast(engine.device.type, torch.bfloat16, enabled=training.dtype == "bfloat16"):
            loss, figures = loss_of(engine, part)
        totals["loss"] += float(loss.detach()) / weight
        for name, value in figures.items():
            totals[name] += value / weight
        if not math.isfinite(*_over_ranks([float(loss.detach())], engine.device)):
            break
        engine.backward(loss / weight * len(parts) * ranks)  # DeepSpeed takes the mean over passes and ranks
        engine.step()
    return dict(zip(totals, _over_ranks(list(totals.values()), engine.device), strict=True))


def _over_ranks(values: list[float], device: torch.device) -> list[float]:
    """The sums of numbers over all ranks."""
    if torch.distributed.get_world_size() == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    found: list[float] = sums.tolist()
    return found


def _save(engine: DeepSpeedEngine, folder: Path, n_steps: int) -> None:
    """Weights and moments into a folder, written by the first rank."""
    meta = {"updates": ds.updates_done(engine), "steps": n_steps}
    write_tensors(folder, ds.read_state(engine), meta, write=torch.distributed.get_rank() == 0)


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


def _decay_groups(model: torch.nn.Module, weight_decay: float, lr: float) -> list[dict[str, object]]:
    """Matrices decay; norms and biases do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay, "lr": lr},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, "lr": lr},
    ]


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Factor on the learning rate at `step` (from 1)."""
    if step <= warmup:
        return step / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup + 1)))
