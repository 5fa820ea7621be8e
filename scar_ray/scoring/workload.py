"""What scoring takes."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Workload:
    """What evaluating one group of responses took."""

    asked: int = 0
    """Sequences asked for: full responses and coalitions."""
    repeated: int = 0
    """Those of responses and coalitions that equal one of the step that is asked elsewhere, and got its answers."""
    unique: int = 0
    """Distinct ones, which are the ones computed."""
    asked_tokens: int = 0
    """Tokens of the sequences asked for: what scoring each as a whole would compute; 0 where a function reads texts."""
    tokens: int = 0
    """Tokens of the distinct sequences; 0 where a function reads texts."""
    computed_tokens: int = 0
    """Tokens that went through the model: those of padded batches with their padding, or the nodes of the trie."""
    padding_tokens: int = 0
    """Those of them that are padding."""
    dropped_chars: int = 0
    """Visible characters of the responses that the reward model's tokenizer leaves out; nothing reads them."""

    def add(self, other: Workload) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
