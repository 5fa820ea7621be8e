import numpy as np

from scar_ray.tasks.grammar import reviews


def test_the_same_seed_gives_the_same_reviews() -> None:
    assert [r.text for r in reviews(3, 20)] == [r.text for r in reviews(3, 20)]
    assert reviews(0, 7)[6].text == "The story looked annoying. I truly loved the soundtrack."
    assert reviews(0, 7)[6].sentiment == 1.5
    assert reviews(3, 20)[0].text != reviews(4, 20)[0].text


def test_reviews_are_distinct_by_the_thousand() -> None:
    assert len({r.text for r in reviews(0, 3000)}) >= 2900


def test_reviews_have_8_to_24_words_and_1_to_3_clauses() -> None:
    for review in reviews(1, 500):
        assert 8 <= sum(word.isalpha() for word in review.words) <= 24
        assert 1 <= len(review.terms) <= 3


def test_reviews_are_balanced_between_praise_and_blame() -> None:
    sentiments = np.array([r.sentiment for r in reviews(0, 3000)])
    assert 0.45 < (sentiments > 0).mean() < 0.55
    assert abs(sentiments.mean()) < 0.3
    assert (sentiments != 0).all()


def test_reviews_contain_negation_intensifiers_and_contrast() -> None:
    words = {word for review in reviews(0, 500) for word in review.words}
    assert {"not", "never", "hardly", "very", "slightly", "but", "although", "loved", "superb"} <= words


def test_contributions_of_a_review_sum_to_its_sentiment() -> None:
    for review in reviews(5, 200):
        assert abs(review.contributions().sum() - review.sentiment) < 1e-12
