import numpy as np

from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.sentiment import read
from scar_ray.workers.supervised.demo import part_of
from scar_ray.workers.supervised.reward import Example
from scar_ray.workers.supervised.scores import bucketed, crop_length


def test_batches_hold_every_example_but_the_last_few_once() -> None:
    examples = [Example(tuple(range(length)), float(length)) for length in range(1, 104)]
    batches = bucketed(examples, 10, np.random.default_rng(0))
    targets = [example.target for batch in batches for example in batch]
    assert [len(batch) for batch in batches] == [10] * 10
    assert len(set(targets)) == 100


def test_a_batch_holds_examples_of_similar_length() -> None:
    examples = [Example((0,) * length, 0.0) for length in range(1, 101)]
    for batch in bucketed(examples, 10, np.random.default_rng(0)):
        lengths = [len(example.ids) for example in batch]
        assert max(lengths) - min(lengths) == 9


def test_fewer_examples_than_a_batch_make_one_small_batch() -> None:
    batches = bucketed([Example((1,), 0.0)] * 3, 10, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [3]


def test_crops_are_from_4_tokens_to_the_whole_text_and_as_often_short_as_long() -> None:
    rng = np.random.default_rng(0)
    lengths = [crop_length(256, rng) for _ in range(4000)]
    assert (min(lengths), max(lengths)) == (4, 256)
    assert 28 <= np.median(lengths) <= 36  # sqrt(4 * 256) = 32
    assert {crop_length(2, rng) for _ in range(20)} == {2}


def test_a_part_of_a_review_keeps_words_in_their_order() -> None:
    rng = np.random.default_rng(0)
    kept = []
    for review in reviews(0, 300):
        words = iter(review.words)
        part = read(part_of(review, rng))
        assert all(word in words for word in part.words)
        kept.append(len(part.words) / len(review.words))
    assert 0.3 < np.mean(kept) < 0.7
