from random import Random

import pytest
from small_treebank import QUICK, sentence

from scar_ray.parsing.training import train
from scar_ray.parsing.treebank import read_treebank


@pytest.fixture(scope="session")
def sentences(tmp_path_factory):
    """60 sentences of the small grammar."""
    folder = tmp_path_factory.mktemp("treebank")
    rng = Random(1)
    (folder / "wsj_0001.mrg").write_text("\n".join(sentence(rng) for _ in range(60)))
    return read_treebank(folder)


@pytest.fixture(scope="session")
def parser(sentences):
    """A parser that knows the small grammar."""
    return train(sentences[:40], QUICK, log=lambda line: None)


@pytest.fixture(scope="session")
def parser_folder(parser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parser")
    parser.save(folder, {})
    return folder
