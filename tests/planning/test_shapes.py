"""Parameters and FLOPs of known models, and of models built from their own config.json."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from scar_ray.config.errors import UserError
from scar_ray.planning.shapes import SHAPES, model_shape


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("1B", 1_235_814_400),
        ("3B", 3_212_749_824),
        ("7B", 6_738_415_616),
        ("8B", 8_030_261_248),
        ("13B", 13_015_864_320),
        ("70B", 70_553_706_496),
    ],
)
def test_the_table_has_the_parameters_that_the_models_are_known_to_have(name: str, parameters: int) -> None:
    assert SHAPES[name].parameters == parameters


@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_has_the_parameters_of_the_model_built_from_it(tied: bool, tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=160,
        vocab_size=500,
        tie_word_embeddings=tied,
    )
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = model_shape("--policy", str(tmp_path))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.name, shape.cached_values) == (tmp_path.name, 2 * 3 * 2 * 32)


def test_gpt2_has_two_feed_forward_matrices_and_a_tied_output(tmp_path: Path) -> None:
    GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=100).save_pretrained(tmp_path)
    shape = model_shape("--policy", str(tmp_path / "config.json"))
    assert (shape.layer_parameters, shape.tied, shape.kv_heads) == (12 * 64 * 64, True, 4)


def test_flops_of_a_token_are_two_for_each_parameter_of_a_matrix() -> None:
    shape = SHAPES["7B"]
    assert shape.token_flops == 2 * 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    assert shape.output_flops == 2 * 4096 * 32_000
    # Scores and weighted values: two FLOPs each for every number of every key.
    assert shape.attention_flops(500) == 4 * 32 * 4096 * 500
    assert shape.scalar().output_flops == 0
    assert shape.scalar().parameters == shape.parameters - 4096 * 32_000


def test_adapters_of_rank_one_have_the_sides_of_every_matrix() -> None:
    sides = 4 * (4096 + 4096) + 3 * (4096 + 11_008)
    assert SHAPES["7B"].lora_parameters(1) == 32 * sides


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "does not describe a transformer: Expecting"),
        ("[]", "does not describe a transformer"),
        ('{"hidden_size": 64}', "no whole number under num_hidden_layers or n_layer"),
        ('{"hidden_size": "64", "num_hidden_layers": 2}', "no whole number under hidden_size or n_embd or d_model"),
    ],
)
def test_a_damaged_config_is_named_with_its_fault(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=reason) as error:
        model_shape("--policy", str(tmp_path))
    assert str(error.value).startswith(f"--policy={tmp_path}: config.json")
    assert "\n" not in str(error.value)
