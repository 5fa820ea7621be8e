"""Words and marks in the place of tokens, for rewards that read text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"\w+|[^\w\s]")


class Words:
    """Cuts texts as a fast tokenizer of Transformers does, into words and single marks; their ids mean nothing."""

    is_fast = True
    eos_token_id = None
    eos_token = ""

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = False,
        return_offsets_mapping: bool = True,
        verbose: bool = False,
    ) -> dict[str, Any]:
        """Ids, all zero, and character ranges of the words, of one text or of several; the options change nothing."""
        del add_special_tokens, return_offsets_mapping, verbose
        if isinstance(text, str):
            spans: Any = [word.span() for word in _WORD.finditer(text)]
            ids: Any = [0] * len(spans)
        else:
            spans = [self(one)["offset_mapping"] for one in text]
            ids = [[0] * len(own) for own in spans]
        return {"input_ids": ids, "offset_mapping": spans}
