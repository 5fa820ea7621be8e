"""Rollout: vLLM engines in Ray actors, and the pool that shares the requests of a step among them."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from scar_ray.config.schema import RolloutPoolConfig, Sampling
from scar_ray.records import Request, Response
from scar_ray.text.writing import Writing
from scar_ray.workers.environment import importing
from scar_ray.workers.errors import ActorFailed, explain


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is started with."""

    model: str
    dtype: str
    device: str
    backend: str
    """Weight-transfer backend: "nccl", "ipc" or "object_store"."""
    trust_remote_code: bool
    pool: RolloutPoolConfig
    sampling: Sampling
    infill: str = ""
    """`PolicyConfig.infill`."""


class RolloutWorker:
    """One vLLM engine. Lives in an actor of its own; several GPUs by tensor parallelism.

    A tensor-parallel engine on CPU keeps worker processes besides the actor's; it starts a good deal slower.
    """

    def __init__(self, name: str, options: EngineOptions) -> None:
        with importing():
            from transformers import AutoConfig, AutoTokenizer
            from vllm import LLM, SamplingParams

            import scar_ray.workers.vllm_transfer  # noqa: F401  (registers the CPU backend)

        self._name, self._options = name, options
        self._tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=options.trust_remote_code)
        self._writing = Writing(self._tokenizer, options.infill)
        self._params = SamplingParams
        model = AutoConfig.from_pretrained(options.model, trust_remote_code=options.trust_remote_code)
        context = getattr(model, "max_position_embeddings", None) or options.pool.max_model_len
        self._context = min(context, options.pool.max_model_len)
        with tempfile.TemporaryDirectory() as generation:
            # vLLM adds the model's own list of stop tokens to ours. Only the tokenizer's EOS ends a response: it is
            # the one token that the learner forbids and the credit methods leave out.
            (Path(generation) / "generation_config.json").write_text("{}")
            self._llm = LLM(options.model, generation_config=generation, **_engine_arguments(options, self._context))
        self._version = 0
        self._busy_s = 0.0

    def ready(self) -> str:
        """Returns the engine's name once it has loaded."""
        return self._name

    def busy_seconds(self) -> float:
        """Seconds spent generating or taking weights so far."""
        return self._busy_s

    def generate(self, requests: list[Request], sampling: Sampling | None = None) -> Iterator[Response]:
        """Yields the response to each request as it finishes. ValueError for a prompt that leaves too little room."""
        sampling = sampling or self._options.sampling
        engine = self._llm.llm_engine
        pending = {}
        read = [self._writing.read(request) for request in requests]
        rooms = [request.most(sampling.max_new_tokens) for request in requests]
        for request, ids, room in zip(requests, read, rooms, strict=True):
            self._check_length(request, len(ids), room)
        for request, ids, room in zip(requests, read, rooms, strict=True):
            if room < 1:  # what was written into earlier gaps has taken the room of this one
                yield self._response(request, (), (), False)
                continue
            key = str(request.row)
            pending[key] = request
            engine.add_request(key, {"prompt_token_ids": ids}, self._sampling(request, sampling, room))
        while pending:
            started = time.perf_counter()
            finished = [output for output in engine.step() if output.finished]
            self._busy_s += time.perf_counter() - started
            for output in finished:
                yield self._written(pending.pop(output.request_id), output.outputs[0])

    def _check_length(self, request: Request, length: int, room: int) -> None:
        """vLLM would cut the response short without a word."""
        if length + room <= self._context:
            return
        if request.after:
            raise ValueError(
                f"prompt {request.prompt.index}: model.policy.infill around it and its response has {length} tokens; "
                f"with {room} to be filled in it exceeds the engine's context of {self._context}; raise "
                "cluster.rollout.max_model_len or shorten prompts and responses"
            )
        new, prompt = room + len(request.kept), length - len(request.kept)
        raise ValueError(
            f"prompt {request.prompt.index} has {prompt} tokens; with max_new_tokens={new} it "
            f"exceeds the engine's context of {self._context}; use shorter prompts or raise "
            "cluster.rollout.max_model_len"
        )

    def _sampling(self, request: Request, sampling: Sampling, room: int) -> Any:
        return self._params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_tokens=request.least(sampling.min_new_tokens),
            max_tokens=room,
            seed=request.seed,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            stop_token_ids=[self._tokenizer.eos_token_id],
        )

    def _written(self, request: Request, completion: Any) -> Response:
        logprobs = completion.logprobs
        sampled = [logprobs.logprobs[start] for start in logprobs.start_indices]
        return self._response(request, completion.token_ids, sampled, completion.finish_reason == "stop")

    def _response(self, request: Request, written: Sequence[int], logprobs: Sequence[float], ended: bool) -> Response:
        return self._writing.response(
            request, written, logprobs, ended=ended, policy_version=self._version, engine=self._name
        )

    # vLLM's weight-transfer protocol, one method for one method

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self._llm.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        started = time.perf_counter()
        if "refs" in update_info and self._options.pool.tensor_parallel > 1:
            self._update_from_file(update_info["refs"][0])
        else:
            self._llm.update_weights({"update_info": update_info})
        self._busy_s += time.perf_counter() - started

    def _update_from_file(self, ref: Any) -> None:
        """Worker processes of a tensor-parallel CPU engine know nothing of Ray: they read a file in memory."""
        from safetensors.torch import save_file

        shm = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in ray.get(ref).items()}, path)
            self._llm.update_weights({"update_info": {"path": str(path)}})

    def finish_weight_update(self, version: int) -> None:
        """Ends the update; cached prefixes were computed with the old weights and are dropped."""
        self._llm.finish_weight_update(str(version))
        self._llm.reset_prefix_cache()
        self._version = version

    def policy_version(self) -> int:
        return int(self._version)

    def close(self) -> None:
        """Ends the worker processes of a tensor-parallel CPU engine; their shared memory would outlive a kill."""
        self._llm.llm_engine.engine_core.shutdown()


