"""A plain PPO in one process: what the distributed learner must compute, written to be read.

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
    that maps (1, L) token ids to (1, L) values, a separate critic. `reference` is a frozen language model.

    While only the critic learns, a shared trunk gets neither gradient nor learning rate: its weights stay,
    but its Adam steps are counted.
    """

    def __init__(
        self,
        policy: torch.nn.Module,
        critic: torch.nn.Module,
        reference: torch.nn.Module,
        algorithm: AlgorithmConfig,
        sampling: Sampling,
        eos_id: int,
    ) -> None:
        self.policy, self.critic, self.reference = policy.eval(), critic.eval(), reference.eval()
        self.algorithm, self.sampling, self.eos_id = algorithm, sampling, eos_id
        self.shared = isinstance(critic, torch.nn.Linear)
        config = algorithm.optimizer
        critic_rate = config.lr if self.shared else algorithm.critic.lr
        policy_group = {"params": list(policy.parameters()), "rate": config.lr, "is_policy": True}
        critic_group = {"params": list(critic.parameters()), "rate": critic_rate, "is_policy": False}
        self.optimizers = [
            torch.optim.AdamW(
                groups,
                betas=(config.beta1, config.beta2),
                eps=config.eps,
                weight_decay=config.weight_decay,
            )
            for groups in ([[policy_group, critic_group]] if self.shared else [[policy_group], [critic_group]])
        ]

    def forward(self, sequences: Sequences) -> Forward:
        """Log-probabilities, reference log-probabilities and values before any update."""
        shape = sequences.mask_BT.shape
        logprobs, ref_logprobs, values = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        with torch.no_grad():
            for b, n in enumerate(sequences.lengths):
                logprobs[b, :n], _, values[b, :n] = self._response(self.policy, sequences, b)
                ref_logprobs[b, :n], _, _ = self._response(self.reference, sequences, b)
        return Forward(logprobs, ref_logprobs, values)

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
        """policy + coef * value - entropy_coef * entropy, each a mean over the tokens of the mini-batch."""
        config = self.algorithm
        policy_losses, value_losses, entropies, clipped, divergences = [], [], [], [], []
        for b in rows:
            logprobs, entropy, values = self._response(self.policy, batch.sequences, b, train_policy)
            for t in range(batch.sequences.lengths[b]):
                log_ratio = logprobs[t] - float(batch.old_logprobs_BT[b, t])
                log_ratio = log_ratio.clamp(-config.log_ratio_clamp, config.log_ratio_clamp)
                ratio, advantage = log_ratio.exp(), float(batch.advantages_BT[b, t])
                near = ratio.clamp(1 - config.clip, 1 + config.clip)
                objective = min(ratio * advantage, near * advantage)
                policy_losses.append(-float(batch.weights_BT[b, t]) * objective)
                entropies.append(entropy[t])
                clipped.append(float(near * advantage < ratio * advantage))
                divergences.append((ratio - 1 - log_ratio).item())

                value, old_value = values[t], float(batch.old_values_BT[b, t])
                target = float(batch.returns_BT[b, t])
                error = (value - target) ** 2
                if config.critic.clip is not None:
                    near_value = value.clamp(old_value - config.critic.clip, old_value + config.critic.clip)
                    error = max(error, (near_value - target) ** 2)
                value_losses.append(0.5 * error)
        n = len(policy_losses)
        policy_loss, value_loss, entropy = sum(policy_losses) / n, sum(value_losses) / n, sum(entropies) / n
        loss = config.critic.coef * value_loss if self.shared else value_loss
        if train_policy:
            loss = loss + policy_loss - config.entropy_coef * entropy
        return loss, {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
            "clip_fraction": sum(clipped) / n,
            "approx_kl": sum(divergences) / n,
        }

    def _response(
        self, model: torch.nn.Module, sequences: Sequences, b: int, train_policy: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probabilities, entropies and values of the tokens of response b; each (T,)."""
        prompt, response = sequences.prompt_ids[b], sequences.response_ids[b]
        ids = torch.tensor([[*prompt, *response]])
        output = model(input_ids=ids, output_hidden_states=True)
        hidden = output.hidden_states[-1]
        if not self.shared:
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
