"""What can go wrong with one response."""

from scar_ray.records import Response


class SampleFailed(ValueError):
    """The reward model could not score one sample: the message says which one and why."""


class RewardUnavailable(RuntimeError):
    """What scores the samples cannot be reached, whatever the sample: the message says what to do."""


def name_of(response: Response) -> str:
    """How a sample is named in messages."""
    text = " ".join(response.text.split())
    return f"prompt {response.prompt.index}, sample {response.sample} ({text[:60]!r})"
