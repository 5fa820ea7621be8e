"""Reward functions in Python: rules instead of a reward model.

scar-ray train task=demo model.reward.function=examples/rewards.py:praise model.reward.options.length=12
scar-ray train task=demo model.reward.function=examples/rewards.py:Overlap
"""

from collections import Counter

PRAISE = {"good", "great", "fine", "wonderful", "lovely", "funny", "charming", "brilliant", "moving", "superb"}
BLAME = {"bad", "awful", "dull", "boring", "terrible", "weak", "clumsy", "tedious", "bland", "annoying"}


def praise(samples, length=20):
    """Words of praise minus words of blame, and up to one point less for every word beyond `length`."""
    rewards = []
    for sample in samples:
        words = [word.strip(".,!?").lower() for word in sample.response.split()]
        opinion = sum((word in PRAISE) - (word in BLAME) for word in words)
        rewards.append(opinion - min(max(len(words) - length, 0) / 10, 1.0))
    return rewards


class Overlap:
    """Share of a reference text's words that the response has; the task's prompts carry it as `data["reference"]`.

    A class is made once in each actor: the place for what takes time to load.
    """

    def __init__(self, key="reference"):
        self.key = key

    def __call__(self, samples):
        return [self.recall(sample.response, sample.data.get(self.key, sample.prompt)) for sample in samples]

    @staticmethod
    def recall(response, reference):
        wanted, there = Counter(reference.lower().split()), Counter(response.lower().split())
        return (wanted & there).total() / max(wanted.total(), 1)