def _engine_arguments(options: EngineOptions, max_model_len: int) -> dict[str, Any]:
    """Arguments of `vllm.LLM` for this engine."""
    pool = options.pool
    arguments: dict[str, Any] = {
        "dtype": options.dtype,
        "max_model_len": max_model_len,
        "tensor_parallel_size": pool.tensor_parallel,
        "trust_remote_code": options.trust_remote_code,
        # Behaviour log-probabilities are those of the tempered, length-masked distribution that was sampled.
        "logprobs_mode": "processed_logprobs",
        "weight_transfer_config": {"backend": options.backend},
        "worker_extension_cls": "scar_ray.workers.vllm_transfer.WorkerExtension",
        "disable_log_stats": True,
    }
    if options.device == "cpu":
        arguments |= {
            "enforce_eager": True,
            "kv_cache_memory_bytes": int(pool.cpu_kv_cache_gb * 2**30),
            "block_size": 32,
            # Per-request seeds and chunked prefill do not go together on CPU.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(4096, max_model_len),
        }
        if pool.tensor_parallel > 1:
            arguments["distributed_executor_backend"] = "mp"
    else:
        arguments["gpu_memory_utilization"] = pool.gpu_memory
        if pool.tensor_parallel > 1:
            arguments["distributed_executor_backend"] = "ray"
    return arguments


class RayRolloutPool:
    """Shares requests among the engines and merges their responses into one stream."""

    def __init__(self, engines: Sequence[Any], names: Sequence[str]) -> None:
        self.engines, self.names = list(engines), list(names)

    def generate(self, requests: Sequence[Request], sampling: Sampling | None = None) -> Iterator[Response]:
        """Yields each response as it finishes, from whichever engine. Raises ActorFailed naming the engine."""
        merged: queue.Queue[Response | Exception | None] = queue.Queue()
        for i, engine in enumerate(self.engines):
            share = list(requests[i :: len(self.engines)])
            arguments = (engine, self.names[i], share, sampling, merged)
            threading.Thread(target=self._drain, args=arguments, daemon=True).start()
        running = len(self.engines)
        while running:
            item = merged.get()
            if item is None:
                running -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item

    @staticmethod
    def _drain(
        engine: Any, name: str, share: list[Request], sampling: Sampling | None, merged: queue.Queue[Any]
    ) -> None:
        try:
            if share:
                for ref in engine.generate.options(num_returns="streaming").remote(share, sampling):
                    merged.put(ray.get(ref))
        except Exception as error:  # handed to the consumer, which raises it
            merged.put(ActorFailed(f"{name}: {explain(error)}"))
        else:
            merged.put(None)

    def close(self, timeout_s: float) -> None:
        """Gives the engines so long to end by themselves."""
        ray.wait([engine.close.remote() for engine in self.engines], num_returns=len(self.engines), timeout=timeout_s)

    def busy_seconds(self) -> float:
        return float(sum(ray.get([engine.busy_seconds.remote() for engine in self.engines])))
