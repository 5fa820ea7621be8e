"""scar_ray: RLHF on Ray in which every token, phrase or sentence gets the part of the reward it earned."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scar_ray.analysis.explain import explain, explain_many

__all__ = ["__version__", "explain", "explain_many"]
__version__ = "0.1.0"

_FUNCTIONS = {"explain": "scar_ray.analysis.explain", "explain_many": "scar_ray.analysis.explain"}
"""Functions and their modules, which are imported when a function is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FUNCTIONS[name]), name)
