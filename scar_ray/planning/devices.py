"""What devices can do: peaks from data sheets, and the shares of them that each role reaches.

A rate that was not measured is an assumption and says so; `benchmarks/plan.py` writes a device file with measured ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of a device's peaks that are reached, and time that no FLOP accounts for (seconds).

    The defaults are assumptions for GPUs with bfloat16, vLLM with CUDA graphs and Hugging Face models under DeepSpeed.
    """

    prefill: float = 0.55
    """Share of the matrix peak: the engine reading prompts."""
    decode: float = 0.5
    """Share of the matrix peak: the engine generating, where it is not bound by bandwidth."""
    forward: float = 0.45
    """Share of the matrix peak: the learner's passes without gradients."""
    training: float = 0.35
    """Share of the matrix peak: forward and backward."""
    scoring: float = 0.35
    """Share of the matrix peak: nodes of the coalitions' prefix tree. An H200 reached 0.36 with a Llama of 7B and 0.19
    to 0.28 with one of 1B (`benchmarks/coalitions_gpu.py`)."""
    attention: float = 0.25
    """Share of the matrix peak: attention scores and weighted values in passes over whole sequences."""
    tree_attention: float = 0.15
    """Share of the matrix peak: the same under the ancestor mask of the prefix tree."""
    bandwidth: float = 0.75
    """Share of the memory bandwidth: weights and caches read for a generated token, optimizer states."""
    link: float = 0.7
    """Share of the links' bandwidth: gradients, gathered weights, weight sync."""
    layer_s: float = 3e-4
    """To start one layer of a forward pass."""
    decode_layer_s: float = 1.5e-5
    """To start one layer for a generated token."""
    decode_step_s: float = 2e-3
    """To schedule one token of all sequences."""
    sampled_token_s: float = 2e-5
    """To sample one token of one sequence and keep its log-probability."""
    all_reduce_s: float = 1.5e-5
    """Latency of one all-reduce within an engine."""
    call_s: float = 0.02
    """One call of the learner, from the driver and back."""
    plan_s: float = 2e-3
    """Driver, for each response with units: finding them and their hierarchy."""
    plan_coalition_s: float = 1.5e-5
    """Driver, for each coalition: the estimator's plan."""
    response_s: float = 1e-3
    """Driver, and reward actor, for each response: encoding, answers, advantages."""
    coalition_s: float = 1e-4
    """Reward actor, for each coalition: encoding it and placing it in the tree."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one CPU thread."""

    name: str
    peak_flops: float
    """Matrix FLOP/s of the models' number type, without sparsity."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes/s of its memory."""
    node_link: float
    """Bytes/s in one direction to the other devices of the node."""
    network: float
    """Bytes/s in one direction to other nodes, for each device."""
    per_node: int = 8
    value_bytes: int = 2
    """Bytes of a weight."""
    max_sequences: int = 1024
    """Most sequences that an engine generates side by side."""
    prefill_tokens: int = 16_384
    """Most tokens of an engine's pass."""
    rates: Rates = field(default_factory=Rates)
    measured: tuple[str, ...] = ()
    """Names of the rates that were measured; the others are assumptions."""
    source: str = ""
    """Where peaks and measurements come from."""

    @property
    def assumed(self) -> tuple[str, ...]:
        """Names of the rates that are assumptions."""
        return tuple(rate.name for rate in fields(Rates) if rate.name not in self.measured)

    def collective(self, ranks: int) -> float:
        """Bytes/s of a rank in a ring over so many of them; whole nodes use all their network cards."""
        if ranks <= self.per_node:
            return self.node_link * self.rates.link
        return min(self.node_link, self.per_node * self.network) * self.rates.link

    def broadcast(self, devices: int) -> float:
        """Bytes/s from one device to so many others, passed on from one to the next."""
        inside = devices < self.per_node
        return (self.node_link if inside else min(self.node_link, self.network)) * self.rates.link


DEVICES = {
    device.name: device
    for device in (
        Device(
            "h100",
            peak_flops=989e12,
            memory=80e9,
            bandwidth=3.35e12,
            node_link=450e9,
            network=50e9,
            source="NVIDIA H100 SXM and DGX H100 data sheets",
        ),
        Device(
            "h200",
            peak_flops=989e12,
            memory=141e9,
            bandwidth=4.8e12,
            node_link=450e9,
            network=50e9,
            source="NVIDIA H200 SXM and DGX H200 data sheets",
        ),
        Device(
            "a100",
            peak_flops=312e12,
            memory=80e9,
            bandwidth=2.039e12,
            node_link=300e9,
            network=25e9,
            max_sequences=256,
            prefill_tokens=8192,
            source="NVIDIA A100 80GB SXM and DGX A100 data sheets",
        ),
    )
}
"""Dense bfloat16 peaks, memory, memory bandwidth, NVLink (half of the data sheet's sum of both directions), network."""


def write_device(device: Device, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(device), indent=1) + "\n", encoding="utf-8")


def find_device(name: str) -> Device:
    """The device of that name, or that of the device file `name`. UserError for anything else."""
    if name.lower() in DEVICES:
        return DEVICES[name.lower()]
    file = Path(name).expanduser()
    if not file.is_file():
        raise UserError(
            f"--gpu={name}: neither a device ({', '.join(DEVICES)}) nor a device file of benchmarks/plan.py"
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rates = Rates(**content.pop("rates"))
        device = Device(**{**content, "measured": tuple(content.get("measured", ()))}, rates=rates)
        positive = [device.peak_flops, device.bandwidth, device.memory, *asdict(rates).values()]
        if not all(isinstance(number, int | float) and number >= 0 for number in positive):
            raise ValueError("a rate is negative or no number")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"--gpu={name}: is no device file: {error}") from None
    return device
