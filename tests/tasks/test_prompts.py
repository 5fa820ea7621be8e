import json
from pathlib import Path

import pytest

from scar_ray.config.errors import UserError
from scar_ray.config.schema import ArchitectureConfig, Config
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.prompts import load_held_out, load_prompts
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


def with_test_data(folder: Path, **settings: object) -> Config:
    """Training texts and other, held-out ones."""
    config = config_of(folder, TEXTS[:8])
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[8:]))
    task = config.task.model_copy(update={"test": config.task.test.model_copy(update={"source": str(path)})})
    return config.model_copy(update={"task": task, "eval": config.eval.model_copy(update=settings)})


def test_held_out_prompts_come_from_the_test_texts_whatever_the_runs_seed(tmp_path: Path) -> None:
    config = with_test_data(tmp_path, prompts=10)
    held_out = load_held_out(config, TOKENIZER)
    assert len(held_out) == len({prompt.index for prompt in held_out}) == 10
    assert [prompt.index for prompt in held_out] == sorted(prompt.index for prompt in held_out)
    assert all(TEXTS[8 + prompt.index].startswith(prompt.text) for prompt in held_out)
    assert max(prompt.index for prompt in held_out) > 10, "drawn from all of them, not the first ones"
    assert load_held_out(config.model_copy(update={"seed": 7}), TOKENIZER) == held_out
    assert load_held_out(with_test_data(tmp_path, prompts=10, seed=1), TOKENIZER) != held_out


def test_fewer_held_out_prompts_than_asked_for_are_all_used(tmp_path: Path) -> None:
    assert len(load_held_out(with_test_data(tmp_path, prompts=1000), TOKENIZER)) == len(TEXTS) - 8


def test_no_held_out_prompt_at_all_is_one_clear_line(tmp_path: Path) -> None:
    config = with_test_data(tmp_path)
    config = config.model_copy(update={"task": config.task.model_copy(update={"min_chars": 10_000})})
    with pytest.raises(UserError) as caught:
        load_held_out(config, TOKENIZER)
    assert str(caught.value) == (
        "task.test: 32 texts give 0 prompts of 4-8 tokens from texts of at least 10000 characters; "
        "1 at least is needed: lower task.min_chars or set eval.every=0"
    )
