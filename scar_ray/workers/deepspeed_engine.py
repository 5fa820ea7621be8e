"""DeepSpeed in one process of a group: opening the group, building engines, reading and writing their state."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from scar_ray.config.schema import LearnerConfig, OptimizerConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


def open_group(rank: int, world_size: int, address: tuple[str, int], device: str, timeout_s: int) -> None:
    """Joins the group of learner ranks: gloo on CPU, NCCL on GPUs."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",  # Ray shows each actor its own GPU only
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
    }
    import deepspeed

    timeout = datetime.timedelta(seconds=timeout_s)
    if device == "cuda":
        torch.cuda.set_device(0)
    else:
        # The shared-memory all-reduce would be compiled for a minute and serves inference only.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # DeepSpeed's own subgroups fall back to torch's 30 minutes, whatever timeout the world group got.
    backend = sys.modules["deepspeed.comm.torch"].TorchBackend
    backend.new_group = lambda _, ranks: torch.distributed.new_group(ranks, timeout=timeout)
    try:
        deepspeed.init_distributed(dist_backend="nccl" if device == "cuda" else "gloo", timeout=timeout, verbose=False)
    except torch.distributed.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise OSError(
            f"port {address[1]} is in use: another program took it while the learner was starting; start the run again"
        ) from error


def engine_config(
    learner: LearnerConfig, dtype: str, accumulation: int, max_grad_norm: float, device: str
) -> dict[str, Any]:
    """DeepSpeed configuration for engines whose losses are already normalised over the mini-batch."""
    bucket = int(2e8) if device == "cuda" else int(5e5)
    zero: dict[str, Any] = {
        "stage": learner.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "contiguous_gradients": True,
    }
    if learner.zero_stage == 3:
        # Parameters of fewer elements stay whole on every rank.
        zero["stage3_param_persistence_threshold"] = 100_000 if device == "cuda" else 1_000
    if learner.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device == "cuda"}
    return {
        "train_micro_batch_size_per_gpu": learner.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": learner.micro_batch * accumulation * learner.ranks,
        "gradient_clipping": max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16", "check_grad_overflow": True},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def build_engine(
    module: torch.nn.Module, groups: list[dict[str, Any]], optimizer: OptimizerConfig, config: dict[str, Any]
) -> Any:
    """A DeepSpeed engine around `module` with torch's AdamW over the parameter groups.

    torch's AdamW needs no compiler; DeepSpeed's own Adams are built for minutes on first use.
    """
    import deepspeed

    adamw = torch.optim.AdamW(
        groups,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
    )
    engine, *_ = deepspeed.initialize(model=module, optimizer=adamw, config=config, dist_init_required=False)
    return engine


def frozen_engine(module: torch.nn.Module, config: dict[str, Any]) -> torch.nn.Module:
    """`module` ready for inference: sharded over the ranks under ZeRO-3, else as it is."""
    module.eval().requires_grad_(False)
    if config["zero_optimization"]["stage"] < 3:
        return module
    import deepspeed

    engine, *_ = deepspeed.initialize(
        model=module, config={**config, "gradient_clipping": 0.0}, dist_init_required=False
    )
    engine.eval()  # returns nothing, unlike a module's
    return engine


def sharded_loading(config: dict[str, Any]) -> Any:
    """Context in which `from_pretrained` builds models sharded under ZeRO-3; nothing for other stages."""
    if config["zero_optimization"]["stage"] < 3:
        return nullcontext()
    from transformers.integrations import HfDeepSpeedConfig

    class Loading:
        """Every `from_pretrained` is collective while the object lives, so it ends with the context."""

        def __enter__(self) -> None:
            self._held = HfDeepSpeedConfig(config)

        def __exit__(self, *exc: object) -> None:
            from transformers.integrations import unset_hf_deepspeed_config

            unset_hf_deepspeed_config()
            del self._held

    return Loading()


def gradient_norm(engine: Any) -> float:
    """Norm of the averaged gradients before clipping; call after backward (stage 0) or after step (others)."""
    norm = engine.get_global_grad_norm()
    if norm is None:
        norms = [p.grad.norm() for p in engine.module.parameters() if p.grad is not None]
        norm = torch.stack(norms).norm() if norms else 0.0
    return float(norm)


