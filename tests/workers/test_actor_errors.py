"""Failures of actors, told in one line."""

from __future__ import annotations

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from scar_ray.scoring import SampleFailed
from scar_ray.workers.errors import ActorFailed, died, explain

CONSTRUCTOR = """The actor died because of an error raised in its creation task, ray::RewardWorker.__init__() (pid=7)
         ~^~
ZeroDivisionError: division by zero

The above exception was the direct cause of the following exception:

ray::RewardWorker.__init__() (pid=7, ip=192.0.2.2, actor_id=1d, repr=<scar_ray.workers.reward.RewardWorker object>)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/site-packages/transformers/utils/hub.py", line 620, in cached_files
    raise OSError(
OSError: cannot load the files of some/model.
Check your connection:
  it may be down.
"""
DEATH = """The actor died unexpectedly before finishing this task.
	class_name: RolloutWorker
	actor_id: e7f6907f
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: End of file. \
Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) a crash.
The actor never ran - it was cancelled before it started running."""


def test_an_error_in_a_constructor_is_told_without_its_traceback() -> None:
    error = RayActorError(error_msg=CONSTRUCTOR)
    assert explain(error) == "OSError: cannot load the files of some/model. Check your connection: it may be down."
    assert died(error)


def test_the_death_of_an_actor_is_told_without_rays_table() -> None:
    assert explain(RayActorError(error_msg=DEATH)) == (
        "died: its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: End of file."
    )
    killed = DEATH.split("The actor is dead")[0] + "The actor is dead because it was killed by `ray.kill`."
    assert explain(RayActorError(error_msg=killed)) == "died: it was killed by `ray.kill`."


def test_a_constructor_that_could_not_be_imported_is_told_by_its_error() -> None:
    text = "ray::Worker.__init__() (pid=7)\n           ^^^^^^^\nRuntimeError: The actor failed to import."
    assert explain(ActorDiedError(RayTaskError("__init__", text, RuntimeError()))) == (
        "RuntimeError: The actor failed to import."
    )


def test_an_unavailable_actor_counts_as_dead() -> None:
    error = ray.exceptions.ActorUnavailableError("The actor is restarting.", b"1" * 16)
    assert explain(error).startswith("died: The actor")
    assert died(error)


def test_an_answer_that_is_an_exception_keeps_its_type() -> None:
    error = RayTaskError("evaluate", "a long traceback", SampleFailed("sample 3:\n  not a number"))
    assert explain(error) == "SampleFailed: sample 3: not a number"
    assert explain(RayTaskError("ready", "", ValueError())) == "ValueError: no message"
    assert not died(error)


def test_the_failure_of_an_actor_that_another_one_called_is_told_once() -> None:
    error = RayTaskError("send_weights", "a long traceback", ActorFailed("rollout-1: died: it was killed"))
    assert explain(error) == "rollout-1: died: it was killed"


def test_an_explanation_is_short() -> None:
    assert len(explain(ValueError("word " * 1000))) < 520
