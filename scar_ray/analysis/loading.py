"""Loading the reward model that an analysis names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scar_ray.config.errors import UserError
from scar_ray.config.model_folder import is_local, read_model_folder
from scar_ray.config.schema import Config

if TYPE_CHECKING:
    from scar_ray.scoring import FunctionReward, RewardModel


def source(reward_model: str) -> list[str]:
    """The overrides that name a reward: a function, where it is written as one (`file.py:name`, `http`)."""
    return [f"model.reward.function='{reward_model}'"] if ":" in reward_model or reward_model == "http" else []


def check_device(device: str) -> None:
    """UserError for a CUDA device where torch has none."""
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device {device}: this machine has no CUDA device that torch can use; use cpu")


def located(path: str) -> str:
    """What Transformers loads: the path of a folder without `~`, or a name on the hub as it is."""
    return str(Path(path).expanduser()) if is_local(path) else path


def load_reward_model(
    path: str, config: Config, device: str, *, attention: bool = False
) -> RewardModel | FunctionReward:
    """The reward model of a folder or of the hub, or the function that `config` names, set up as `config` says.

    UserError where it cannot be had.
    """
    if config.model.reward.function:
        from scar_ray.scoring import FunctionReward

        pool = config.cluster.reward
        return FunctionReward(
            config.model.reward,
            masking=config.credit.masking,
            batch_texts=pool.batch_texts,
            parallel_calls=pool.parallel_calls,
        )
    if is_local(path):
        try:
            read_model_folder(Path(path).expanduser())
        except UserError as error:
            raise UserError(f"reward model {path}: {error}") from None
    from scar_ray.scoring import RewardModel

    check_device(device)
    try:
        return RewardModel(
            config.model.reward.model_copy(update={"path": located(path)}),
            masking=config.credit.masking,
            device=device,
            batch_tokens=config.cluster.reward.batch_tokens,
            engine=config.cluster.reward.engine,
            memory_gib=config.cluster.reward.memory_gib,
            attention=attention,
            trust_remote_code=config.model.trust_remote_code,
        )
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"reward model {path}: {reason}; give a folder, or a name that the hub has") from error