def _adam(engine: Any) -> torch.optim.AdamW:
    """torch's AdamW, whether DeepSpeed steps it directly (stage 0) or through a ZeRO optimizer."""
    optimizer = engine.optimizer
    return optimizer if isinstance(optimizer, torch.optim.AdamW) else optimizer.optimizer


def read_state(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the full fp32 parameters and Adam moments, `<name>`, `<name>.exp_avg`, `<name>.exp_avg_sq`, one by one.

    Collective over the ranks; independent of their number and of the ZeRO stage. There are no moments before the
    first update.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    plain = isinstance(engine.optimizer, torch.optim.AdamW)
    moments = MOMENTS if updates_done(engine) else ()
    if moments and not plain:
        _link_moments(engine.optimizer)
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        yield name, parameter.detach() if plain else safe_get_full_fp32_param(parameter)
        for key in moments:
            own = engine.optimizer.state[parameter][key] if plain else safe_get_full_optimizer_state(parameter, key)
            yield f"{name}.{key}", own


def updates_done(engine: Any) -> int:
    """Adam's step counter."""
    return max((int(state["step"]) for state in _adam(engine).state.values() if "step" in state), default=0)


def state_shapes(engine: Any, updates: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what `read_state` yields after so many updates."""
    keys = ("", *(f".{key}" for key in MOMENTS)) if updates else ("",)
    return {
        name + key: tuple(getattr(parameter, "ds_shape", parameter.shape))
        for name, parameter in engine.module.named_parameters()
        if parameter.requires_grad
        for key in keys
    }


def write_state(engine: Any, tensors: Mapping[str, torch.Tensor], updates: int) -> None:
    """Puts parameters and moments of `read_state` back, and Adam's step counter. Collective over the ranks."""
    if isinstance(engine.optimizer, torch.optim.AdamW):
        put = partial(_put_plain, engine.optimizer, updates)
    else:
        put = _put_stage3 if hasattr(engine.optimizer, "fp32_partitioned_groups_flat") else _put_stage12
        if updates:
            _create_moments(engine.optimizer, updates)
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            moments = {key: tensors[f"{name}.{key}"] for key in MOMENTS} if updates else {}
            put(parameter, tensors[name], moments)
    if put is _put_stage3 and (whole := engine.optimizer.persistent_parameters):
        # They were written shard by shard as all others.
        whole[0].partition(whole)
        whole[0].all_gather(whole)


def _put_plain(
    optimizer: Any, updates: int, parameter: torch.Tensor, value: torch.Tensor, moments: dict[str, torch.Tensor]
) -> None:
    parameter.data.copy_(value)
    if moments:
        copies = {key: moment.to(parameter.device, copy=True) for key, moment in moments.items()}
        optimizer.state[parameter] = {"step": torch.tensor(float(updates)), **copies}


def _put_stage12(parameter: torch.Tensor, value: torch.Tensor, moments: dict[str, torch.Tensor]) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    safe_set_full_fp32_param(parameter, value)
    parameter.data.copy_(value)
    for key, moment in moments.items():
        safe_set_full_optimizer_state(parameter, moment, key)


def _put_stage3(parameter: torch.Tensor, value: torch.Tensor, moments: dict[str, torch.Tensor]) -> None:
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    def shard(full: torch.Tensor) -> torch.Tensor:
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        size = -(-full.numel() // world)
        padded = torch.nn.functional.pad(full.flatten(), (0, size * world - full.numel()))
        return padded.narrow(0, size * rank, size)

    safe_set_local_fp32_param(parameter, shard(value))
    parameter.ds_tensor.data.copy_(shard(value))
    for key, moment in moments.items():
        safe_set_local_optimizer_state(parameter, shard(moment), key)


def _create_moments(optimizer: Any, updates: int) -> None:
    """Gives a ZeRO optimizer that has not stepped yet the state that its first step would create."""
    stage3 = hasattr(optimizer, "fp32_partitioned_groups_flat")
    flats = optimizer.fp32_partitioned_groups_flat if stage3 else optimizer.single_partition_of_fp32_groups
    for flat in flats:
        optimizer.optimizer.state[flat] = {
            "step": torch.tensor(float(updates)),
            **{key: torch.zeros_like(flat, requires_grad=False) for key in MOMENTS},
        }
    _link_moments(optimizer)


def _link_moments(optimizer: Any) -> None:
    """Stages 1 and 2 link parameters to their moments after the first group's step, too early for later groups."""
    if hasattr(optimizer, "single_partition_of_fp32_groups"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()
