"""Every file under configs/ loads, in every combination, and says nothing that the schema says already."""

import itertools
from typing import Any

import pytest
import yaml

from scar_ray.config.load import DEFAULT_GROUPS, config_folder, load
from scar_ray.config.schema import Config

CHOICES = {group: sorted(file.stem for file in (config_folder() / group).glob("*.yaml")) for group in DEFAULT_GROUPS}

EXPLICIT = {
    "task/demo": {"name"},
    "credit/scar_span": {"method", "unit"},
    "credit/scar_sentence": {"method"},
    "credit/scar_token": {"method"},
    "credit/scar_word": {"method"},
    "credit/scar_paragraph": {"method"},
    "credit/scar_auto": {"method"},
    "algorithm/ppo": {"name"},
    "model/demo": {"policy.path", "reward.path"},
    "cluster/cpu": {"device"},
}
"""Keys that equal their default on purpose: a file says in one word what it is."""


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_the_groups_hold_the_choices_that_the_documentation_names() -> None:
    assert {
        "task": ["demo", "imdb"],
        "credit": [
            *("abc", "ospo", "prefix", "scar_auto", "scar_paragraph", "scar_sentence", "scar_span", "scar_token"),
            *("scar_word", "shape_aspects", "shape_grpo", "sparse", "uniform"),
        ],
        "algorithm": ["demo", "grpo", "ospo", "paper", "ppo", "reinforce", "rloo", "shape_grpo", "tiny"],
        "model": ["demo", "paper", "tiny"],
        "cluster": ["cpu", "gpu8", "gpu_shared", "nodes2x8"],
    } == CHOICES


@pytest.mark.parametrize("choice", [f"{group}/{name}" for group, names in CHOICES.items() for name in names])
def test_a_group_file_only_holds_what_differs_from_the_defaults(choice: str) -> None:
    group, _, name = choice.partition("/")
    tree = yaml.safe_load((config_folder() / group / f"{name}.yaml").read_text())
    tree.pop("defaults", None)
    defaults = leaves(Config().model_dump(mode="json")[group])
    same = {key for key, value in leaves(tree).items() if key in defaults and defaults[key] == value}
    assert same == EXPLICIT.get(choice, set())


@pytest.mark.parametrize(
    ("task", "credit", "cluster"),
    list(itertools.product(CHOICES["task"], CHOICES["credit"], CHOICES["cluster"])),
)
def test_every_combination_of_task_credit_and_cluster_loads(task: str, credit: str, cluster: str) -> None:
    config = load([f"task={task}", f"credit={credit}", f"cluster={cluster}"])
    assert config.task.name == task
    assert config.credit.method == ("shape_grpo" if credit.startswith("shape") else credit.partition("_")[0])
    assert config.cluster.device == ("cpu" if cluster == "cpu" else "cuda")


@pytest.mark.parametrize(("algorithm", "model"), list(itertools.product(CHOICES["algorithm"], ["paper", "tiny"])))
def test_every_combination_of_algorithm_and_model_loads(algorithm: str, model: str) -> None:
    assert load([f"algorithm={algorithm}", f"model={model}", "task=imdb"]).task.name == "imdb"


@pytest.mark.parametrize("name", ["ospo", "shape_grpo"])
def test_one_word_swaps_algorithm_and_credit_and_a_second_one_the_credit_again(name: str) -> None:
    config = load([f"algorithm={name}"])
    assert (config.algorithm.name, config.credit.method) == ("grpo", name)
    assert load([f"algorithm={name}", "credit=sparse"]).credit.method == "sparse"
    assert load([f"algorithm={name}"]).credit == load([f"credit={name}"]).credit


def test_imdb_samples_as_the_paper_does() -> None:
    task = load(["task=imdb"]).task
    assert (task.prompt_tokens_min, task.prompt_tokens_max) == (4, 8)
    assert (task.sampling.min_new_tokens, task.sampling.max_new_tokens, task.sampling.temperature) == (
        16,
        24,
        0.7,
    )
    assert (task.train.source, task.train.split, task.test.split) == ("stanfordnlp/imdb", "train", "test")


def test_the_paper_algorithm_has_the_papers_numbers() -> None:
    algorithm = load(["algorithm=paper"]).algorithm
    assert (algorithm.batch.responses, algorithm.batch.minibatch) == (128, 128)
    assert (algorithm.optimizer.lr, algorithm.kl.coef, algorithm.epochs) == (1.41e-5, 0.2, 4)


def test_the_gpu_clusters_fill_their_nodes() -> None:
    assert load(["cluster=gpu8"]).cluster.learner.zero_stage == 2
    assert load(["cluster=nodes2x8"]).cluster.address == "auto"


@pytest.mark.parametrize("cluster", ["gpu8", "gpu_shared", "nodes2x8"])
def test_gpu_clusters_take_a_bfloat16_policy(cluster: str) -> None:
    config = load([f"cluster={cluster}", "model=paper", "model.policy.dtype=bfloat16"])
    assert config.model.policy.dtype == "bfloat16"
