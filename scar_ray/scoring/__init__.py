"""Reward models as games: the score of a response, and the values of its coalitions v(S).

`RewardModel.evaluate` answers what credit methods ask, and so does `FunctionReward` for a Python function; how a
response is reduced to some of its units is the `Masking`, in `encoding.py`. Models need torch and transformers, not
Ray; they are imported when a model is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scar_ray.scoring.errors import RewardUnavailable, SampleFailed, name_of
from scar_ray.scoring.workload import Workload

if TYPE_CHECKING:
    from scar_ray.scoring.encoding import Encoder
    from scar_ray.scoring.function import FunctionReward
    from scar_ray.scoring.model import EncodedReward, RewardModel

__all__ = [
    "EncodedReward",
    "Encoder",
    "FunctionReward",
    "RewardModel",
    "RewardUnavailable",
    "SampleFailed",
    "Workload",
    "name_of",
]

_MODULES = {"Encoder": "encoding", "FunctionReward": "function", "EncodedReward": "model", "RewardModel": "model"}
"""Classes and their modules."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
