"""Every file under configs/ loads, in every combination, and says nothing that the schema says already."""

import itertools
from typing import Any

import pytest
import yaml

from scar_ray.config.errors import ConfigError
from scar_ray.config.load import DEFAULT_GROUPS, config_folder, load
from scar_ray.config.schema import Config

CHOICES = {group: sorted(file.stem for file in (config_folder() / group).glob("*.yaml")) for group in DEFAULT_GROUPS}

EXPLICIT = {
    "task/demo": {"name"},
    "task/product_search": {"model.reward.path"},
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
        "task": ["arithmetic", "demo", "hh", "imdb", "product_rewrites", "product_search", "tldr"],
        "credit": [
            *("abc", "ospo", "prefix", "prefix_complete", "scar_auto", "scar_paragraph", "scar_sentence", "scar_span"),
            *("scar_token", "scar_word", "shape_aspects", "shape_grpo", "sparse", "uniform"),
        ],
        "algorithm": ["demo", "grpo", "ospo", "paper", "ppo", "reinforce", "rloo", "shape_grpo", "tiny"],
        "model": ["demo", "paper", "tiny"],
        "cluster": ["cpu", "gpu8", "gpu_shared", "nodes2x8"],
    } == CHOICES


@pytest.mark.parametrize("choice", [f"{group}/{name}" for group, names in CHOICES.items() for name in names])
def test_a_group_file_only_holds_what_differs_from_the_defaults(choice: str) -> None:
    group, _, name = choice.partition("/")
    text = (config_folder() / group / f"{name}.yaml").read_text()
    tree = yaml.safe_load(text)
    tree.pop("defaults", None)
    defaults = leaves(Config().model_dump(mode="json") if "@package _global_" in text else Config().model_dump()[group])
    same = {key for key, value in leaves(tree).items() if key in defaults and defaults[key] == value}
    assert same == EXPLICIT.get(choice, set())


