"""Environment of the actors, set before their processes import anything heavy."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

from scar_ray.config.schema import ClusterConfig

FORWARDED = ("HF_HUB_OFFLINE", "HF_HOME", "HF_TOKEN", "XDG_CACHE_HOME", "NCCL_DEBUG", "NCCL_SOCKET_IFNAME")
"""Variables of the driver that every actor gets; secrets travel only this way, never through files."""


def show_token() -> None:
    """Makes Ray show the cluster's token where this user has one. To be called before Ray is imported, which reads it.

    Ray does so by itself for clusters that it starts, not for those that it joins.
    """
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or (Path.home() / ".ray/auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def joins(cluster: ClusterConfig) -> bool:
    """Whether a Ray cluster is joined that is there already: that of the address, or of a Ray job."""
    return cluster.address is not None or "RAY_ADDRESS" in os.environ


def actor_env(cluster: ClusterConfig, threads: int | None = None) -> dict[str, str]:
    """Environment variables of an actor of this cluster."""
    env = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    env |= {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        # Actors without GPUs must not see any: importing torch would open a context on GPU 0.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    }
    if cluster.device == "cpu":
        env |= {
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": str(threads or cluster.threads_per_actor),
            # Big temporaries are kept in the heap: page faults would cost up to half of the CPU time.
            "MALLOC_TOP_PAD_": "268435456",
            "MALLOC_MMAP_THRESHOLD_": "4294967296",
            "MALLOC_TRIM_THRESHOLD_": "8589934592",
        }
    return env


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For an actor's imports: the garbage collector waits meanwhile, and never looks at what there is then.

    It would find nothing, and take a sixth of the time that vLLM, DeepSpeed and Transformers need to load.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def learner_env(cluster: ClusterConfig) -> dict[str, str]:
    """Environment variables of a learner's rank."""
    env = actor_env(cluster)
    if cluster.device == "cpu":
        # Nothing is compiled, but DeepSpeed's ZeRO decorates functions of its own for it: seconds of imports.
        env["TORCHDYNAMO_DISABLE"] = "1"
    return env


def engine_env(cluster: ClusterConfig) -> dict[str, str]:
    """Environment variables of a vLLM engine."""
    env = actor_env(cluster) | {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        # The engine lives in the actor's own process: one process fewer, tensors reach it as Ray objects.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    if cluster.device == "cpu":
        env |= {
            "TORCH_COMPILE_DISABLE": "1",  # saves 20 s of compilation that brings nothing to a CPU engine
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else vLLM asks for a NUMA node for each tensor-parallel worker
        }
    return env
