"""Are a reward model's scores of partial responses meaningful? `probe` asks it about parts of many responses.

Dense credit rests on the scores of responses of which units are missing, which few reward models were trained on.
`probe_design.py` lists the parts, `probe_statistics.py` the numbers, `probe_verdict.py` the thresholds.

    model = RewardModel(RewardModelConfig(path="models/imdb/reward"))
    pairs = read_pairs(Path("reviews.jsonl"), count=1000, words=60, seed=0)
    result = probe(model, read_responses(pairs, model.tokenizer), unit="span")
    print(result.sentence())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from scar_ray.analysis.probe_data import MIN_ROWS
from scar_ray.analysis.probe_design import FRACTIONS, MIN_UNITS, Design, design
from scar_ray.analysis.probe_statistics import Statistics, statistics
from scar_ray.analysis.probe_values import Scorer, values
from scar_ray.analysis.probe_verdict import Judgement, judge, recommended
from scar_ray.config.errors import UserError
from scar_ray.config.schema import Masking
from scar_ray.records import Response
from scar_ray.text.units import Unit

Progress = Callable[[int, int], None]
"""Told after each group: values of so many responses are known, of so many in all (each masking counts)."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The answer of the probe."""

    unit: Unit
    seed: int
    """Of the draws of units."""
    responses: int
    """Responses that were measured."""
    too_short: int
    """Responses left out because they have fewer than MIN_UNITS units."""
    mean_units: float
    """Units of a response, mean."""
    measured: Mapping[Masking, Statistics]
    """The numbers of each masking that the model supports."""
    unsupported: Mapping[Masking, str]
    """The other maskings, and why not."""

    @property
    def recommended(self) -> Masking:
        """The masking to use."""
        return recommended(self.measured)

    def judgement(self, masking: Masking) -> Judgement:
        return judge(self.measured[masking])

    def sentence(self) -> str:
        """The verdict in plain words, on the recommended masking."""
        best = self.recommended
        found = self.judgement(best)
        opening = {
            "meaningful": f"Scores of partial responses are meaningful with credit.masking={best}",
            "use with care": f"Use scores of partial responses with care; credit.masking={best} is best",
            "not meaningful": "Scores of partial responses are not meaningful for this reward model; the best masking, "
            f"{best}, fails",
        }[found.verdict]
        return f"{opening}: {'; '.join(found.reasons)}."

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; what could not be measured is null."""
        plain: dict[str, Any] = {
            "unit": self.unit,
            "seed": self.seed,
            "responses": self.responses,
            "too_short": self.too_short,
            "mean_units": self.mean_units,
            "verdict": self.judgement(self.recommended).verdict,
            "recommended_masking": self.recommended,
            "sentence": self.sentence(),
            "removed": [*FRACTIONS, 1.0],
            "maskings": {
                masking: {**asdict(self.judgement(masking)), **asdict(found)}
                for masking, found in self.measured.items()
            },
            "unsupported": dict(self.unsupported),
        }
        return {key: _jsonable(value) for key, value in plain.items()}


def probe(
    model: Scorer,
    responses: Sequence[Response],
    *,
    unit: Unit = "span",
    max_units: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> ProbeResult:
    """Scores parts of the responses with every masking that the model supports, and judges them.

    The same parts for every masking, drawn for each response from `seed` and its prompt's index, whatever the other
    responses are. UserError when fewer than MIN_ROWS responses have MIN_UNITS units, ValueError when the model
    supports no masking, SampleFailed for a response that is longer than the model reads.
    """
    designs = [found for each in responses if (found := design(each, unit, max_units, seed)) is not None]
    if len(designs) < MIN_ROWS:
        raise UserError(
            f"{len(designs)} of {len(responses)} responses have at least {MIN_UNITS} units of {unit}; correlations "
            f"need {MIN_ROWS} such responses: take longer ones, or smaller units"
        )
    models: dict[Masking, Scorer] = {}
    unsupported: dict[Masking, str] = {}
    for masking in get_args(Masking):
        try:
            models[masking] = model.masked(masking)
        except ValueError as error:
            unsupported[masking] = str(error)
    if not models:
        raise ValueError(f"the reward model supports no masking: {'; '.join(unsupported.values())}")
    return ProbeResult(
        unit=unit,
        seed=seed,
        responses=len(designs),
        too_short=len(responses) - len(designs),
        mean_units=float(np.mean([_n_units(each) for each in designs])),
        measured=_measured(models, designs, progress),
        unsupported=unsupported,
    )


def _measured(
    models: Mapping[Masking, Scorer], designs: Sequence[Design], progress: Progress | None
) -> dict[Masking, Statistics]:
    kept_chars_BF = np.array([each.kept_chars for each in designs])
    chars_B = np.array([len(each.response.text) for each in designs], dtype=np.float64)
    known = 0

    def done(count: int) -> None:
        nonlocal known
        known += count
        if progress is not None:
            progress(known, len(models) * len(designs))

    return {
        masking: statistics(values(model, designs, done), kept_chars_BF, chars_B) for masking, model in models.items()
    }


def _n_units(design: Design) -> int:
    assert design.plan.units is not None
    return len(design.plan.units)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
