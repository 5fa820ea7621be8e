"""Reward models in folders, responses of real tokenizers and the scores that Transformers itself gives, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tiny_models
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from scar_ray.config.cluster import EngineName
from scar_ray.config.schema import RewardModelConfig
from scar_ray.games import choose, prefixes
from scar_ray.records import CreditPlan, Prompt, Response, Units
from scar_ray.scoring import RewardModel
from scar_ray.text.offsets import token_spans
from scar_ray.text.units import segment

EOS = 0
"""Id of the end of a text in the tokenizers of `tiny_models`."""
PROMPTS = ("The film is", "I must say that the story", "A very good cast but")
REPLIES = (" not a good film at all.", " dull, and the ending is bad. I liked the music!", " great")


def respond(
    tok: PreTrainedTokenizerFast,
    text: str,
    prompt: str = PROMPTS[0],
    *,
    finished: bool = True,
    row: int = 0,
    cut: int | None = None,
) -> Response:
    """The response `text` in the policy's tokens, or the first `cut` of them."""
    content = tuple(tok(text, add_special_tokens=False)["input_ids"][:cut])
    text, spans = token_spans(content, lambda ids: tok.decode(list(ids), skip_special_tokens=True))
    eos = (tok.eos_token_id,) if finished else ()
    return Response(
        row=row,
        prompt=Prompt(row, tuple(tok(prompt)["input_ids"]), prompt),
        sample=0,
        token_ids=content + eos,
        text=text,
        token_spans=(*spans, *((len(text), len(text)) for _ in eos)),
        finished=finished,
        logprobs_T=np.zeros(len(content) + len(eos), np.float32),
        policy_version=0,
        engine="rollout-0",
    )


def replies(tok: PreTrainedTokenizerFast) -> list[Response]:
    """Nine responses of different lengths, every third one cut off before its EOS."""
    pairs = [(prompt, reply) for prompt in PROMPTS for reply in REPLIES]
    return [respond(tok, reply, prompt, finished=row % 3 != 2, row=row) for row, (prompt, reply) in enumerate(pairs)]


def every_prefix(response: Response) -> CreditPlan:
    """Token units and the coalitions of the first 0, 1, .. n of them."""
    units = segment(response, "token", 64)
    return CreditPlan(units, prefixes(len(units)) if len(units) else None)


def shapley(response: Response) -> CreditPlan:
    """Three units of tokens and all their coalitions."""
    n = response.n_content
    units = Units((n // 3, 2 * n // 3, n), (0, 1, 2))
    return CreditPlan(units, choose(units.tree, "shapley", 8))


def folder(kind: str, tok: PreTrainedTokenizerFast, path: Path, labels: int = 1, **config: Any) -> Path:
    """A reward model of that kind and its tokenizer; `config` changes its configuration after it is made."""
    model = tiny_models.new_model(kind, tok, labels=labels)
    for key, value in config.items():
        setattr(model.config, key, value)
    return tiny_models.save(model, tok, path)


def reward_model(
    path: Path,
    policy: Path,
    batch_tokens: int = 4096,
    attention: bool = False,
    engine: EngineName = "auto",
    **config: Any,
) -> RewardModel:
    return RewardModel(
        RewardModelConfig.model_validate({"path": str(path), **config}),
        policy_tokenizer=str(policy),
        batch_tokens=batch_tokens,
        attention=attention,
        engine=engine,
    )


@torch.no_grad()
def plain_logits(path: Path, ids: list[int]) -> list[float]:
    """Transformers' own forward pass on one sequence without any padding."""
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    return model(input_ids=torch.tensor([ids])).logits[0].double().tolist()


@torch.no_grad()
def plain_attention(path: Path, ids: list[int], position: int) -> np.ndarray:
    """Transformers' own attention of a position on all of the sequence: last layer, mean over the heads."""
    model = AutoModelForSequenceClassification.from_pretrained(path, attn_implementation="eager").eval()
    layers = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
    assert len(layers) == tiny_models.LAYERS
    return layers[-1][0, :, position].double().mean(0).numpy()


def word_piece(vocabulary: int = 600) -> PreTrainedTokenizerFast:
    """BERT's kind of tokenizer: lower case, word pieces, [CLS] before and [SEP] after every text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    from scar_ray.tasks.grammar import reviews

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=marks, show_progress=False)
    tokenizer.train_from_iterator([review.text for review in reviews(0, 500)], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(path)


def folders(models: dict[str, Path], tok: PreTrainedTokenizerFast, root: Path) -> dict[str, Path]:
    """Reward models by name: what they are, and what may go wrong with their padding and tokenizers."""
    pieces = word_piece()
    other = tiny_models.tokenizer(vocab_size=320, seed=1)
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    roberta = RobertaConfig(vocab_size=len(pieces), pad_token_id=0, max_position_embeddings=40, num_labels=1, **small)
    deberta = DebertaV2Config(vocab_size=len(pieces), pad_token_id=0, num_labels=1, **small)
    return {
        "llama": models["llama_reward"],
        "gpt2": models["gpt2_reward"],
        "gpt2_pad_is_eos": folder("gpt2_reward", tok, root / "pad_is_eos", 2, pad_token_id=EOS),
        "gpt2_no_pad": folder("gpt2_reward", tok, root / "no_pad", 2, pad_token_id=None),
        "bert": folder("bert_reward", pieces, root / "bert"),
        "roberta": tiny_models.save(RobertaForSequenceClassification(roberta), pieces, root / "roberta"),
        "deberta": tiny_models.save(DebertaV2ForSequenceClassification(deberta), pieces, root / "deberta"),
        "llama_other": folder("llama_reward", other, root / "other"),
    }


def ids_of(response: Response, *, eos: bool = True) -> list[int]:
    """The plain sequence of models that share the policy's tokenizer."""
    content = response.token_ids[: response.n_content]
    return [*response.prompt.token_ids, *content, *([EOS] if eos else [])]
