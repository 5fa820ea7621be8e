"""The model section: policy, reward, and the architecture of models from scratch."""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scar_ray.config.section import Count, Section, Whole


class LoraConfig(Section):
    """Low-rank adapters through peft; the policy with its adapters switched off is the reference."""

    rank: Count = 32
    alpha: Count = 32
    target_modules: tuple[str, ...] = ()
    """Names of the layers to adapt; empty: all linear layers."""


HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Sizes of attention heads that vLLM's CPU engine serves."""


class ArchitectureConfig(Section):
    """A Llama-shaped model that `scar-ray sft` and `scar-ray rm` train from scratch."""

    vocab_size: Annotated[int, Field(ge=300)] = 4096
    hidden_size: Count = 128
    layers: Count = 2
    heads: Count = 4
    intermediate_size: Count = 384
    max_positions: Count = 512
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _heads_divide(self) -> ArchitectureConfig:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of heads={self.heads}")
        if self.hidden_size // self.heads not in HEAD_SIZES:
            raise ValueError(
                f"hidden_size={self.hidden_size} over heads={self.heads} gives heads of size "
                f"{self.hidden_size // self.heads}, which vLLM cannot serve on CPU; use one of {HEAD_SIZES}"
            )
        return self


class PolicyConfig(Section):
    """The policy."""

    path: str = ""
    """Folder of a causal language model, or its name on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: LoraConfig | None = None
    infill: str = ""
    """What the policy reads when it is to write what is missing between two parts of a response: a text around
    {prompt}, {before} and {after}, special tokens included, after which the policy writes the missing part and the
    EOS. Used by credit.value=complete where a coalition is no beginning; see `trainer.completion`."""

    @model_validator(mode="after")
    def _infill_is_a_template(self) -> PolicyConfig:
        if self.infill:
            names = sorted(name for _, name, _, _ in Formatter().parse(self.infill) if name is not None)
            if names != ["after", "before", "prompt"]:
                raise ValueError(
                    f"infill={self.infill!r} must hold {{prompt}}, {{before}} and {{after}} once each and nothing else "
                    "in braces; double the braces that are meant as such"
                )
        return self


class RewardModelConfig(Section):
    """The reward: a Hugging Face sequence classification model, causal or encoder, or a Python function."""

    path: str = ""
    """Folder of a reward model, or its name on the hub."""
    function: str = ""
    """In place of a model: `package.module:name`, `path/to/file.py:name`, or `http`; see `scar_ray.scoring.function`.
    The keys below `options` are about models only."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword options of the function."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    label: Whole = 1
    """Two-label models: the class whose logit minus the other's is the reward."""
    template: str = "{prompt}{response}"
    """Text that the reward model reads; the default joins token ids where the tokenizers are the same."""
    append_eos: bool = True
    """Causal models: every sequence ends with exactly one EOS, also where the policy did not finish."""
    max_length: Count | None = None
    """Longest sequence in reward-model tokens; none: the model's limit. Longer is an error, never cut."""

    @model_validator(mode="after")
    def _one_source(self) -> RewardModelConfig:
        if self.function and self.path:
            raise ValueError(
                f"function={self.function} takes the place of path={self.path}; leave one of them out "
                "(model.reward.path='')"
            )
        module, colon, name = self.function.rpartition(":")
        if self.function not in ("", "http") and not (module and colon and name.isidentifier()):
            raise ValueError(
                f"function={self.function}: names no function; write package.module:name, path/to/file.py:name or http"
            )
        if self.options and not self.function:
            raise ValueError("options are those of model.reward.function, which is not set; leave them out")
        return self

    @model_validator(mode="after")
    def _slots(self) -> RewardModelConfig:
        for slot in ("{prompt}", "{response}"):
            if self.template.count(slot) != 1:
                raise ValueError(f"template must contain {slot} exactly once, got {self.template!r}")
        if self.template.index("{prompt}") > self.template.index("{response}"):
            raise ValueError(f"template must have {{prompt}} before {{response}}, got {self.template!r}")
        return self


class ModelConfig(Section):
    """Policy and reward model."""

    policy: PolicyConfig = PolicyConfig()
    reward: RewardModelConfig = RewardModelConfig()
    scratch: ArchitectureConfig | None = None
    """Architecture for training from scratch; none: sft and rm start from the paths above."""
    trust_remote_code: bool = False
    """Run Python code that ships with a model. Only for models you trust as you trust a program."""
