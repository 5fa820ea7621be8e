import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.search.ndcg import dcg, ndcg

GAINS = st.lists(st.sampled_from([0.0, 0.01, 0.1, 1.0]), min_size=2, max_size=12)


def test_a_hit_at_the_second_rank_is_worth_less() -> None:
    assert dcg([1.0, 0.0, 1.0]) == 1.5
    assert ndcg([0.0, 1.0], [1.0, 0.1], 2) == pytest.approx(0.6309298 / 1.0630930)
    assert ndcg([], [1.0], 10) == 0.0


def test_without_any_relevant_product_it_is_not_defined() -> None:
    with pytest.raises(ValueError, match="no judged product has a gain above 0"):
        ndcg([0.0], [0.0, 0.0], 10)


@given(GAINS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_it_is_that_of_scikit_learn_for_a_ranking_of_all_products(gains: list[float], k: int, random) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    if max(gains) == 0:
        return
    ranking = list(range(len(gains)))
    random.shuffle(ranking)
    scores = np.zeros(len(gains))
    scores[ranking] = np.arange(len(gains), 0, -1)
    expected = metrics.ndcg_score([gains], [scores], k=k)
    assert ndcg([gains[row] for row in ranking], gains, k) == pytest.approx(expected)
