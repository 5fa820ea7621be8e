"""Which engine a reward model gets: the fastest one that scores random probes as plain batches do.

Architectures differ in what they take: masks of their own shape, positions, a cache. The probes find out, so that a
model of any architecture is either served right by the trie, by shared prompts or by plain batches.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

import numpy as np
import torch

from scar_ray.config.cluster import EngineName
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.classifier import Classifier, Engine
from scar_ray.scoring.engines.plain import PlainBatches
from scar_ray.scoring.engines.shared_prompt import SharedPrompt
from scar_ray.scoring.engines.trie import TrieBlocks

TOLERANCE = {4: 1e-4, 2: 5e-2}
"""Largest difference of a probe's score, relative to the range of all probes' scores, by bytes of a weight.

An engine that a model does not suit is off by about the range itself.
"""
PROBED_WINDOW = 512
"""Windows of sliding attention up to this size are exceeded by the probes; larger ones would take long to probe."""

log = logging.getLogger(__name__)


def choose_engine(
    classifier: Classifier, plain: PlainBatches, name: EngineName, batch_tokens: int, memory: int
) -> Engine:
    """The engine of that name; for auto the first of trie, shared_prompt and plain that suits the model.

    ValueError when the one asked for does not suit it.
    """
    if name == "plain":
        return plain
    if name in ("vllm", "fastest"):
        raise ValueError(f"cluster.reward.engine={name}: is for the actors of a training only; use auto here")
    kind, reasons = type(classifier.model).__name__, []
    for offer, new_engine in _offers(classifier, plain, batch_tokens, memory).items():
        if name not in ("auto", offer):
            continue
        reason = unsuited(classifier, plain, new_engine)
        if reason is None:
            _say(logging.WARNING if reasons else logging.INFO, kind, offer, reasons)
            return new_engine()
        reasons.append(f"{offer}: {reason}")
    if name != "auto":
        raise ValueError(f"cluster.reward.engine={name}: does not suit {kind} ({reason}); use auto or plain")
    _say(logging.WARNING if classifier.causal else logging.INFO, kind, plain.name, reasons)
    return plain


def suited_engines(classifier: Classifier, plain: PlainBatches, batch_tokens: int, memory: int) -> list[Engine]:
    """All engines that suit the model, in the order in which auto takes them."""
    offers = _offers(classifier, plain, batch_tokens, memory).values()
    return [*(new_engine() for new_engine in offers if unsuited(classifier, plain, new_engine) is None), plain]


def _offers(
    classifier: Classifier, plain: PlainBatches, batch_tokens: int, memory: int
) -> dict[str, Callable[[], Engine]]:
    """What makes each engine that may not suit a model."""
    return {
        "trie": lambda: TrieBlocks(classifier, plain, memory=memory),
        "shared_prompt": lambda: SharedPrompt(classifier, plain, batch_tokens=batch_tokens, memory=memory),
    }


def _say(level: int, kind: str, engine: str, reasons: list[str]) -> None:
    log.log(level, "%s: coalitions are scored by %s%s", kind, engine, f" ({'; '.join(reasons)})" if reasons else "")


def unsuited(classifier: Classifier, plain: PlainBatches, new_engine: Callable[[], Engine]) -> str | None:
    """Why the engine does not suit the model; None when it does."""
    if not classifier.causal:
        return "an encoder reads every sequence as a whole"
    if not isinstance(getattr(classifier.model, "score", None), torch.nn.Linear):
        return "the head is no linear map of one token's state"
    rope = getattr(classifier.config, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]  # of all layers, or by kind of layer
    if any(part.get("rope_type") in ("dynamic", "longrope") for part in kinds):
        return "positions are scaled by the longest sequence of a batch"
    sequences, groups = probes(classifier)
    expected, _ = plain.scores(sequences, groups)
    try:
        found, _ = new_engine().scores(sequences, groups)
    except Exception as error:  # whatever an unknown architecture raises: it is the reason, and it is logged
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    difference, scale = np.abs(found - expected).max(), np.ptp(expected)
    if not difference <= TOLERANCE[next(classifier.model.parameters()).element_size()] * scale:
        return f"its scores differ by {difference:.1e} where scores range over {scale:.1e}"
    return None


def probes(classifier: Classifier) -> tuple[list[Encoded], list[list[int]]]:
    """Random sequences and their groups: two prompts, tokens replaced, cut out, cut off and hidden."""
    config = classifier.config
    window = getattr(config, "sliding_window", None) or 0
    length = min(window + 24 if window <= PROBED_WINDOW else 24, getattr(config, "max_position_embeddings", None) or 24)
    rng = np.random.default_rng(0)
    vocabulary = [token for token in range(min(config.vocab_size, 1000)) if token != classifier.pad]
    first, second = (tuple(rng.choice(vocabulary, size=length).tolist()) for _ in range(2))
    start, sequences = length // 2, [Encoded(first)]
    for position in (start, length - 3):
        sequences += [
            Encoded((*first[:position], second[position], *first[position + 1 :])),
            Encoded((*first[:position], *first[position + 2 :])),
            Encoded(first[: position + 1]),
        ]
        if "position_ids" in inspect.signature(classifier.model.forward).parameters:
            sequences.append(Encoded(first, (position, position + 1)))
    own = list(range(len(sequences)))
    sequences += [Encoded(second), Encoded((*second[:start], *second[start + 3 :]))]
    return sequences, [own, [len(own), len(own) + 1]]
