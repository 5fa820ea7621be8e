"""Ways to compute the scores of sequences; `choose_engine` takes the first that suits the model, and `measure` tells
which is the fastest on given work.

| engine        | computed once              | models                                             |
|---------------|----------------------------|----------------------------------------------------|
| trie          | every node of a prefix tree | causal; masks, positions and caches of Transformers |
| shared_prompt | the prompt of a response   | causal; caches of Transformers                     |
| plain         | every distinct sequence    | all, encoders too                                  |

A fourth one, vLLM's pooling (`scar_ray.workers.pooling`), is for models that one GPU does not hold; it is measured
beside these where that is asked for (`scar_ray.workers.engine_choice`).
"""

from scar_ray.scoring.engines.choose import choose_engine, suited_engines
from scar_ray.scoring.engines.classifier import Classifier, Engine, rewards_of
from scar_ray.scoring.engines.forest import read_position
from scar_ray.scoring.engines.plain import PlainBatches
from scar_ray.scoring.engines.timing import measure

__all__ = [
    "Classifier",
    "Engine",
    "PlainBatches",
    "choose_engine",
    "measure",
    "read_position",
    "rewards_of",
    "suited_engines",
]
