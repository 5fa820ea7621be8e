"""The demo's models in a size that trains in seconds."""

from __future__ import annotations

from pathlib import Path

from scar_ray.config.schema import ArchitectureConfig, SupervisedConfig
from scar_ray.workers.supervised.demo import Recipe, ensure_demo_models

SMALL = Recipe(
    architecture=ArchitectureConfig(
        vocab_size=400, hidden_size=32, layers=1, heads=1, intermediate_size=64, max_positions=128
    ),
    sft=SupervisedConfig(epochs=1, batch=32, lr=3e-3, max_tokens=64),
    rm=SupervisedConfig(epochs=1, batch=32, lr=5e-3, max_tokens=64),
    texts=400,
)


def fill_cache(home: Path) -> None:
    """Trains small models and puts them where a run with this XDG_CACHE_HOME looks for the demo's."""
    models = ensure_demo_models(home / "scar_ray", SMALL)
    models.policy.parent.rename(home / "scar_ray" / f"demo-{Recipe().key()}")