@pytest.mark.parametrize(
    ("task", "credit", "cluster"),
    [
        (task, credit, cluster)
        for task, credit, cluster in itertools.product(CHOICES["task"], CHOICES["credit"], CHOICES["cluster"])
        # A function has no attention; and one cluster is enough where loading takes long.
        if not task.startswith(("product", "arithmetic")) or (credit != "abc" and cluster == "cpu")
    ],
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


def test_product_search_is_scored_by_a_retriever_and_measured_by_another_one() -> None:
    config = load(["task=product_search", "task.data=/data", "algorithm=ospo"])
    gold = config.eval.gold
    assert gold is not None
    assert (config.credit.method, config.algorithm.name, config.model.reward.path) == ("ospo", "grpo", "")
    assert config.model.reward.options["retriever"] == "bm25"
    assert gold.options["retriever"] == "ngrams"
    for reward in (config.model.reward, gold):
        assert reward.function == "scar_ray.search:SearchReward"
        assert reward.options["products"]["source"] == "/data/product_search_esci_products.jsonl.gz"


@pytest.mark.parametrize(
    ("words", "algorithm", "credit", "best_of"),
    [
        ([], "grpo", "shape_grpo", None),
        (["algorithm=grpo", "credit=sparse"], "grpo", "sparse", 3),
        (["credit.candidates.count=5", "credit=scar_span"], "grpo", "scar", 5),
    ],
)
def test_a_list_of_rewrites_is_read_by_the_credit_or_by_the_reward(
    words: list[str], algorithm: str, credit: str, best_of: int | None
) -> None:
    config = load(["task=product_rewrites", *words])
    assert config.eval.gold is not None
    assert (config.algorithm.name, config.credit.method) == (algorithm, credit)
    assert config.model.reward.options["best_of"] == best_of
    assert config.eval.gold.options["best_of"] == config.credit.candidates.count


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
    algorithm = load(["task=imdb", "algorithm=paper"]).algorithm
    assert (algorithm.batch.responses, algorithm.batch.minibatch) == (128, 128)
    assert (algorithm.optimizer.lr, algorithm.kl.coef, algorithm.epochs) == (1.41e-5, 0.2, 4)


PAPER = {
    # Tables 3, 4 and 5: learning rate, batch, gradient accumulation, KL weight, alpha, tokens, temperature
    "imdb": (1.41e-5, 128, 16, 0.2, 0.8, (16, 24), 0.7),
    "tldr": (3e-6, 64, 4, 0.05, 1.0, (0, 53), 0.7),
    "hh": (1.41e-5, 16, 8, 0.2, 0.8, (8, 256), 1.0),
}


@pytest.mark.parametrize("task", PAPER)
def test_the_paper_model_brings_the_papers_tables(task: str) -> None:
    config = load([f"task={task}", "model=paper"])
    algorithm, sampling = config.algorithm, config.task.sampling
    assert algorithm.batch.minibatch == algorithm.batch.responses
    assert (
        algorithm.optimizer.lr,
        algorithm.batch.responses,
        algorithm.batch.responses // config.cluster.learner.micro_batch,
        algorithm.kl.coef,
        config.credit.alpha,
        (sampling.min_new_tokens, sampling.max_new_tokens),
        sampling.temperature,
    ) == PAPER[task]
    assert (algorithm.gamma, algorithm.clip, sampling.top_p) == (1.0, 0.2, 1.0)


def test_hh_trains_a_7b_policy_through_lora_against_a_3b_reward_model() -> None:
    model = load(["task=hh", "model=paper"]).model
    assert model.policy.path == "VMware/open-llama-7b-open-instruct"
    assert model.reward.path == "weqweasdas/hh_rlhf_rm_open_llama_3b"
    assert model.policy.lora is not None
    assert (model.policy.lora.rank, model.policy.lora.alpha) == (32, 32)


def test_a_summary_that_does_not_end_loses_1() -> None:
    assert load(["task=tldr", "model=paper"]).algorithm.shaping.missing_eos_penalty == 1.0


def test_another_algorithm_can_go_with_the_papers_models() -> None:
    config = load(["task=tldr", "model=paper", "algorithm=ppo"])
    assert (config.model.policy.path, config.algorithm.optimizer.lr) == (
        "cleanrl/EleutherAI_pythia-1b-deduped__sft__tldr",
        1e-5,
    )


def test_the_demo_has_no_paper() -> None:
    rule = r"^the configuration files cannot be composed: In 'model/paper': Could not find 'model/paper/demo' "
    with pytest.raises(ConfigError, match=rule + "Available options in 'model/paper': hh imdb tldr$"):
        load(["task=demo", "model=paper"])


def test_one_folder_gives_all_files_of_a_task() -> None:
    task = load(["task=tldr", "task.data=/data", "task.test.source=mine.jsonl"]).task
    assert task.train.source == "/data/tldr_reddit_train.jsonl.gz"
    assert task.test.source == "mine.jsonl"
    assert task.source("rm_train")[1].source == "/data/tldr_comparisons_train.jsonl.gz"
    assert task.source("rm_train")[1].prompt == task.train.prompt
    assert task.source("sft_train") == ("task.train", task.train)
    assert load(["task=tldr"]).task.source("rm_train")[1].source == "trl-lib/tldr-preference"


def test_prompts_leave_room_for_the_response_in_a_small_models_context() -> None:
    assert load(["task=tldr"]).task.prompt_tokens_max == 320 - 53 - 1
    assert load(["task=tldr", "model.scratch.max_positions=200"]).task.prompt_tokens_max == 200 - 53 - 1
    assert load(["task=tldr", "model.scratch.max_positions=2000"]).task.prompt_tokens_max == 512
    assert load(["task=tldr", "model=paper"]).task.prompt_tokens_max == 512


def test_the_gpu_clusters_fill_their_nodes() -> None:
    assert load(["cluster=gpu8"]).cluster.learner.zero_stage == 2
    assert load(["cluster=nodes2x8"]).cluster.address == "auto"


@pytest.mark.parametrize("cluster", ["gpu8", "gpu_shared", "nodes2x8"])
def test_gpu_clusters_take_a_bfloat16_policy(cluster: str) -> None:
    config = load([f"cluster={cluster}", "task=imdb", "model=paper", "model.policy.dtype=bfloat16"])
    assert config.model.policy.dtype == "bfloat16"
