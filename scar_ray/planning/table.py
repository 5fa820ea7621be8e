"""What `scar-ray plan` prints and writes: the best splits side by side, the next ones, what the numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scar_ray.planning.devices import Device
from scar_ray.planning.step import Prediction, Split, Workload

PHASES = ("rollout", "planning", "forward", "reward", "update", "sync", "driver")


def as_text(
    work: Workload, device: Device, devices: int, found: Mapping[str, tuple[Workload, list[Prediction]]]
) -> str:
    """The tables. `found` has, by name of the choice, its workload and its splits, the fastest first."""
    lines = [
        f"policy {_model(work.policy.name, work.policy.parameters)}, reward model "
        f"{_model(work.reward.name, work.reward.parameters)}, {devices} x {device.name}",
        f"a step: {work.responses} responses of {work.prompt} + {work.new} tokens, {work.epochs} epochs",
        "",
        "The fastest split of each: seconds of a step; reward is what is waited for beyond rollout and forward passes",
        *_aligned(
            [["", "step", *PHASES, "rollout", "learner", "reward", "busy"]]
            + [[name, *_times(best[0]), *_gpus(best[0].split), _busy(best[0])] for name, (_, best) in found.items()]
        ),
        "",
        "Reward model, for one response",
        *_aligned(
            [["", "units", "evaluations", "tokens", "computed", "GPU seconds a step"]]
            + [[name, *_reading(of, best[0])] for name, (of, best) in found.items()]
        ),
    ]
    for name, (_, best) in found.items():
        lines += ["", f"Splits for {name}"]
        lines += _aligned(
            [["step", "over best", "rollout", "learner", "reward", "busy"]]
            + [
                [f"{one.seconds:.1f}", f"{one.seconds / best[0].seconds:.2f}", *_gpus(one.split), _busy(one)]
                for one in best
            ]
        )
        lines.append(f"  {keys(best[0].split)}")
    return "\n".join([*lines, "", *_basis(device)])


def as_json(device: Device, devices: int, found: Mapping[str, tuple[Workload, list[Prediction]]]) -> dict[str, Any]:
    """The same numbers, with the workload and the device that they follow from."""
    return {
        "devices": devices,
        "device": asdict(device),
        "plans": {
            name: {
                "workload": asdict(work),
                "splits": [
                    asdict(one) | {"seconds": one.seconds, "utilisation": one.utilisation(), "keys": keys(one.split)}
                    for one in best
                ],
            }
            for name, (work, best) in found.items()
        },
    }


def keys(split: Split) -> str:
    """The split as keys of the configuration."""
    sharding = split.sharding
    return (
        f"cluster.device=cuda cluster.rollout.engines={split.engines} "
        f"cluster.rollout.tensor_parallel={split.tensor_parallel} cluster.learner.ranks={split.ranks} "
        f"cluster.learner.zero_stage={sharding.zero_stage} cluster.learner.micro_batch={sharding.micro_batch} "
        f"cluster.learner.gradient_checkpointing={str(sharding.checkpointing).lower()} "
        f"cluster.reward.actors={split.reward_actors}"
    )


def _model(name: str, parameters: int) -> str:
    return f"{name} ({parameters / 1e9:.3g} billion parameters)" if parameters >= 1e7 else f"{name} ({parameters:,})"


def _times(one: Prediction) -> list[str]:
    return [f"{one.seconds:.1f}", *(f"{getattr(one, phase):.1f}" for phase in PHASES)]


def _gpus(split: Split) -> list[str]:
    """Devices of each role: engines x tensor parallelism, ranks with their ZeRO stage, reward actors."""
    saving = f"z{split.sharding.zero_stage}" + ("c" if split.sharding.checkpointing else "")
    return [f"{split.engines}x{split.tensor_parallel}", f"{split.ranks} {saving}", str(split.reward_actors)]


def _busy(one: Prediction) -> str:
    return "/".join(f"{share:.0%}" for share in one.utilisation().values())


def _reading(work: Workload, best: Prediction) -> list[str]:
    reading = work.reading
    counts = (reading.units, reading.evaluations, reading.tokens, reading.computed)
    return [*(f"{count:,.0f}" for count in counts), f"{best.scoring:.1f}"]


def _basis(device: Device) -> list[str]:
    lines = [
        "GPUs: engines x tensor parallelism; learner ranks, ZeRO stage, c for gradient checkpointing; reward actors",
        f"Peaks of {device.name}: {device.source or 'not said'}",
    ]
    if device.measured:
        lines.append(f"Measured rates: {', '.join(device.measured)}")
    if device.assumed:
        lines.append(f"Assumed, not measured: {', '.join(device.assumed)}")
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
