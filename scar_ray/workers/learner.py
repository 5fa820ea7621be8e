"""One rank of the learner: policy, reference and, where there is one, critic under DeepSpeed, in a Ray actor."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scar_ray.config.schema import AlgorithmConfig, LearnerConfig, ModelConfig, Sampling
from scar_ray.objectives.ppo import combine_metrics, value_loss
from scar_ray.trainer.protocols import Float32Array, PPOBatch
from scar_ray.workers import deepspeed_engine as ds
from scar_ray.workers.environment import importing
from scar_ray.workers.modeling import (
    Outputs,
    Padded,
    TokenCritic,
    TokenPolicy,
    add_lora,
    load_policy,
    load_trunk,
    pad,
)
from scar_ray.workers.objective import MiniBatch, policy_objective
from scar_ray.workers.state_files import read_tensors, write_tensors
from scar_ray.workers.transfer import EngineClient, open_transfer
from scar_ray.workers.weights import PolicyWeights


@dataclass(frozen=True, slots=True)
class LearnerOptions:
    """What a learner rank is started with."""

    model: ModelConfig
    algorithm: AlgorithmConfig
    learner: LearnerConfig
    sampling: Sampling
    device: str
    threads: int
    seed: int = 0
    """Decides the weights of fresh adapters."""


@dataclass(frozen=True, slots=True)
class RankShare:
    """A rank's rows of a batch."""

    prompt_ids: tuple[tuple[int, ...], ...]
    response_ids: tuple[tuple[int, ...], ...]


