"""Composition: defaults, group files, dotted overrides, a user's own folder, a run's own configuration."""

from pathlib import Path

import pytest

from scar_ray.config.errors import ConfigError
from scar_ray.config.load import config_folder, load, load_resolved
from scar_ray.config.schema import Config, LoraConfig


def one_line(overrides: list[str], folder: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(overrides, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_said_means_the_demo_with_spans_on_cpu() -> None:
    config = load([])
    assert (config.task.name, config.credit.method, config.credit.unit) == ("demo", "scar", "span")
    assert (config.model.policy.path, config.cluster.device) == ("", "cpu")
    assert config.algorithm == load(["algorithm=demo"]).algorithm


def test_a_group_choice_and_dotted_keys_edit_the_tree() -> None:
    config = load(["task=imdb", "credit=abc", "seed=3", "algorithm.kl.coef=0.1"])
    assert (config.task.name, config.credit.method, config.seed, config.algorithm.kl.coef) == (
        "imdb",
        "abc",
        3,
        0.1,
    )


def test_the_task_chooses_its_model_unless_one_is_named() -> None:
    assert load(["task=imdb"]).model.policy.path == "models/imdb/policy"
    assert load(["task=imdb", "model=paper"]).model.policy.path == "lvwerra/gpt2-imdb"
    assert load(["task=demo", "model=tiny"]).model.policy.path == "models/demo/policy"


def test_a_dotted_key_wins_over_the_group_whatever_the_order() -> None:
    assert load(["credit.unit=token", "credit=scar_sentence"]).credit.unit == "token"
    assert load(["credit=scar_sentence", "credit.unit=token"]).credit.unit == "token"


def test_the_last_of_two_overrides_of_a_key_counts() -> None:
    assert load(["seed=1", "seed=2", "credit=abc", "credit=sparse"]) == load(["seed=2", "credit=sparse"])


def test_a_key_of_an_optional_section_switches_the_section_on() -> None:
    lora = load(["model.policy.lora.rank=8"]).model.policy.lora
    assert lora is not None
    assert (lora.rank, lora.alpha) == (8, 32)


def test_an_empty_mapping_switches_an_optional_section_on() -> None:
    assert load(["model.policy.lora={}"]).model.policy.lora == LoraConfig()


def test_an_optional_section_goes_away_with_null() -> None:
    assert load(["task=imdb", "model.scratch=null"]).model.scratch is None


def test_a_mapping_edits_only_the_keys_it_names() -> None:
    config = load(["credit={alpha: 0.5}", "algorithm.kl={coef: 0.3, controller: adaptive}"])
    assert (config.credit.alpha, config.credit.method) == (0.5, "scar")
    assert (config.algorithm.kl.coef, config.algorithm.kl.controller, config.algorithm.kl.target) == (
        0.3,
        "adaptive",
        6.0,
    )


def test_values_keep_their_types() -> None:
    config = load(
        [
            "algorithm.optimizer.lr=1e-4",
            "algorithm.gamma=1",
            "runs=/tmp/some where",
            'name="2024"',
            "trainer.wandb=true",
            "model.policy.lora.target_modules=[q_proj,v_proj]",
            'model.reward.template="Q: {prompt} A: {response}"',
        ]
    )
    assert config.algorithm.optimizer.lr == 1e-4
    assert config.algorithm.gamma == 1.0
    assert config.runs == Path("/tmp/some where")
    assert config.name == "2024"
    assert config.trainer.wandb is True
    assert config.model.policy.lora is not None
    assert config.model.policy.lora.target_modules == ("q_proj", "v_proj")
    assert config.model.reward.template == "Q: {prompt} A: {response}"


def test_an_override_can_refer_to_another_key() -> None:
    assert load(["name=${task.name}-${seed}", "seed=7"]).name == "demo-7"


def test_a_folder_of_ones_own_adds_choices_and_shadows_packaged_ones(tmp_path: Path) -> None:
    folder = tmp_path / "my configs"
    (folder / "credit").mkdir(parents=True)
    (folder / "credit" / "mine.yaml").write_text("method: scar\nunit: token\nalpha: 0.3\n")
    (folder / "credit" / "abc.yaml").write_text("method: abc\nalpha: 0.1\n")
    assert load(["credit=mine"], folder).credit.alpha == 0.3
    assert load(["credit=abc"], folder).credit.alpha == 0.1
    assert load(["credit=uniform"], folder).credit.method == "uniform"
    assert one_line(["credit=mime"], folder).endswith('got "mime"; did you mean mine?')


def test_a_folder_of_ones_own_can_have_new_groups_that_edit_everything(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "long.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /credit: abc\ntrainer:\n  steps: 1000\n"
    )
    config = load(["experiment=long"], tmp_path)
    assert (config.credit.method, config.trainer.steps) == ("abc", 1000)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert one_line([], tmp_path / "no") == (
        f"--config-dir={tmp_path}/no: no such folder; give one with group files such as credit/mine.yaml"
    )


def test_broken_yaml_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text("method: scar\nunit: [token\nalpha: 0.3\n")
    assert one_line(["credit=mine"], tmp_path) == (
        f"{tmp_path}/credit/mine.yaml:3: is not valid YAML: expected ',' or ']', but got ':'"
    )


def test_an_unknown_key_in_a_group_file_is_told_like_one_in_an_override(tmp_path: Path) -> None:
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text("method: scar\nalhpa: 0.3\n")
    assert one_line(["credit=mine"], tmp_path) == "unknown key credit.alhpa; did you mean credit.alpha?"


def test_a_group_file_that_is_a_list_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text("- scar\n")
    assert one_line(["credit=mine"], tmp_path) == (
        'credit: is a section, got ["scar"]; set its keys, such as credit.method'
    )


def test_a_value_that_must_be_given_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("policy:\n  path: ???\n")
    assert "model.policy.path" in one_line(["model=mine"], tmp_path)
    assert load(["model=mine", "model.policy.path=x"], tmp_path).model.policy.path == "x"


def test_the_configuration_of_a_run_comes_back_and_its_trainer_can_change(tmp_path: Path) -> None:
    config = load(["credit=abc", "model.policy.lora.rank=8", "name=first"])
    file = tmp_path / "config.json"
    file.write_text(config.model_dump_json())
    assert load_resolved(file) == config
    assert load_resolved(file, ["trainer.steps=500"]) == config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"steps": 500})}
    )


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=4", "seed: cannot change when a run is resumed; leave it out or start a new run"),
        (
            "task.sampling.temperature=0.5",
            "task.sampling.temperature: cannot change when a run is resumed; leave it out or start a new run",
        ),
        (
            "credit=abc",
            "credit: a run that is there already takes single keys only, such as credit.KEY=VALUE or trainer.steps=300",
        ),
        ("trainer.stepz=3", "unknown key trainer.stepz; did you mean trainer.steps?"),
        ("trainer.steps=0", "trainer.steps: must be a whole number of at least 1, got 0"),
    ],
)
def test_overrides_of_a_resumed_run_are_checked(tmp_path: Path, override: str, line: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(Config().model_dump_json())
    with pytest.raises(ConfigError) as caught:
        load_resolved(file, [override])
    assert str(caught.value) == line


def test_a_damaged_run_configuration_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(Config().model_dump_json()[:100])
    with pytest.raises(ConfigError, match=r"^\S+config\.json: is not the configuration of a run \(.*\)$"):
        load_resolved(file)


def test_the_packaged_groups_are_found() -> None:
    assert (config_folder() / "config.yaml").is_file()


def test_a_reward_function_takes_options_of_any_name() -> None:
    config = load(
        [
            "model.reward.function=my_rewards:score",
            "model.reward.options.url=http://localhost:8000/score",
            "model.reward.options.weights={good: 1.5, bad: -2}",
        ]
    )
    assert config.model.reward.options == {"url": "http://localhost:8000/score", "weights": {"good": 1.5, "bad": -2}}
