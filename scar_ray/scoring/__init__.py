"""Reward models as games: the score of a response, and the values of its coalitions v(S).

Needs torch and transformers, not Ray. `RewardModel.evaluate` answers what credit methods ask, and so does
`FunctionReward` for a Python function; how a response is reduced to some of its units is the `Masking`, in
`encoding.py`.
"""

from scar_ray.scoring.encoding import Encoder
from scar_ray.scoring.errors import RewardUnavailable, SampleFailed, name_of
from scar_ray.scoring.function import FunctionReward
from scar_ray.scoring.model import EncodedReward, RewardModel
from scar_ray.scoring.workload import Workload

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
