"""`scar-ray sft` and `scar-ray rm`: models for a task, from its texts."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """What every command that reads the configuration takes."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a group's choice or a dotted key")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder with group files of your own")


add_arguments = add_overrides


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.config.load import load
    from scar_ray.config.preflight import preflight_supervised

    config = load(parsed.overrides, parsed.config_dir)
    preflight_supervised(config, parsed.command)
    from scar_ray import run_supervised

    train_model = run_supervised.sft if parsed.command == "sft" else run_supervised.rm
    train_model(config)
    return 0
