"""What a policy reads for a request, and the response that comes of what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scar_ray.records import Request, Response
from scar_ray.text.offsets import token_spans


@dataclass(frozen=True, slots=True)
class Writing:
    """Requests and responses in a policy's tokens."""

    tokenizer: Any
    """The policy's, of Transformers."""
    infill: str = ""
    """`PolicyConfig.infill`, for requests with tokens that follow a gap."""

    def read(self, request: Request) -> list[int]:
        """What the policy goes on from: prompt and kept tokens, or the text that asks for what fills a gap."""
        if not request.after:
            return [*request.prompt.token_ids, *request.kept]
        assert self.infill, "only beginnings can be completed without model.policy.infill"
        before, after = self._decode(request.kept), self._decode(request.after)
        text = self.infill.format(prompt=request.prompt.text, before=before, after=after)
        return list(self.tokenizer(text, verbose=False)["input_ids"])

    def response(
        self,
        request: Request,
        written: Sequence[int],
        logprobs: Sequence[float],
        *,
        ended: bool,
        policy_version: int,
        engine: str,
    ) -> Response:
        """The response with what the policy wrote, `ended` by an EOS; one that ends a gap's filling is left out."""
        if request.after and ended:
            written, logprobs = written[:-1], logprobs[:-1]
        token_ids = (*request.kept, *written, *request.after)
        finished = token_ids[-1] == self.tokenizer.eos_token_id if request.after else ended
        content = token_ids[: len(token_ids) - int(finished)]
        text, spans = token_spans(content, self._decode)
        if finished:
            spans = (*spans, (len(text), len(text)))
        unknown = [[np.nan] * len(given) for given in (request.kept, request.after)]
        return Response(
            row=request.row,
            prompt=request.prompt,
            sample=request.sample,
            token_ids=token_ids,
            text=text,
            token_spans=tuple(spans),
            finished=finished,
            logprobs_T=np.array([*unknown[0], *logprobs, *unknown[1]], np.float32),
            policy_version=policy_version,
            engine=engine,
            kept=len(request.kept),
        )

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