class LearnerRank:
    """Holds its shard of policy, reference and a critic, if any; every method is called on all ranks together."""

    def __init__(self, rank: int, options: LearnerOptions, address: tuple[str, int]) -> None:
        with importing():
            import deepspeed  # noqa: F401  (for deepspeed_engine)
            from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401  (the first for modeling)

        self._rank, self._options = rank, options
        torch.manual_seed(options.seed)
        if options.device == "cpu":
            torch.set_num_threads(options.threads)
        self._device = torch.device(options.device)
        ds.open_group(rank, options.learner.ranks, address, options.device, options.learner.timeout_s)
        model = options.model
        self._tokenizer = AutoTokenizer.from_pretrained(model.policy.path, trust_remote_code=model.trust_remote_code)
        eos = self._tokenizer.eos_token_id
        if eos is None:
            raise ValueError(f"model.policy.path={model.policy.path}: the tokenizer has no EOS token; add one")
        self._eos_id = int(eos)
        self._pad_id = self._eos_id if self._tokenizer.pad_token_id is None else int(self._tokenizer.pad_token_id)
        self._busy_s = 0.0
        self._build()

    def _build(self) -> None:
        model, algorithm, learner = self._options.model, self._options.algorithm, self._options.learner
        per_rank = algorithm.batch.minibatch // learner.ranks
        self._accumulation = per_rank // learner.micro_batch
        config = ds.engine_config(
            learner,
            model.policy.dtype,
            self._accumulation,
            algorithm.optimizer.max_grad_norm,
            self._options.device,
        )
        shared = algorithm.has_critic and algorithm.critic.kind == "shared"
        separate = algorithm.has_critic and not shared
        self._critic: Any = None
        with ds.sharded_loading(config):
            policy = load_policy(model.policy.path, model.policy.dtype, model.trust_remote_code)
            self._config = policy.config
            reference = None
            if model.policy.lora is None:
                reference = load_policy(model.policy.path, model.policy.dtype, model.trust_remote_code)
            else:
                policy = add_lora(policy, model.policy.lora)
            if separate:
                path = model.policy.path if algorithm.critic.init == "policy" else model.reward.path
                trunk = load_trunk(path, model.policy.dtype, model.trust_remote_code)
                if trunk.config.vocab_size < policy.config.vocab_size:
                    raise ValueError(
                        f"algorithm.critic.init=reward: the reward model knows {trunk.config.vocab_size} tokens, the "
                        f"policy {policy.config.vocab_size}; use algorithm.critic.init=policy"
                    )
                critic = TokenCritic(trunk)
        if learner.gradient_checkpointing:
            policy.gradient_checkpointing_enable()
        module = TokenPolicy(policy, self._options.sampling, self._eos_id, value_head=shared)
        trained = [p for p in module.policy.parameters() if p.requires_grad]
        groups = [{"params": trained, "lr": algorithm.optimizer.lr}]
        if module.value_head is not None:
            groups.append({"params": list(module.value_head.parameters()), "lr": algorithm.value_head_lr})
        self._actor = ds.build_engine(module.to(self._device), groups, algorithm.optimizer, config)
        if separate:
            groups = [{"params": list(critic.parameters()), "lr": algorithm.critic.lr}]
            self._critic = ds.build_engine(critic.to(self._device), groups, algorithm.optimizer, config)
        if reference is not None:
            frozen = TokenPolicy(reference, self._options.sampling, self._eos_id, value_head=False)
            self._reference = ds.frozen_engine(frozen.to(self._device), config)

    def ready(self) -> int:
        """Returns the vocabulary size once the models have loaded."""
        return int(self._config.vocab_size)

    def busy_seconds(self) -> float:
        """Seconds spent computing so far, waiting for other ranks included."""
        return self._busy_s

    # forward

    @torch.no_grad()
    def forward(
        self, share: RankShare, sampling: Sampling | None = None
    ) -> tuple[Float32Array, Float32Array, Float32Array | None]:
        """Log-probabilities, reference log-probabilities and a critic's values of this rank's rows, each (rows, T)."""
        started = time.perf_counter()
        for _, engine in self._engines():
            engine.eval()
        width = max(map(len, share.response_ids))
        columns: tuple[list[Float32Array], ...] = ([], [], [])
        for rows in self._micro_batches(range(len(share.response_ids))):
            batch = self._padded(share, rows)
            own: Outputs = self._actor(batch, sampling=sampling)
            values = own.values_RT if self._critic is None else self._critic(batch)
            reference = self._reference_logprobs(batch, sampling)
            for column, tensor in zip(columns, (own.logprobs_RT, reference, values), strict=True):
                if tensor is not None:
                    column.append(widened(tensor, batch.mask_RT, width))
        self._busy_s += time.perf_counter() - started
        logprobs_BT, ref_logprobs_BT = (np.concatenate(column) for column in columns[:2])
        return logprobs_BT, ref_logprobs_BT, np.concatenate(columns[2]) if columns[2] else None

    def _reference_logprobs(self, batch: Padded, sampling: Sampling | None) -> torch.Tensor:
        if self._options.model.policy.lora is not None:
            with self._actor.module.policy.disable_adapter():
                return self._actor(batch, sampling=sampling).logprobs_RT
        return self._reference(batch, sampling=sampling).logprobs_RT

    def _micro_batches(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        size = self._options.learner.micro_batch
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _padded(self, share: RankShare, rows: Sequence[int]) -> Padded:
        prompts = [share.prompt_ids[row] for row in rows]
        return pad(prompts, [share.response_ids[row] for row in rows], self._pad_id, self._device)

    # update

    def update(self, part: PPOBatch, whole: MiniBatch, train_policy: bool) -> dict[str, float]:
        """One optimizer step on this rank's rows of the mini-batch `whole`.

        Returns sums over this rank's counted tokens; keys that end in _max are maxima, grad_norm is global.
        """
        started = time.perf_counter()
        for _, engine in self._engines():
            engine.train()
        self._set_rates(part.lr_scale, train_policy)
        share = RankShare(part.sequences.prompt_ids, part.sequences.response_ids)
        metrics = []
        for rows in self._micro_batches(range(len(part.sequences))):
            batch = self._padded(share, rows)
            counted_R1 = torch.from_numpy(part.counted_B[list(rows), None]).to(self._device)
            batch = batch._replace(mask_RT=batch.mask_RT & counted_R1)
            metrics.append(self._micro_update(batch, part, list(rows), whole, train_policy))
        total = {name: float(value) for name, value in combine_metrics(metrics).items()}
        total["grad_norm"] = self._grad_norm
        self._busy_s += time.perf_counter() - started
        return total

    def _micro_update(
        self, batch: Padded, part: PPOBatch, rows: list[int], whole: MiniBatch, train_policy: bool
    ) -> dict[str, torch.Tensor]:
        algorithm, mask = self._options.algorithm, batch.mask_RT

        def here(array_BT: Float32Array) -> torch.Tensor:
            return torch.from_numpy(array_BT[rows, : mask.shape[1]]).to(self._device)

        learns = train_policy or self._critic is None
        with nullcontext() if learns else torch.no_grad():
            output: Outputs = self._actor(batch, entropy=True, detach_trunk=not train_policy)
        limit = self._options.sampling.max_new_tokens
        loss, metrics = policy_objective(output, mask, part, here, algorithm, whole, limit)
        loss = loss * float(train_policy)
        if part.returns_BT is not None:
            assert part.old_values_BT is not None
            critic_loss, critic_metrics = value_loss(
                output.values_RT if self._critic is None else self._critic(batch),
                here(part.old_values_BT),
                here(part.returns_BT),
                mask,
                clip=algorithm.critic.clip,
                denominator=whole.tokens,
            )
            metrics |= critic_metrics
            if self._critic is None:
                loss = loss + algorithm.critic.coef * critic_loss
            else:
                self._grad_norm = self._step(self._critic, critic_loss)
        if learns:
            self._grad_norm = self._step(self._actor, loss)
        return metrics

    def _step(self, engine: Any, loss: torch.Tensor) -> float:
        """Backward and, at the end of the accumulation, an optimizer step. Returns the gradients' norm.

        DeepSpeed averages over ranks and divides by the accumulation steps; the loss is a sum over both.
        FloatingPointError when loss or norm are not finite: the weights are then still those of the last update.
        """
        require_finite(engine, "loss", float(loss))
        engine.backward(loss * (self._options.learner.ranks * self._accumulation))
        if isinstance(engine.optimizer, torch.optim.AdamW):
            norm = require_finite(engine, "gradient norm", ds.gradient_norm(engine))
            engine.step()
            return norm
        engine.step()  # ZeRO knows the norm only now; it skips the update when the norm is not finite
        return require_finite(engine, "gradient norm", ds.gradient_norm(engine))

    def _set_rates(self, scale: float, train_policy: bool) -> None:
        algorithm = self._options.algorithm
        groups = self._actor.optimizer.param_groups
        groups[0]["lr"] = algorithm.optimizer.lr * scale * float(train_policy)
        for group in groups[1:]:
            group["lr"] = algorithm.value_head_lr * scale
        if self._critic is not None:
            for group in self._critic.optimizer.param_groups:
                group["lr"] = algorithm.critic.lr * scale

    # weights

    def open_transfer(self, backend: str, engines: list[Any], tensor_parallel: int, address: tuple[str, int]) -> None:
        """Connects this rank to the engines."""
        self._client = EngineClient(engines, tensor_parallel)
        self._transfer = open_transfer(
            backend,
            rank=self._rank,
            client=self._client,
            weights=self._weights(),
            world_size=1 + len(engines) * tensor_parallel,
            address=address,
        )

    def send_weights(self, version: int) -> None:
        """Brings the policy's weights to the engines as `version`."""
        started = time.perf_counter()
        self._client.version = version
        self._transfer.send_weights()
        self._busy_s += time.perf_counter() - started

    def _weights(self) -> PolicyWeights:
        dtype = getattr(torch, self._options.model.policy.dtype)
        return PolicyWeights(self._actor.module.policy, dtype, self._options.learner.zero_stage)

    def save(self, folder: Path) -> None:
        """Writes parameters and optimizer states of policy and critic, in a form any number of ranks can read."""
        for name, engine in self._engines():
            write_tensors(
                folder / name,
                ds.read_state(engine),
                {"updates": ds.updates_done(engine)},
                write=self._rank == 0,
            )

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote. ValueError for a damaged or foreign checkpoint."""
        for name, engine in self._engines():
            tensors, meta = read_tensors(folder / name)
            tensors.check_shapes(ds.state_shapes(engine, meta["updates"]))
            ds.write_state(engine, tensors, meta["updates"])

    def _engines(self) -> list[tuple[str, Any]]:
        engines = [("policy", self._actor)]
        return engines if self._critic is None else [*engines, ("critic", self._critic)]

    def export(self, folder: Path) -> None:
        """Writes the policy, adapters merged, as a Hugging Face model folder with its tokenizer."""
        tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in self._weights()}
        if self._rank == 0:
            from huggingface_hub import save_torch_state_dict

            folder.mkdir(parents=True, exist_ok=True)
            save_torch_state_dict(tensors, str(folder))
            self._config.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)


def require_finite(engine: Any, what: str, value: float) -> float:
    """The value. FloatingPointError, naming the update (counted from 1), when it is NaN or infinite."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"update {ds.updates_done(engine) + 1}: the {what} is {value}; resume from the last checkpoint with a "
            "lower learning rate"
        )
    return value


def widened(tensor: torch.Tensor, mask: torch.Tensor, width: int) -> Float32Array:
    """(rows, T) as float32 array of `width` columns, zeros at padding."""
    values = tensor.float().masked_fill(~mask, 0.0).cpu().numpy()
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))
