"""The workload that tests of the cost model start from: 7B models at the shape of TL;DR."""

from __future__ import annotations

from dataclasses import replace

from scar_ray.planning.reading import Reading
from scar_ray.planning.shapes import SHAPES
from scar_ray.planning.step import Workload

SPARSE = Reading(units=0, evaluations=1, tokens=504, computed=504)


def workload(**changes: object) -> Workload:
    """With these fields in the place of its own."""
    base = Workload(
        policy=SHAPES["7B"],
        reward=SHAPES["7B"].scalar(),
        critic=None,
        lora_rank=None,
        responses=64,
        prompt=450,
        new=53,
        epochs=4,
        minibatch=64,
        micro_batch=8,
        reading=SPARSE,
        reward_memory=2**30,
        engine_memory=0.85,
    )
    return replace(base, **changes)
