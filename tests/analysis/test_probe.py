"""The probe on reward models whose answers are known, and the verdict it gives them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from make_response import make_response, words

from scar_ray.analysis.probe import ProbeResult, probe
from scar_ray.analysis.probe_design import FRACTIONS, design
from scar_ray.analysis.probe_statistics import spearman
from scar_ray.analysis.probe_values import values
from scar_ray.analysis.probe_verdict import judge, recommended
from scar_ray.config.errors import UserError
from scar_ray.records import CreditPlan, Evaluation, Prompt, Response
from scar_ray.scoring import Workload
from scar_ray.scoring.encoding import char_ranges

GOOD = ("great", "lovely", "superb", "touching")
BAD = ("dull", "awful", "boring", "clumsy")
PLAIN = ("film", "plot", "music", "cast")
LINKS = ("and", "with", "the", "of", "but")


def reviews(count: int, seed: int = 0) -> list[Response]:
    """Responses of 12-30 words, about half of them closed-class ones, good and bad in varying shares."""
    found = []
    for row in range(count):
        rng = np.random.default_rng([seed, row])
        p_good = rng.uniform(0.2, 0.8)
        text = []
        for _ in range(rng.integers(6, 16)):
            kind = PLAIN if rng.random() < 0.3 else GOOD if rng.random() < p_good else BAD
            text += [str(rng.choice(LINKS)), str(rng.choice(kind))]
        found.append(make_response(words(" " + " ".join(text)), finished=False, row=row))
    return found


class Model:
    """A reward model that reads the characters left: `score(prompt, text)`. With `only`, other maskings are refused."""

    def __init__(self, score: Callable[[str, str], float], only: Sequence[str] = ("delete",)) -> None:
        self.score, self.only = score, only

    def masked(self, masking: str) -> "Model":
        if masking not in self.only:
            raise ValueError(f"credit.masking={masking}: not here")
        return self

    def evaluate(
        self, jobs: Sequence[tuple[Response, CreditPlan]], *, check_finite: bool = True
    ) -> tuple[list[Evaluation], Workload]:
        assert not check_finite
        return [self.answer(response, plan) for response, plan in jobs], Workload()

    def answer(self, response: Response, plan: CreditPlan) -> Evaluation:
        ranges = char_ranges(response, plan.units)
        texts = [
            "".join(response.text[a:b] for (a, b), here in zip(ranges, row, strict=True) if here)
            for row in plan.game.coalitions_Cn
        ]
        prompt = response.prompt.text
        values_C = np.array([self.score(prompt, text) for text in texts])
        return Evaluation(self.score(prompt, response.text), values_C)


def sentiment(prompt: str, text: str) -> float:
    """Good words less bad ones, an additive game."""
    found = text.split()
    return float(sum(word in GOOD for word in found) - sum(word in BAD for word in found))


def noise(prompt: str, text: str) -> float:
    """A number that has nothing to do with the words, but is the same for the same text."""
    digest = hashlib.sha256((prompt + "|" + text).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def length(prompt: str, text: str) -> float:
    return float(len(text))


@lru_cache
def probed(score: Callable[[str, str], float], count: int = 200) -> ProbeResult:
    return probe(Model(score), reviews(count), unit="word")


def test_an_additive_score_is_meaningful_and_perfectly_monotone() -> None:
    found = probed(sentiment).measured["delete"]
    assert found.sign_agreement == 1.0
    assert found.effect_spearman == pytest.approx(1.0)
    assert (found.lowered, found.raised) == (1.0, 1.0)
    assert found.lowered_random < 0.6
    assert found.lift > 0.4
    assert np.isnan(found.content_ratio)  # function words change nothing at all
    assert found.empty_std == 0.0
    assert np.isnan(found.spearman[-1])  # the score of nothing is the same for all
    assert judge(found).verdict == "meaningful"
    assert probed(sentiment).sentence().startswith("Scores of partial responses are meaningful with credit.masking=del")


def test_the_correlation_of_an_additive_score_falls_as_theory_says() -> None:
    found = probed(sentiment).measured["delete"]
    expected = np.sqrt(1 - np.array(FRACTIONS))
    # The share of good words differs from response to response, which correlates their words.
    assert np.all(np.array(found.pearson[:-1]) > expected - 0.05)
    assert list(found.pearson[:-1]) == sorted(found.pearson[:-1], reverse=True)


def test_noise_is_not_meaningful() -> None:
    found = probed(noise).measured["delete"]
    assert abs(found.spearman[FRACTIONS.index(0.5)]) < 0.15
    assert abs(found.effect_spearman) < 0.1
    assert found.sign_agreement == pytest.approx(0.5, abs=0.05)
    assert found.content_ratio == pytest.approx(1.0, abs=0.15)
    result = probed(noise)
    assert result.judgement("delete").verdict == "not meaningful"
    assert result.sentence().startswith(
        "Scores of partial responses are not meaningful for this reward model; the best masking, delete, fails: "
        "with half of the units removed the scores do not rank the responses as the full scores do"
    )


def test_a_score_that_only_reads_length_is_not_meaningful() -> None:
    found = probed(length).measured["delete"]
    assert found.length_r2 == pytest.approx(1.0)
    assert found.drift > 2
    assert found.lowered == found.lowered_random == 1.0
    assert found.lift == 0.0
    reasons = probed(length).judgement("delete").reasons
    assert probed(length).judgement("delete").verdict == "not meaningful"
    assert any("the number of characters kept explains 100 % of the variance" in reason for reason in reasons)


def test_a_constant_score_is_not_meaningful() -> None:
    result = probe(Model(lambda prompt, text: 1.5), reviews(30), unit="word")
    found = result.measured["delete"]
    assert result.judgement("delete").verdict == "not meaningful"
    assert np.isnan([found.drift, found.lift, found.effect_spearman, found.sign_agreement]).all()
    assert "could not be measured" in result.sentence()


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    def broken(prompt: str, text: str) -> float:
        return float("nan") if not text else float("inf") if text.startswith(" the") else sentiment(prompt, text)

    found = probe(Model(broken), reviews(100), unit="word").measured["delete"]
    assert 0.1 < found.nonfinite < 0.5
    assert np.isnan(found.mean[-2])
    assert np.isfinite(found.mean[-1])
    assert found.spearman[1] > 0.8
    assert judge(found).verdict == "not meaningful"


def test_the_share_of_nonfinite_values_is_exact() -> None:
    responses = reviews(20)
    found = probe(Model(lambda prompt, text: 1.0 if text else float("nan")), responses, unit="word").measured["delete"]
    designs = [design(each, "word", 64, 0) for each in responses]
    # Both plans and the two rounds ask for the empty and the full coalition.
    asked = sum(each.plan.game.n_coalitions + each.words.game.n_coalitions + 2 for each in designs)
    assert found.nonfinite == pytest.approx(3 * 20 / asked)


def test_one_value_in_a_thousand_that_is_not_finite_asks_for_care() -> None:
    found = replace(probed(sentiment).measured["delete"], nonfinite=0.001)
    assert judge(found).verdict == "use with care"
    assert judge(found).reasons == ("0.1 % of the values are not finite; none should be",)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"spearman": (0.9, 0.8, 0.5, 0.4, 0.3, 0.2)}, "meaningful"),
        ({"spearman": (0.9, 0.8, 0.49, 0.4, 0.3, 0.2)}, "use with care"),
        ({"spearman": (0.9, 0.8, 0.29, 0.4, 0.3, 0.2)}, "not meaningful"),
        ({"effect_spearman": 0.29}, "use with care"),
        ({"effect_spearman": 0.09}, "not meaningful"),
        ({"lift": 0.09}, "use with care"),
        ({"lift": 0.02}, "not meaningful"),
        ({"length_r2": 0.31}, "use with care"),
        ({"length_r2": 0.91}, "not meaningful"),
        ({"drift": -1.0}, "meaningful"),
        ({"drift": -40.0}, "use with care"),
        ({"content_ratio": 1.1}, "meaningful"),
        ({"content_ratio": 0.2}, "use with care"),
        ({"nonfinite": 0.011}, "not meaningful"),
        ({"drift": 3.0, "lift": 0.0}, "not meaningful"),
    ],
)
def test_the_thresholds_of_the_verdict(change: dict[str, object], verdict: str) -> None:
    assert judge(replace(probed(sentiment).measured["delete"], **change)).verdict == verdict


def test_the_best_verdict_is_recommended_then_the_largest_correlations_then_the_first() -> None:
    good = replace(probed(sentiment).measured["delete"], effect_spearman=0.8)
    careful = replace(good, drift=2.0, effect_spearman=0.99)
    assert recommended({"delete": careful, "blank": good}) == "blank"
    assert recommended({"delete": good, "blank": replace(good, effect_spearman=0.9)}) == "blank"
    assert recommended({"delete": good, "blank": good}) == "delete"


def test_maskings_that_the_model_does_not_support_are_listed_with_the_reason() -> None:
    result = probe(Model(sentiment, only=("delete", "pad")), reviews(30), unit="word")
    assert list(result.measured) == ["delete", "pad"]
    assert repr(result.measured["delete"]) == repr(result.measured["pad"])  # NaN is not equal to itself
    assert result.unsupported == {name: f"credit.masking={name}: not here" for name in ("blank", "mask", "attention")}
    with pytest.raises(ValueError, match=r"supports no masking: credit.masking=delete: not here"):
        probe(Model(sentiment, only=()), reviews(30), unit="word")


def test_a_responses_values_do_not_depend_on_the_others_nor_on_their_order() -> None:
    responses = reviews(150)
    designs = [design(each, "word", 64, 7) for each in responses]
    model = Model(noise)
    some = values(model, designs[100:], lambda count: None)
    everything = values(model, designs, lambda count: None)
    assert np.array_equal(some.removed_BF, everything.removed_BF[100:])
    assert np.array_equal(some.top_B, everything.top_B[100:], equal_nan=True)
    backwards = values(model, designs[::-1], lambda count: None)
    assert np.array_equal(backwards.content_B[::-1], everything.content_B)


def test_another_seed_removes_other_units() -> None:
    first, same, other = (design(reviews(1)[0], "word", 64, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.plan.game.coalitions_Cn, same.plan.game.coalitions_Cn)
    assert not np.array_equal(first.singles, other.singles)


def test_the_coalitions_are_what_they_are_called() -> None:
    response = make_response(words(" the great film and the dull plot with lovely music"), finished=False)
    found = design(response, "word", 64, 0)
    coalitions = found.plan.game.coalitions_Cn
    n = 10
    assert [int((~coalitions[row]).sum()) for row in found.removed] == [1, 2, 5, 8, 9]
    assert [int(coalitions[row].sum()) for row in found.alone] == [1] * 6
    assert np.array_equal(coalitions[found.without], ~coalitions[found.alone])
    assert np.array_equal(np.flatnonzero(coalitions[found.alone])[:1] % n, found.singles[:1])
    gone = np.flatnonzero(~coalitions[found.control])
    assert len(gone) == 2
    assert set(gone) <= set(found.singles)
    no_content, no_function = found.words.game.coalitions_Cn[2:]
    names = response.text.split()
    assert {names[i] for i in np.flatnonzero(~no_function)} <= {"the", "and", "with"}
    assert {names[i] for i in np.flatnonzero(~no_content)} <= {"great", "film", "dull", "plot", "lovely", "music"}
    assert (~no_function).sum() == (~no_content).sum() == 2


def test_content_words_count_more_where_the_score_reads_them_more() -> None:
    def mostly_content(prompt: str, text: str) -> float:
        return sentiment(prompt, text) + 0.1 * sum(word in LINKS for word in text.split())

    found = probe(Model(mostly_content), reviews(100), unit="word").measured["delete"]
    assert found.content_ratio > 4


def test_too_few_or_too_short_responses_are_refused() -> None:
    with pytest.raises(UserError, match=r"^19 of 19 responses have at least 4 units of word; correlations need 20"):
        probe(Model(sentiment), reviews(19), unit="word")
    with pytest.raises(UserError, match=r"^0 of 30 responses have at least 4 units of paragraph; .*smaller units$"):
        probe(Model(sentiment), reviews(30), unit="paragraph")


def test_short_responses_are_left_out_and_counted() -> None:
    short = make_response([" great", " film"], finished=False)
    result = probe(Model(sentiment), [short, *reviews(30)], unit="word")
    assert (result.responses, result.too_short) == (30, 1)


def test_progress_counts_every_masking() -> None:
    told: list[tuple[int, int]] = []
    model = Model(sentiment, only=("delete", "pad"))
    probe(model, reviews(70), unit="word", progress=lambda done, total: told.append((done, total)))
    assert told == [(64, 140), (70, 140), (134, 140), (140, 140)]


def test_the_json_holds_every_number_and_null_for_what_is_not_known() -> None:
    found = json.loads(json.dumps(probed(sentiment).to_json(), allow_nan=False))
    assert found["verdict"] == "meaningful"
    assert found["recommended_masking"] == "delete"
    assert found["removed"] == [0.1, 0.25, 0.5, 0.75, 0.9, 1.0]
    assert found["maskings"]["delete"]["content_ratio"] is None
    assert found["maskings"]["delete"]["spearman"][2] == probed(sentiment).measured["delete"].spearman[2]
    assert len(found["maskings"]["delete"]["mean"]) == 7


def test_ranks_share_their_mean_among_equal_values() -> None:
    x = np.array([1.0, 2, 2, 3, 4, 5, 6, 7, 8, 9, np.nan])
    y = np.array([1.0, 3, 2, 4, 5, 6, 7, 8, 9, 10, 0])
    # Ranks 1, 2.5, 2.5, 4.. against 1, 3, 2, 4..: covariance 82, variances 82 and 82.5.
    assert spearman(x, y) == pytest.approx(82 / np.sqrt(82 * 82.5))
    assert np.isnan(spearman(x[:9], y[:9]))
    assert np.isnan(spearman(np.ones(20), np.arange(20.0)))


def test_the_drift_is_the_slope_on_the_share_kept_at_an_average_score() -> None:
    def base_and_share(prompt: str, text: str) -> float:
        return 2.0 * len(text.split()) / 20

    responses = [make_response([f" w{row}x{i}" for i in range(20)], finished=False, row=row) for row in range(40)]
    responses = [replace(each, prompt=Prompt(each.row, (), str(each.row))) for each in responses]

    def with_prompt(prompt: str, text: str) -> float:
        return base_and_share(prompt, text) + float(prompt) / 10

    found = probe(Model(with_prompt), responses, unit="word").measured["delete"]
    std = np.arange(40).std() / 10
    assert found.full_std == pytest.approx(std)
    assert found.drift == pytest.approx(2.0 / std, abs=1e-3)  # the share is one of characters
    assert found.mean[-2:] == pytest.approx((1.95, 3.95))
    assert found.spearman[-1] == pytest.approx(1.0)
