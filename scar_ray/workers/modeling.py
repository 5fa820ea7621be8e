"""Policy, critic and reference as torch modules that answer per response token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scar_ray.config.schema import LoraConfig, Sampling
from scar_ray.objectives.ppo import forbid_early_eos, token_entropy, token_logprobs


class Padded(NamedTuple):
    """A micro-batch of prompt + response, right-padded: R rows, L sequence positions, T response tokens.

    A named tuple, as is `Outputs`: ZeRO-3 looks for tensors in what modules take and return, in tuples only.
    """

    input_ids_RL: Tensor
    attention_mask_RL: Tensor
    response_ids_RT: Tensor
    source_RT: Tensor
    """Sequence position whose output chooses each response token: the one before it."""
    mask_RT: Tensor


def pad(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int, device: Any) -> Padded:
    """Joins prompts and responses and pads them on the right, to the longest of these rows only."""
    rows, width = len(responses), max(map(len, responses))
    length = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    ids = torch.full((rows, length), pad_id)
    attention = torch.zeros((rows, length), dtype=torch.long)
    response = torch.full((rows, width), pad_id)
    source = torch.zeros((rows, width), dtype=torch.long)
    mask = torch.zeros((rows, width), dtype=torch.bool)
    for i, (p, r) in enumerate(zip(prompts, responses, strict=True)):
        ids[i, : len(p) + len(r)] = torch.tensor([*p, *r])
        attention[i, : len(p) + len(r)] = 1
        response[i, : len(r)] = torch.tensor(r)
        source[i] = len(p) - 1 + torch.arange(width).clamp(max=len(r) - 1)
        mask[i, : len(r)] = True
    return Padded(*(x.to(device) for x in (ids, attention, response, source, mask)))


def _at(vectors_RLH: Tensor, place_RT: Tensor) -> Tensor:
    """vectors_RLH[r, place_RT[r, t]]: (R, T, H). Copies whole vectors; `gather` goes by elements, slow backward."""
    rows, length = vectors_RLH.shape[:2]
    offset_R1 = length * torch.arange(rows, device=place_RT.device).unsqueeze(1)
    return vectors_RLH.flatten(0, 1).index_select(0, (offset_R1 + place_RT).flatten()).unflatten(0, place_RT.shape)


class Outputs(NamedTuple):
    """Per response token; what stands at padding is meaningless."""

    logprobs_RT: Tensor
    values_RT: Tensor | None
    entropy_RT: Tensor | None


class TokenPolicy(nn.Module):
    """A causal language model, with a value head on its last hidden state when it is also the critic.

    Log-probabilities are those of the distribution that responses are sampled from: tempered, and with the EOS
    impossible before `min_new_tokens`.
    """

    def __init__(self, policy: nn.Module, sampling: Sampling, eos_id: int, value_head: bool) -> None:
        super().__init__()
        self.policy = policy
        self._sampling, self._eos_id = sampling, eos_id
        self._hidden: Tensor | None = None
        inner = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        # The value head reads what the language-model head reads, whatever the architecture calls it.
        lm_head = inner.get_output_embeddings()
        lm_head.register_forward_pre_hook(self._keep_hidden)
        self.value_head = new_value_head(lm_head.in_features, policy.dtype) if value_head else None

    def _keep_hidden(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        self._hidden = inputs[0]

    def forward(
        self, batch: Padded, entropy: bool = False, detach_trunk: bool = False, sampling: Sampling | None = None
    ) -> Outputs:
        """Log-probabilities (nats) of the response tokens, and values and entropies where asked for.

        `sampling` says how the responses were sampled, if not as the module was made for.
        """
        sampling = sampling or self._sampling
        first = int(batch.source_RT.min())
        last = int(batch.source_RT.max())
        kept = torch.arange(first, last + 1, device=batch.input_ids_RL.device)
        logits = self.policy(
            input_ids=batch.input_ids_RL,
            attention_mask=batch.attention_mask_RL,
            use_cache=False,
            logits_to_keep=kept,
        ).logits
        hidden, self._hidden = self._hidden, None
        place_RT = batch.source_RT - first
        logits_RTV = _at(logits, place_RT)
        logits_RTV = forbid_early_eos(logits_RTV, self._eos_id, sampling.min_new_tokens)
        values = None
        if self.value_head is not None:
            assert hidden is not None
            hidden = _at(hidden.detach() if detach_trunk else hidden, place_RT)
            values = self.value_head(hidden).squeeze(-1).float()
        return Outputs(
            token_logprobs(logits_RTV, batch.response_ids_RT, sampling.temperature),
            values,
            token_entropy(logits_RTV, sampling.temperature) if entropy else None,
        )


class TokenCritic(nn.Module):
    """A critic with a trunk of its own: V of the state in which each response token was chosen."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.value_head = new_value_head(trunk.config.hidden_size, trunk.dtype)

    def forward(self, batch: Padded) -> Tensor:
        hidden = self.trunk(
            input_ids=batch.input_ids_RL, attention_mask=batch.attention_mask_RL, use_cache=False
        ).last_hidden_state
        return self.value_head(_at(hidden, batch.source_RT)).squeeze(-1).float()


def new_value_head(hidden_size: int, dtype: torch.dtype) -> nn.Linear:
    """A linear head that starts at V = 0: the first advantages are the rewards themselves."""
    head = nn.Linear(hidden_size, 1, dtype=dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def load_policy(path: str, dtype: str, trust_remote_code: bool) -> nn.Module:
    """The causal language model at `path`, dropout off."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
    return without_dropout(model)


def load_trunk(path: str, dtype: str, trust_remote_code: bool) -> nn.Module:
    """The trunk of the model at `path`, without any head, dropout off."""
    from transformers import AutoModel

    return without_dropout(
        AutoModel.from_pretrained(path, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
    )


def without_dropout(model: nn.Module) -> nn.Module:
    """Sets every dropout probability to zero: log-probabilities of the same tokens must not vary.

    Architectures keep theirs in nn.Dropout or as numbers under names of their own (`attention_dropout`, `layerdrop`).
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    return model


def add_lora(policy: nn.Module, lora: LoraConfig) -> Any:
    """The policy with fresh adapters; switched off, it is the policy it was."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    return get_peft_model(
        policy,
        PeftConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=0.0,
            target_modules=list(lora.target_modules) or "all-linear",
            task_type="CAUSAL_LM",
        ),
    )
