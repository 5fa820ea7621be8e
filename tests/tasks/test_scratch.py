import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from scar_ray.config.schema import ArchitectureConfig
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.scratch import new_policy, new_reward_model, train_tokenizer

SMALL = ArchitectureConfig(vocab_size=400, hidden_size=32, layers=1, heads=1, intermediate_size=32, max_positions=64)
TOKENIZER = train_tokenizer((review.text for review in reviews(0, 300)), SMALL)


@given(st.text())
def test_decoding_gives_back_any_text(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_the_tokenizer_survives_a_folder(tmp_path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "  Don't , é😀\n\nthe plot ."
    assert loaded(text).input_ids == TOKENIZER(text).input_ids
    assert loaded.decode(loaded(text).input_ids) == text
    assert (loaded.eos_token, loaded.pad_token, loaded.bos_token) == ("<eos>", "<pad>", None)


def test_special_tokens_are_distinct_and_none_is_added() -> None:
    assert TOKENIZER.eos_token_id != TOKENIZER.pad_token_id
    assert len(TOKENIZER) == 400
    assert TOKENIZER.decode(TOKENIZER("The")["input_ids"][:1])[0] == "T"
    assert not set(TOKENIZER("The plot was good.")["input_ids"]) & set(TOKENIZER.all_special_ids)


@pytest.mark.parametrize("tied", [True, False])
def test_a_policy_has_the_architecture_asked_for_and_loads_again(tmp_path, tied: bool) -> None:
    policy = new_policy(SMALL.model_copy(update={"tie_embeddings": tied}), TOKENIZER)
    policy.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = loaded.config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (400, 32, 1)
    assert (config.eos_token_id, config.pad_token_id) == (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id)
    shared = loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    assert shared is tied


def test_a_reward_model_reads_at_the_last_token_that_is_not_padding() -> None:
    torch.manual_seed(0)
    model = new_reward_model(SMALL, TOKENIZER).eval()
    eos, pad = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
    ids = torch.tensor([[300, 301, eos], [302, eos, pad]])
    with torch.no_grad():
        together = model(input_ids=ids, attention_mask=(ids != pad).long()).logits
        alone = model(input_ids=torch.tensor([[302, eos]])).logits
    assert together.shape == (2, 1)
    torch.testing.assert_close(together[1], alone[0])
