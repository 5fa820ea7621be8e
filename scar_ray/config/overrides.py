"""Overrides such as `algorithm.kl.coef=0.1` and sweeps such as `seed=0,1,2`, in Hydra's grammar."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from scar_ray.config.errors import ConfigError


def parse(overrides: Sequence[str], problems: list[str]) -> list[tuple[str, Any]]:
    """(key, value) of each override; a line is added to `problems` for each that cannot be used."""
    pairs = []
    for text in overrides:
        parsed = _override(text)
        if isinstance(parsed, str):
            problems.append(parsed)
        elif parsed.is_sweep_override():
            key = parsed.key_or_group
            problems.append(f"{text}: several values need --multirun; for one value with commas write {key}='\"...\"'")
        else:
            pairs.append((parsed.key_or_group, parsed.value()))
    return pairs


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of a sweep: all combinations of the values, the last override varying fastest.

    Example: `["seed=0,1", "credit=abc"]` gives `[["seed=0", "credit=abc"], ["seed=1", "credit=abc"]]`.

    Raises:
        ConfigError: an override cannot be read.
    """
    axes: list[list[str]] = []
    problems: list[str] = []
    for text in overrides:
        parsed = _override(text)
        if isinstance(parsed, str):
            problems.append(parsed)
        elif parsed.is_sweep_override():
            axes.append([f"{parsed.key_or_group}={value}" for value in parsed.sweep_string_iterator()])
        else:
            axes.append([text])
    if problems:
        raise ConfigError(problems)
    return [list(job) for job in itertools.product(*axes)]


def _override(text: str) -> Override | str:
    """The parsed override, or the line that says why it cannot be used."""
    key, equals, value = text.partition("=")
    if text.startswith("~"):
        return f"{text}: a key cannot be removed; set it to null or leave it out"
    if not equals:
        return f"{text}: an override needs a value, write {text}=VALUE"
    if not re.fullmatch(r"[\w.@/+]+", key):
        return f"{text}: {key!r} is no key; write KEY=VALUE, for example trainer.steps=100"
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except HydraException:
        return f"{text}: the value cannot be read; quote it: {key}='\"{value}\"'"
    if override.package is not None:
        return f"{text}: '@' is not understood here; write {key.partition('@')[0]}=VALUE"
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return f"{text}: glob() is not understood here; list the values, separated by commas"
    return override
