"""Parsers by name, and the packages of others behind stand-ins with their call shapes."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from scar_ray.parsing import load_bracketer, parser_folder
from scar_ray.text.parse import parse

WORDS = ["He", "saw", "the", "dog", "."]


class NltkTree(list):
    """nltk's Tree: a list of its children, which are trees or words."""

    def __init__(self, label, children):
        super().__init__(children)
        self._label = label


def preterminal(word):
    return NltkTree("X", [word])


class StanzaTree:
    """stanza's Tree: words too are trees, without children; its length is its number of words."""

    def __init__(self, label, *children):
        self.label, self.children = label, children

    def __len__(self):
        return sum(len(child) for child in self.children) or 1


@pytest.fixture
def benepar(monkeypatch):
    class Parser:
        def __init__(self, name):
            assert name == "benepar_en3"

        def parse(self, sentence):
            he, saw, the, dog, stop = map(preterminal, sentence.words)
            phrase = NltkTree("VP", [saw, NltkTree("NP", [the, dog])])
            return NltkTree("TOP", [NltkTree("S", [NltkTree("NP", [he]), phrase, stop])])

    module = ModuleType("benepar")
    module.Parser, module.InputSentence = Parser, lambda words: SimpleNamespace(words=words)
    monkeypatch.setitem(sys.modules, "benepar", module)
    return module


@pytest.fixture
def stanza(monkeypatch):
    class Pipeline:
        def __init__(self, **settings):
            assert settings["tokenize_pretokenized"] is True
            assert settings["download_method"] is None

        def __call__(self, sentences):
            (words,) = sentences
            he, saw, the, dog, stop = [StanzaTree("X", StanzaTree(word)) for word in words]
            phrase = StanzaTree("VP", saw, StanzaTree("NP", the, dog))
            tree = StanzaTree("ROOT", StanzaTree("S", StanzaTree("NP", he), phrase, stop))
            return SimpleNamespace(sentences=[SimpleNamespace(constituency=tree)])

    module = ModuleType("stanza")
    module.Pipeline = Pipeline
    monkeypatch.setitem(sys.modules, "stanza", module)
    return module


@pytest.mark.parametrize("name", ["benepar", "stanza"])
def test_trees_of_other_packages_become_trees_over_the_words(name, benepar, stanza):
    assert load_bracketer(name).bracket(WORDS) == (0, (1, (2, 3)), 4)


@pytest.mark.parametrize("name", ["benepar", "stanza"])
def test_a_sentence_on_which_the_package_fails_falls_back_to_the_heuristic(name, benepar, stanza):
    found = parse("He saw the dog. Right. He saw the dog.", load_bracketer(name))
    assert found.fallbacks == 1


def test_a_package_that_gives_other_words_has_failed(benepar, monkeypatch):
    monkeypatch.setattr(benepar.Parser, "parse", lambda self, sentence: NltkTree("S", ["two", "words"]))
    with pytest.raises(ValueError, match="benepar gave 2 words for 5"):
        load_bracketer("benepar").bracket(WORDS)


@pytest.mark.parametrize("name", ["benepar", "stanza"])
def test_a_package_that_is_not_installed_is_one_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=f"^parser: {name} cannot be imported .*run `pip install {name}`$"):
        load_bracketer(name)


def test_a_model_that_is_not_installed_is_one_line(benepar, monkeypatch):
    def missing(name):
        raise LookupError("\n  Resource benepar_en3 not found.\n  Please use the downloader.\n")

    monkeypatch.setattr(benepar, "Parser", missing)
    with pytest.raises(ValueError, match=r"^parser: benepar .*benepar_en3 not found\.\); run `python -m benepar"):
        load_bracketer("benepar")


def test_the_heuristic_needs_no_bracketer():
    assert load_bracketer("heuristic") is None


def test_an_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match="one of heuristic, treebank, benepar, stanza; got spacy"):
        load_bracketer("spacy")


def test_a_parser_that_has_not_been_built_says_how_to_build_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert parser_folder() == tmp_path / "scar_ray/parser"
    with pytest.raises(ValueError, match="run `scar-ray parser build` first"):
        load_bracketer("treebank")
