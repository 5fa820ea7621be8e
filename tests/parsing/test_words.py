"""Words in the treebank's tokens, and what the parser sees of them."""

from scar_ray.parsing.words import Vocabulary, features, treebank_tokens


def test_clitics_are_tokens_of_their_own():
    tokens, sources = treebank_tokens(["They", "don’t", "like", "John's", "dog", ",", "CANNOT", "'s", "'"])
    assert tokens == ["They", "do", "n't", "like", "John", "'s", "dog", ",", "CAN", "NOT", "'s", "'"]
    assert sources == [0, 1, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8]


def test_features_know_digits_marks_and_capitals_by_their_kind():
    assert features("Reagan", True) == ("reagan", "gan", "an", "re", "^X")
    assert features("1,987.5", False) == ("0,000.0", "0.0", ".0", "0,", "0.0")
    assert features("-LRB-", False) == features("(", False)
    assert features("“", False) == features("``", False)
    assert features("IBM", False)[-1] == "XA"


def test_features_seen_once_are_unknown():
    vocabulary = Vocabulary.of([["the", "dog"], ["the", "cat"]])
    assert vocabulary.slots == (("the",), ("the",), ("he",), ("th",), ("^x", "x"))
    assert vocabulary.numbers(["the", "dog"]).tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 0, 2]]
