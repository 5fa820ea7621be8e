import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.config.schema import ArchitectureConfig, TaskConfig
from scar_ray.tasks.fitting import fit_prompts
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.scratch import train_tokenizer

TOKENIZER = train_tokenizer((review.text for review in reviews(0, 300)), ArchitectureConfig(vocab_size=400))


def n_tokens(text: str) -> int:
    return len(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def post(body: str) -> str:
    return f"SUBREDDIT: r/film\n\nTITLE: A film\n\nPOST: {body}\n\nTL;DR:"


def limited(name: str, tokens: int) -> TaskConfig:
    return TaskConfig(name=name, prompt_tokens_max=tokens)


def test_a_long_post_loses_its_last_paragraphs() -> None:
    texts = [post("The plot was good.\n\nThe cast was bad.\nThe end was dull."), post("Fine.")]
    fitted = fit_prompts(limited("tldr", n_tokens(texts[0]) - 1), TOKENIZER, texts)
    assert [prompt.text for prompt in fitted.prompts] == [post("The plot was good.\n\nThe cast was bad."), texts[1]]
    assert (fitted.shortened, fitted.dropped) == (1, 0)
    assert fitted.told() == "2 prompts, 1 posts shortened"


def test_a_first_paragraph_that_is_too_long_loses_words() -> None:
    whole = post("The plot was really very good and the cast was bad.\n\nMore.")
    limit = n_tokens(post("The plot was really very good and"))
    [prompt] = fit_prompts(limited("tldr", limit), TOKENIZER, [whole]).prompts
    assert prompt.text == post("The plot was really very good and")
    assert prompt.token_ids == tuple(TOKENIZER(prompt.text)["input_ids"])


def test_a_long_dialogue_is_left_out_and_counted() -> None:
    texts = ["\n\nHuman: Why?\n\nAssistant:", "\n\nHuman: Why is the film good?\n\nAssistant:"]
    fitted = fit_prompts(limited("hh", n_tokens(texts[0])), TOKENIZER, texts)
    assert [(prompt.row, prompt.text) for prompt in fitted.prompts] == [(0, texts[0])]
    assert fitted.told() == "1 prompts, 1 too long and left out"


def test_prompts_that_fit_stay_and_nothing_is_told() -> None:
    fitted = fit_prompts(limited("tldr", 500), TOKENIZER, [post("Fine.")])
    assert (fitted.prompts[0].text, fitted.told()) == (post("Fine."), "")


def test_a_prompt_without_a_post_cannot_be_shortened() -> None:
    assert fit_prompts(limited("tldr", 20), TOKENIZER, ["The film was good. " * 20]).dropped == 1


WORDS = st.lists(st.sampled_from(["The", "plot", "was", "good", "é", "\n", "\n\n", "very"]), min_size=1, max_size=60)


@given(WORDS, st.integers(30, 120))
def test_what_is_kept_fits_and_begins_as_the_whole_prompt_does(words: list[str], limit: int) -> None:
    whole = post(" ".join(words))
    fitted = fit_prompts(limited("tldr", limit), TOKENIZER, [whole])
    assert len(fitted.prompts) + fitted.dropped == 1
    for prompt in fitted.prompts:
        body = prompt.text.removesuffix("\n\nTL;DR:")
        assert whole.startswith(body)
        assert len(prompt.token_ids) <= limit
        assert prompt.token_ids == tuple(TOKENIZER(prompt.text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", ["tldr", "hh"])
def test_no_texts_make_no_prompts(name: str) -> None:
    assert fit_prompts(limited(name, 10), TOKENIZER, []).prompts == []
