"""Retrieval by an embedding model: cosine of mean-pooled hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from scar_ray.tasks.catalogue import Catalogue


class Dense:
    """A model of Transformers without its head; the whole catalogue is embedded once.

    `model` is its folder or its name on the hub. Some models want a word before each text (E5: `query_prefix="query: "
    product_prefix="passage: "`).
    """

    waits = False

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        model: str = "",
        query_prefix: str = "",
        product_prefix: str = "",
        max_length: int = 128,
        batch: int = 64,
    ) -> None:
        """ValueError where the model cannot be had. Texts are cut at `max_length` tokens."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        key = "model.reward.options.retriever_options.model"
        if not model:
            raise ValueError(f"{key} is empty; name the embedding model, a folder or a name on the hub")
        try:
            self._tokenizer, self._model = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise ValueError(f"{key}={model}: cannot be loaded ({' '.join(str(error).split())[:200]})") from None
        self._model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._prefix, self._max_length, self._batch = query_prefix, max_length, batch
        self._products_PE = self._embedded([product_prefix + text for text in catalogue.texts])

    def search(self, queries: Sequence[str], k: int) -> list[NDArray[np.intp]]:
        """Rows of the k products with the largest cosine to each query; equal ones by row."""
        scores_QP = self._embedded([self._prefix + query for query in queries]) @ self._products_PE.T
        return [np.argsort(-scores_P, kind="stable")[:k] for scores_P in scores_QP]

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, E) vectors of length 1; each text is computed by itself but for its padding."""
        import torch

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows_E: list[NDArray[np.float32] | None] = [None] * len(texts)
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            inputs = self._tokenizer(
                [texts[i] for i in chosen],
                padding=True,
                truncation=True,
                max_length=self._max_length,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.no_grad():
                vectors_BE = mean_pooled(self._model(**inputs).last_hidden_state, inputs["attention_mask"])
            for i, vector_E in zip(chosen, vectors_BE.float().cpu().numpy(), strict=True):
                rows_E[i] = vector_E
        return np.stack([row_E for row_E in rows_E if row_E is not None])


def mean_pooled(hidden_BTE: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean of the hidden states of the tokens that are no padding, scaled to length 1."""
    from torch.nn import functional as F

    weights_BT1 = mask_BT[:, :, None].to(hidden_BTE.dtype)
    return F.normalize((hidden_BTE * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1.0), dim=-1)
