"""One DeepSpeed engine in the current process, and the loop that feeds it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch

from scar_ray.config.errors import UserError
from scar_ray.config.schema import SupervisedConfig
from scar_ray.workers.supervised.folder import RunLog

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedModel

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained."""

    hyper: SupervisedConfig
    seed: int
    """Decides the order of the data; new models take their weights from torch's generator."""
    log: RunLog
    dtype: str = "float32"
    """Of the matrix products; weights and optimizer are always float32. bfloat16 runs under autocast."""


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
    batches: Sequence[Batch],
    loss_of: Callable[[DeepSpeedEngine, Batch], torch.Tensor],
    training: Training,
) -> None:
    """Trains `model` in place, under `one_rank`: one AdamW step on each batch.

    The learning rate rises linearly over the warm-up, then falls as a cosine. UserError when the loss is not
    finite.
    """
    import deepspeed

    hyper = training.hyper
    model.train()
    optimizer = torch.optim.AdamW(_decay_groups(model, hyper.weight_decay), lr=hyper.lr, betas=(0.9, 0.95))
    warmup = max(1, round(hyper.warmup_fraction * len(batches)))
    settings = {
        "train_batch_size": hyper.batch,
        "train_micro_batch_size_per_gpu": hyper.batch,
        "gradient_clipping": _MAX_GRAD_NORM,
        "zero_optimization": {"stage": 0},
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(
            o, lambda step: _schedule(step + 1, warmup, len(batches))
        ),
        config=settings,
        dist_init_required=False,
    )
    for step, batch in enumerate(batches, start=1):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=training.dtype == "bfloat16"):
            loss = loss_of(engine, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"step {step}: the loss is {value}; lower the learning rate (now {hyper.lr})")
        engine.backward(loss)
        engine.step()
        training.log.step(step, len(batches), {"loss": value, "lr": optimizer.param_groups[0]["lr"]})
    engine.destroy()
    sys.stdout.flush()


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
