"""Supervised training under DeepSpeed, here or on ranks: policies on text, reward models on labelled text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scar_ray.config.schema import Config, SupervisedCommand

if TYPE_CHECKING:
    from scar_ray.workers.supervised.folder import Log


def train(config: Config, command: SupervisedCommand, folder: Path, log: Log) -> None:
    """Trains the model of `scar-ray sft` or `scar-ray rm` and writes it to `folder`; see `lm.sft` and `reward.rm`."""
    if command == "sft":
        from scar_ray.workers.supervised.lm import sft

        sft(config, folder, log)
    else:
        from scar_ray.workers.supervised.reward import rm

        rm(config, folder, log)
