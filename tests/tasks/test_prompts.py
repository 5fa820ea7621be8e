import json
from pathlib import Path

import pytest

from scar_ray.config.schema import ArchitectureConfig, Config
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.prompts import load_prompts
from scar_ray.tasks.scratch import train_tokenizer

TOKENIZER = train_tokenizer((r.text for r in reviews(0, 300)), ArchitectureConfig(vocab_size=400))
TEXTS = [f"{r.text} {r.text}" for r in reviews(7, 40)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def config_of(folder: Path, texts: list[str], prompts: int = 8, **task: object) -> Config:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Config.model_validate(
        {
            "task": {"name": "imdb", "train": {"source": str(path)}, "min_chars": 20, **task},
            "model": {"policy": {"path": "p"}, "reward": {"path": "r"}},
            "algorithm": {"batch": {"prompts": prompts, "minibatch": prompts}},
        }
    )


def test_prompts_are_the_first_4_to_8_tokens_of_the_texts(tmp_path: Path) -> None:
    prompts = load_prompts(config_of(tmp_path, TEXTS), TOKENIZER)
    assert [prompt.index for prompt in prompts] == list(range(40))
    assert {len(prompt.token_ids) for prompt in prompts} == {4, 5, 6, 7, 8}
    for prompt, text in zip(prompts, TEXTS, strict=True):
        assert tuple(TOKENIZER.encode(text)[: len(prompt.token_ids)]) == prompt.token_ids
        assert text.startswith(prompt.text)


def test_prompts_depend_on_the_seed_only(tmp_path: Path) -> None:
    config = config_of(tmp_path, TEXTS)
    assert load_prompts(config, TOKENIZER) == load_prompts(config, TOKENIZER)
    other = load_prompts(config.model_copy(update={"seed": 1}), TOKENIZER)
    assert [p.token_ids for p in other] != [p.token_ids for p in load_prompts(config, TOKENIZER)]


def test_short_texts_give_no_prompt_and_indices_stay_contiguous(tmp_path: Path) -> None:
    prompts = load_prompts(config_of(tmp_path, ["Short.", *TEXTS[:8], "Short."]), TOKENIZER)
    assert [prompt.index for prompt in prompts] == list(range(8))
    assert TEXTS[0].startswith(prompts[0].text)


def test_a_cut_through_a_character_gives_no_prompt(tmp_path: Path) -> None:
    texts = ["\U0001f600" * 30, *TEXTS[:8]]
    task = {"prompt_tokens_min": 5, "prompt_tokens_max": 5}
    prompts = load_prompts(config_of(tmp_path, texts, **task), TOKENIZER)
    assert len(prompts) == 8


def test_a_bos_comes_first_where_the_tokenizer_adds_one(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(TEXTS, ArchitectureConfig(vocab_size=300))
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    prompts = load_prompts(config_of(tmp_path, TEXTS), tokenizer)
    assert all(p.token_ids[0] == bos and 5 <= len(p.token_ids) <= 9 for p in prompts)
    assert TEXTS[0].startswith(prompts[0].text)


@pytest.mark.parametrize("texts", [["Short."], TEXTS[:7]])
def test_fewer_prompts_than_a_batch_needs_is_an_error(tmp_path: Path, texts: list[str]) -> None:
    kept = 0 if len(texts) == 1 else 7
    rule = rf"task.train: {len(texts)} texts give {kept} prompts of 4-8 tokens from texts of at least 20 characters"
    with pytest.raises(ValueError, match=rule) as raised:
        load_prompts(config_of(tmp_path, texts), TOKENIZER)
    assert "\n" not in str(raised.value)


def test_the_demo_starts_from_its_own_reviews() -> None:
    config = Config.model_validate({"task": {"prompt_tokens_min": 2, "prompt_tokens_max": 4, "train": {"limit": 100}}})
    prompts = load_prompts(config, TOKENIZER)
    assert len(prompts) == 100
    assert {len(prompt.token_ids) for prompt in prompts} == {2, 3, 4}
