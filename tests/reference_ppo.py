"""A plain PPO, GRPO and REINFORCE in one process: what the distributed learner must compute, written to be read.

No Ray, no DeepSpeed, no batching, no padding, and nothing from scar_ray.objectives: one response at a time
through the model, one token at a time through the loss. Slow, for tiny models.
"""

from __future__ import annotations

import numpy as np
import torch

from scar_ray.config.schema import AlgorithmConfig, Sampling
from scar_ray.trainer.protocols import Forward, PPOBatch, Sequences


class ReferencePPO:
    """Trains `policy` and the critic in place.

    `critic` is an nn.Linear(hidden, 1), a value head on the policy's last hidden state, or any other module
    that maps (1, L) token ids to (1, L) values, a separate critic, or None. `reference` is a frozen language model.

    While only the critic learns, a shared trunk gets neither gradient nor learning rate: its weights stay,
    but its Adam steps are counted.
    """

    def __init__(
        self,
        policy: torch.nn.Module,
        critic: torch.nn.Module | None,
        reference: torch.nn.Module,
        algorithm: AlgorithmConfig,
        sampling: Sampling,
        eos_id: int,
    ) -> None:
        self.policy, self.reference = policy.eval(), reference.eval()
        self.critic = None if critic is None else critic.eval()
        self.algorithm, self.sampling, self.eos_id = algorithm, sampling, eos_id
        self.shared = isinstance(critic, torch.nn.Linear)
        config = algorithm.optimizer
        critic_rate = algorithm.value_head_lr if self.shared else algorithm.critic.lr
        groups = [{"params": list(policy.parameters()), "rate": config.lr, "is_policy": True}]
        if critic is not None:
            groups.append({"params": list(critic.parameters()), "rate": critic_rate, "is_policy": False})
        self.optimizers = [
            torch.optim.AdamW(
                some,
                betas=(config.beta1, config.beta2),
                eps=config.eps,
                weight_decay=config.weight_decay,
            )
            for some in ([groups] if self.shared else [[group] for group in groups])
        ]

    def forward(self, sequences: Sequences) -> Forward:
        """Log-probabilities, reference log-probabilities and values before any update."""
        shape = sequences.mask_BT.shape
        logprobs, ref_logprobs, values = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        with torch.no_grad():
            for b, n in enumerate(sequences.lengths):
                logprobs[b, :n], _, values[b, :n] = self._response(self.policy, sequences, b)
                ref_logprobs[b, :n], _, _ = self._response(self.reference, sequences, b)
        return Forward(logprobs, ref_logprobs, None if self.critic is None else values)

    def update(self, batch: PPOBatch, rows: list[int], train_policy: bool = True) -> dict[str, float]:
        """One optimizer step on the mini-batch `rows`; token means, and gradient norms before clipping."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss, metrics = self.loss(batch, rows, train_policy)
        loss.backward()
        optimizers = self.optimizers if self.shared or train_policy else self.optimizers[1:]
        for optimizer in optimizers:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for p in parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.algorithm.optimizer.max_grad_norm)
            metrics["grad_norm" if optimizer.param_groups[0]["is_policy"] else "critic_grad_norm"] = float(norm)
            for group in optimizer.param_groups:
                learns = train_policy or not group["is_policy"]
                group["lr"] = group["rate"] * batch.lr_scale if learns else 0.0
            optimizer.step()
        return metrics

    def loss(self, batch: PPOBatch, rows: list[int], train_policy: bool) -> tuple[torch.Tensor, dict[str, float]]:
        """policy + kl_coef * KL - entropy_coef * entropy, normalised for length, + coef * value, a mean over tokens."""
        config = self.algorithm
        rows = [b for b in rows if batch.counted_B[b]]
        n = sum(batch.sequences.lengths[b] for b in rows)
        loss = torch.zeros(())
        sums = dict.fromkeys(("policy_loss", "entropy", "clip_fraction", "approx_kl"), 0.0)
        sums |= {} if self.critic is None else {"value_loss": 0.0}
        sums |= {} if batch.ref_logprobs_BT is None else {"kl_loss": 0.0}
        for b in rows:
            length = batch.sequences.lengths[b]
            weight = {
                "token": 1 / n,
                "response": 1 / length / len(rows),
                "constant": 1 / self.sampling.max_new_tokens / len(rows),
            }[config.length_norm]
            logprobs, entropy, values = self._response(self.policy, batch.sequences, b, train_policy)
            for t in range(length):
                log_ratio = logprobs[t] - float(batch.old_logprobs_BT[b, t])
                log_ratio = log_ratio.clamp(-config.log_ratio_clamp, config.log_ratio_clamp)
                ratio, advantage = log_ratio.exp(), float(batch.advantages_BT[b, t])
                high = config.clip if config.clip_high is None else config.clip_high
                near = ratio.clamp(1 - config.clip, 1 + high)
                policy_loss = -float(batch.weights_BT[b, t]) * min(ratio * advantage, near * advantage)
                of_policy = policy_loss - config.entropy_coef * entropy[t]
                sums["policy_loss"] += policy_loss.item()
                sums["entropy"] += entropy[t].item()
                sums["clip_fraction"] += float(near * advantage < ratio * advantage)
                sums["approx_kl"] += (ratio - 1 - log_ratio).item()
                if batch.ref_logprobs_BT is not None:
                    d = logprobs[t] - float(batch.ref_logprobs_BT[b, t])
                    divergence = {"k1": ratio * d, "k2": d**2 / 2, "k3": (-d).exp() - 1 + d}[config.kl.estimator]
                    sums["kl_loss"] += divergence.item()
                    of_policy = of_policy + batch.kl_coef * divergence
                if train_policy:
                    loss = loss + weight * of_policy
                if self.critic is not None:
                    value_loss = self._value_loss(values[t], batch, b, t)
                    sums["value_loss"] += value_loss.item()
                    loss = loss + (config.critic.coef if self.shared else 1.0) * value_loss / n
        return loss, {name: total / n for name, total in sums.items()}

    def _value_loss(self, value: torch.Tensor, batch: PPOBatch, b: int, t: int) -> torch.Tensor:
        clip, old_value = self.algorithm.critic.clip, float(batch.old_values_BT[b, t])
        target = float(batch.returns_BT[b, t])
        error = (value - target) ** 2
        if clip is not None:
            error = max(error, (value.clamp(old_value - clip, old_value + clip) - target) ** 2)
        return 0.5 * error

    def _response(
        self, model: torch.nn.Module, sequences: Sequences, b: int, train_policy: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probabilities, entropies and values of the tokens of response b; each (T,)."""
        prompt, response = sequences.prompt_ids[b], sequences.response_ids[b]
        ids = torch.tensor([[*prompt, *response]])
        output = model(input_ids=ids, output_hidden_states=True)
        hidden = output.hidden_states[-1]
        if self.critic is None:
            all_values = torch.zeros(ids.shape[1])
        elif not self.shared:
            all_values = self.critic(ids)[0]
        else:
            all_values = self.critic(hidden if train_policy else hidden.detach())[0, :, 0]
        logprobs, entropies, values = [], [], []
        for t, token in enumerate(response):
            before = len(prompt) + t - 1  # the position that predicts token t
            logits = output.logits[0, before].float() / self.sampling.temperature
            chosen = logits[token]
            if t < self.sampling.min_new_tokens:
                logits = torch.cat([logits[: self.eos_id], logits[self.eos_id + 1 :]])
            log_p = logits.log_softmax(-1)
            logprobs.append(chosen - logits.logsumexp(-1))
            entropies.append(-(log_p.exp() * log_p).sum())
            values.append(all_values[before])
        return torch.stack(logprobs), torch.stack(entropies), torch.stack(values)
