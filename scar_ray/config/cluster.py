"""The cluster section: how many actors of each role, and where they run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scar_ray.config.section import Count, Fraction, Positive, Section, Whole

EngineName = Literal["auto", "fastest", "trie", "shared_prompt", "plain", "vllm"]


class RolloutPoolConfig(Section):
    """vLLM engines."""

    engines: Count = 1
    tensor_parallel: Count = 1
    max_model_len: Count = 1024
    gpu_memory: Annotated[float, Field(gt=0.0, le=1.0)] = 0.85
    """Share of the GPU's memory an engine may use."""
    cpu_kv_cache_gb: Positive = 0.25
    """CPU engines: size of the key-value cache (GiB)."""
    max_logprob_gap: Positive | None = None
    """Largest difference between engine and learner log-probabilities of a token before the engine counts as
    wrong; none: 0.01 in float32 and 2.0 in bfloat16 (nats)."""


class LearnerConfig(Section):
    """DeepSpeed ranks."""

    ranks: Count = 1
    zero_stage: Literal[0, 1, 2, 3] = 0
    micro_batch: Count = 8
    """Responses of one forward and backward pass on a rank; gradients accumulate up to the mini-batch."""
    offload_optimizer: bool = False
    gradient_checkpointing: bool = False
    timeout_s: Annotated[int, Field(ge=30)] = 1800
    """A collective that waits longer than this for another rank is an error."""


class RewardPoolConfig(Section):
    """Reward-model actors."""

    actors: Count = 1
    batch_tokens: Count = 16_384
    """Padded tokens of one forward pass, where sequences are computed in padded batches."""
    engine: EngineName = "auto"
    """What coalitions of a causal model have in common is computed once: token by token (trie) or only the prompt
    (shared_prompt). auto measures those that give this model's plain scores, once, on a response of full length, and
    the run keeps the fastest; they differ in rounding only, and a run is repeated to the last bit with the name that
    its config.json has. vllm is for models that one GPU does not hold; auto takes it where `tensor_parallel` is above
    1, and only there: it is another program with memory of its own. fastest measures it too, which takes the time of
    its start."""
    tensor_parallel: Count = 1
    """vllm only: GPUs of one actor."""
    memory_gib: Positive = 1.0
    """Memory that scoring may take above the model's own (GiB); of vllm its key-value cache on each GPU."""
    batch_texts: Count = 256
    """Python functions: texts of one call at most."""
    parallel_calls: Count | None = None
    """Python functions: calls at the same time in one actor, in threads; none: 8 of functions that wait (http, async
    ones), 1 of others."""
    task_tokens: Count = 16_384
    """Tokens that an actor computes at a time, about: a response whose coalitions take more is cut, smaller ones are
    put together. The numbers depend on it in their last bits, and not on the number of actors."""
    responses_per_task: Count = 8
    """Neighbouring responses scored together where all of them are small."""
    gpus_per_actor: Fraction = 1.0
    """Share of a GPU that an actor reserves; 0 is for Python functions."""
    max_restarts: Whole = 3
    """How often a lost actor is started again before the run gives up."""
    timeout_s: Annotated[int, Field(ge=1)] = 1800
    """An actor that takes longer than this for a task hangs: it is started again, another one does the task."""

    @property
    def uses_vllm(self) -> bool:
        return self.engine == "vllm" or (self.engine == "auto" and self.tensor_parallel > 1)


class ClusterConfig(Section):
    """Which actors run where."""

    device: Literal["cpu", "cuda"] = "cpu"
    placement: Literal["separate", "shared"] = "separate"
    """cuda only: GPUs of their own for engines, learner and reward models, or the same for all (CUDA IPC)."""
    address: str | None = None
    """Ray cluster to join ("auto", host:port); none: the cluster of a Ray job, else a local one."""
    cpus_per_actor: Positive = 0.5
    """cpu only: CPUs that an actor reserves."""
    threads_per_actor: Count = 1
    """cpu only: threads of each actor."""
    startup_timeout_s: Annotated[int, Field(ge=1)] = 600
    """How long to wait for the cluster to grow to the placement asked for, when it could."""
    rollout: RolloutPoolConfig = RolloutPoolConfig()
    learner: LearnerConfig = LearnerConfig()
    reward: RewardPoolConfig = RewardPoolConfig()
