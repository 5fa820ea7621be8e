"""Checks of models, data, disk and packages on tiny fake folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scar_ray.config import preflight as module
from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.config.model_folder import is_local, read_model_folder
from scar_ray.config.preflight import missing, preflight, preflight_supervised
from scar_ray.config.schema import Config

POLICY = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 128, "vocab_size": 300}
REWARD = {
    "architectures": ["LlamaForSequenceClassification"],
    "max_position_embeddings": 128,
    "vocab_size": 300,
    "id2label": {"0": "bad", "1": "good"},
}
TOKENIZER = {"model": {"vocab": {"a": 0, "b": 298}}, "added_tokens": [{"id": 299}]}


def model_folder(path: Path, config: dict[str, Any], tokenizer: dict[str, Any] = TOKENIZER, size: int = 400) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "model.safetensors").write_bytes(b"\0" * size)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a policy, a reward model and data, in which everything is fine."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "models/imdb/policy", POLICY)
    model_folder(tmp_path / "models/imdb/reward", REWARD)
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text('{"text": "good", "label": 1}\n')
    return tmp_path


def imdb(*overrides: str) -> Config:
    return load(["task=imdb", "task.train.source=train.jsonl", "task.test.source=test.jsonl", *overrides])


def test_nothing_is_missing_where_all_is_there(here: Path) -> None:
    assert missing(imdb()) == []
    preflight(imdb())
    assert (here / "runs").is_dir()


def test_a_ray_job_needs_an_absolute_folder_for_its_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    preflight(imdb(f"runs={here}/runs"))
    with pytest.raises(UserError, match=r"^runs=runs: a Ray job would write into Ray's copy of the code; give an abs"):
        preflight(imdb())


def test_a_cpu_machine_without_the_library_that_vllm_links_to_is_told_its_package(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NUMA", "libnuma.so.404")
    with pytest.raises(UserError, match=r"^libnuma.so.404 is missing, .* apt-get install libnuma1\)$"):
        preflight(imdb())


def test_the_demo_and_hub_names_need_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert missing(load([])) == []
    assert missing(load(["task=imdb", "model=paper"])) == []


def test_models_that_are_not_made_yet_come_with_the_command_that_makes_them(here: Path) -> None:
    shutil.rmtree(here / "models")
    assert missing(imdb()) == [
        "model.policy.path=models/imdb/policy: no such model folder; make it with: scar-ray sft task=imdb model=tiny",
        "model.reward.path=models/imdb/reward: no such model folder; make it with: scar-ray rm task=imdb model=tiny",
    ]


@pytest.mark.usefixtures("here")
def test_a_model_of_the_users_own_that_is_not_there_is_told_without_a_command() -> None:
    assert missing(imdb("model=paper", "model.policy.path=./mine")) == [
        "model.policy.path=./mine: no such model folder"
    ]


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return edit


BROKEN_POLICY: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config.json": (
        lambda folder: (folder / "config.json").unlink(),
        "has no config.json; give a folder that save_pretrained wrote",
    ),
    "an adapter": (
        lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"),
        "is a LoRA adapter without its base model; merge it into the base model first",
    ),
    "cut config.json": (
        lambda folder: (folder / "config.json").write_text('{"architectures": ["Llama'),
        "config.json is damaged: Unterminated string starting at: line 1 column 20 (char 19)",
    ),
    "config.json with a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "config.json is damaged: it holds no JSON object",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has no weights (*.safetensors or pytorch_model*.bin); give a complete model folder",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "has no tokenizer; save the tokenizer into the same folder",
    ),
    "a classifier": (
        edited("config.json", architectures=["LlamaForSequenceClassification"]),
        "LlamaForSequenceClassification is no causal language model; give one that generates text",
    ),
    "a vocabulary that does not fit": (
        edited("config.json", vocab_size=299),
        "the tokenizer's 300 tokens do not fit the model's vocabulary of 299; "
        "use the tokenizer that the model was trained with",
    ),
    "a short context": (
        edited("config.json", max_position_embeddings=31),
        "task.prompt_tokens_max + task.sampling.max_new_tokens = 32 exceeds the model's context of 31 tokens; "
        "lower one of them",
    ),
}


@pytest.mark.parametrize(("damage", "line"), BROKEN_POLICY.values(), ids=BROKEN_POLICY)
def test_a_policy_folder_that_cannot_work_is_one_line(here: Path, damage: Callable[[Path], Any], line: str) -> None:
    damage(here / "models/imdb/policy")
    assert missing(imdb()) == [f"model.policy.path=models/imdb/policy: {line}"]


BROKEN_REWARD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a language model": (
        edited("config.json", architectures=["GPT2LMHeadModel"]),
        "a reward model without a classification head (GPT2LMHeadModel); give a ...ForSequenceClassification model",
    ),
    "a bare model": (
        edited("config.json", architectures=[]),
        "a reward model without a classification head (unknown architecture); "
        "give a ...ForSequenceClassification model",
    ),
    "five stars": (
        edited("config.json", id2label={str(i): str(i) for i in range(5)}),
        "has 5 labels; a reward model has one, or two of which one is wanted",
    ),
    "a short context": (
        edited("config.json", max_position_embeddings=32),
        "prompt and response have up to 33 tokens, the reward model reads 32; lower task.sampling.max_new_tokens",
    ),
}


@pytest.mark.parametrize(("damage", "line"), BROKEN_REWARD.values(), ids=BROKEN_REWARD)
def test_a_reward_folder_that_cannot_work_is_one_line(here: Path, damage: Callable[[Path], Any], line: str) -> None:
    damage(here / "models/imdb/reward")
    assert missing(imdb()) == [f"model.reward.path=models/imdb/reward: {line}"]


@pytest.mark.usefixtures("here")
def test_a_label_that_the_reward_model_does_not_have_is_one_line() -> None:
    assert missing(imdb("model.reward.label=2")) == ["model.reward.label=2: the reward model has 2 labels; use 0 or 1"]


def test_a_reward_model_with_another_tokenizer_is_not_judged_by_the_policys_tokens(here: Path) -> None:
    folder = here / "models/imdb/reward"
    edited("config.json", max_position_embeddings=32)(folder)
    edited("tokenizer.json", added_tokens=[])(folder)
    assert missing(imdb()) == []


def test_the_eos_that_is_not_appended_does_not_count(here: Path) -> None:
    edited("config.json", max_position_embeddings=32)(here / "models/imdb/reward")
    assert missing(imdb("model.reward.append_eos=false")) == []


@pytest.mark.usefixtures("here")
def test_a_data_file_that_is_not_there_is_one_line() -> None:
    assert missing(imdb("task.train.source=reviews.jsonl.gz")) == [
        "task.train.source=reviews.jsonl.gz: no such data file; give a JSONL, CSV or parquet file"
    ]
    assert missing(imdb("task.train.source=''")) == [
        "task.train.source is empty; name a JSONL, CSV or parquet file, or a data set on the hub"
    ]


def test_a_disk_that_is_too_small_for_the_checkpoints_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(here)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=2**26))
    assert missing(imdb()) == [
        "runs=runs: the disk has 0.1 GiB free, the run needs about 0.1 GiB for 2 + 2 checkpoints; "
        "free some space or set runs to another disk"
    ]
    with (here / "models/imdb/policy/model.safetensors").open("wb") as weights:
        weights.truncate(4 * 10**9)  # a billion float32 parameters, sparse on disk; the critic has as many
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=30 * 2**30))
    assert missing(imdb()) == [
        "runs=runs: the disk has 30.0 GiB free, the run needs about 97.0 GiB for 2 + 2 checkpoints; "
        "free some space or set runs to another disk"
    ]


def test_lora_checkpoints_do_not_hold_the_whole_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (here / "models/imdb/policy/model.safetensors").open("wb") as weights:
        weights.truncate(4 * 10**9)
    usage = shutil.disk_usage(here)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=30 * 2**30))
    assert missing(imdb("model.policy.lora.rank=8")) == []


def test_a_file_where_the_run_folders_should_be_is_one_line(here: Path) -> None:
    (here / "taken").write_text("")
    assert missing(imdb("runs=taken/runs")) == [
        f"runs=taken/runs: {here}/taken is a file, not a folder; set runs to a folder"
    ]


@pytest.mark.usefixtures("here")
def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(module.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(UserError) as caught:
        preflight(imdb())
    assert str(caught.value) == "runs=runs: cannot write there (Permission denied); set runs to a folder of yours"


@pytest.mark.usefixtures("here")
def test_a_missing_wandb_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert missing(imdb("trainer.wandb=true")) == [
        "trainer.wandb=true needs the package wandb; install it: pip install 'scar-ray[wandb]'"
    ]


def test_everything_that_is_missing_is_told_at_once(here: Path) -> None:
    shutil.rmtree(here / "models/imdb/policy")
    (here / "train.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        preflight(imdb())
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == [
        "model.policy.path",
        "task.train.source",
    ]


def test_broken_packages_are_told_with_the_command_that_removes_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = here / "packages"
    for name in ("torchvision", "torchcodec"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(packages))
    with pytest.raises(UserError) as caught:
        preflight(imdb())
    assert str(caught.value) == (
        "torchvision, torchcodec: installed but broken, and not needed; remove: pip uninstall -y torchvision torchcodec"
    )


def test_a_package_that_works_is_left_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "packages/torchaudio").mkdir(parents=True)
    (here / "packages/torchaudio/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(here / "packages"))
    preflight(imdb())


def test_supervised_training_from_scratch_needs_both_data_files_and_no_model(here: Path) -> None:
    shutil.rmtree(here / "models")
    preflight_supervised(imdb(), "sft")
    (here / "test.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        preflight_supervised(imdb(), "rm")
    assert str(caught.value) == "task.test.source=test.jsonl: no such data file; give a JSONL, CSV or parquet file"


@pytest.mark.usefixtures("here")
def test_what_ranks_of_a_supervised_training_cannot_share_is_refused() -> None:
    preflight_supervised(imdb("cluster.learner.ranks=4", "cluster.learner.zero_stage=2", "rm.batch=8"), "rm")
    with pytest.raises(UserError) as caught:
        preflight_supervised(imdb("cluster.learner.ranks=4", "cluster.learner.zero_stage=3", "rm.batch=6"), "rm")
    assert str(caught.value).splitlines() == [
        "cluster.learner.zero_stage=3 is for scar-ray train; scar-ray rm keeps the weights whole on every rank, use 2",
        "rm.batch=6 must be a multiple of cluster.learner.ranks=4",
    ]


@pytest.mark.usefixtures("here")
def test_supervised_training_of_a_given_model_needs_its_folder() -> None:
    preflight_supervised(imdb("model.scratch=null"), "rm")
    with pytest.raises(UserError) as caught:
        preflight_supervised(imdb("model.scratch=null", "model.policy.path=./mine"), "sft")
    assert str(caught.value) == "model.policy.path=./mine: no such model folder"


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("gpt2", False),
        ("lvwerra/gpt2-imdb", False),
        ("models/imdb/policy", True),
        ("./gpt2", True),
        ("/data/model", True),
        ("~/model", True),
        ("there/missing", True),
        ("there", True),
    ],
)
def test_local_paths_are_told_from_hub_names(
    path: str, local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert is_local(path) is local


def test_facts_are_read_from_nested_and_older_configurations(tmp_path: Path) -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "n_positions": 1024, "vocab_size": 50257, "torch_dtype": "bfloat16"}
    folder = read_model_folder(model_folder(tmp_path / "gpt2", config, {"model": {"vocab": [["a", -1.0]] * 7}}))
    assert (folder.context, folder.vocab_size, folder.tokenizer_size, folder.n_parameters) == (1024, 50257, 7, 200)
    nested = {"architectures": ["X"], "text_config": {"max_position_embeddings": 64, "vocab_size": 10}}
    folder = read_model_folder(model_folder(tmp_path / "nested", nested, {}))
    assert (folder.context, folder.vocab_size, folder.tokenizer_size, folder.n_parameters) == (64, 10, None, 100)


@pytest.mark.usefixtures("here")
def test_a_reward_function_needs_its_file_and_no_reward_model() -> None:
    assert missing(imdb("model.reward.path=''", "model.reward.function=rules.py:score")) == [
        "model.reward.function=rules.py:score: no such file: rules.py; check the path"
    ]
    Path("rules.py").write_text("")
    assert missing(imdb("model.reward.path=''", "model.reward.function=rules.py:score")) == []


def test_an_evaluation_needs_test_data_unless_there_is_none(here: Path) -> None:
    (here / "test.jsonl").unlink()
    assert missing(imdb()) == [
        "task.test.source=test.jsonl: no such data file; give a JSONL, CSV or parquet file; "
        "without held-out prompts set eval.every=0"
    ]
    assert missing(imdb("eval.every=0")) == []


def test_the_second_reward_model_is_checked_like_the_first(here: Path) -> None:
    assert missing(imdb("eval.gold.path=models/imdb/reward")) == []
    assert missing(imdb("eval.gold.path=./gold")) == ["eval.gold.path=./gold: no such model folder"]
    assert missing(imdb("eval.gold.path=models/imdb/policy")) == [
        "eval.gold.path=models/imdb/policy: a reward model without a classification head (LlamaForCausalLM); "
        "give a ...ForSequenceClassification model"
    ]
    assert missing(imdb("eval.gold.path=models/imdb/reward", "eval.gold.label=2")) == [
        "eval.gold.label=2: the reward model has 2 labels; use 0 or 1"
    ]
