"""Which characters of the decoded text each token is.

Byte-level tokenizers cut inside characters, and decoders of other families drop or add spaces depending on
what stands before. The decoded text of the whole sequence is therefore the reference, and a token ends where
the decoded text of the sequence up to it stops agreeing with the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

Span = tuple[int, int]
Decode = Callable[[Sequence[int]], str]
EncodeWithOffsets = Callable[[str], tuple[Sequence[int], Sequence[Span]]]

REPLACEMENT = "\ufffd"
"""What decoders write for bytes that are no character (yet)."""
MAX_RUN = 16
"""Tokens after which a run that still ends inside a character is taken as it is."""


def token_spans(
    token_ids: Sequence[int], decode: Decode, encode_with_offsets: EncodeWithOffsets | None = None
) -> tuple[str, tuple[Span, ...]]:
    """The decoded text of T tokens and T half-open character ranges that cover it, monotone and contiguous.

    A character made of several tokens belongs to the token that completes it; the tokens before it have empty
    ranges, as have special tokens. `decode` maps ids to text, skips special tokens and cleans up no spaces.
    `encode_with_offsets` maps text to (ids, character ranges) without adding special tokens; it saves time
    where it gives back the same ids, and changes nothing otherwise.

    Example: the tokens "He", "llo", end-of-sequence give ("Hello", ((0, 2), (2, 5), (5, 5))).
    """
    text = decode(token_ids)
    ends = _ends_of_pieces(text, token_ids, decode)
    if ends is None and encode_with_offsets is not None:
        ends = _ends_of_encoding(token_ids, *encode_with_offsets(text))
    if ends is None:
        ends = _ends_of_prefixes(text, token_ids, decode)
    if not ends:
        return text, ()
    ends[-1] = len(text)
    return text, tuple(zip([0, *ends[:-1]], ends, strict=True))


def _ends_of_pieces(text: str, token_ids: Sequence[int], decode: Decode) -> list[int] | None:
    """Token ends from single tokens, or short runs that make whole characters; None if they do not add up."""
    ends: list[int] = []
    end = run_start = 0
    for i in range(len(token_ids)):
        run = token_ids[run_start : i + 1]
        piece = decode(run)
        if REPLACEMENT in piece and len(run) < MAX_RUN:
            continue
        if not text.startswith(piece, end):
            return None
        ends += [end + within for within in _ends_of_prefixes(piece, run, decode)]
        end += len(piece)
        run_start = i + 1
    return ends if len(ends) == len(token_ids) and end == len(text) else None


def _ends_of_encoding(
    token_ids: Sequence[int], encoded_ids: Sequence[int], offsets: Sequence[Span]
) -> list[int] | None:
    """Token ends from a tokenizer's own offsets, or None where those are not the tokens' or not clear."""
    if list(encoded_ids) != list(token_ids):
        return None
    next_starts = [*(start for start, _ in offsets[1:]), offsets[-1][1]] if offsets else []
    ends: list[int] = []
    for (_, end), next_start in zip(offsets, next_starts, strict=True):
        # Tokens of one character all claim it: an earlier one ends where the next one starts. Byte tokens that
        # all claim several characters do not say which of them is whose.
        if end - next_start > 1:
            return None
        ends.append(min(end, next_start))
    return list(accumulate(ends, max))


def _ends_of_prefixes(text: str, token_ids: Sequence[int], decode: Decode) -> list[int]:
    """Token ends from every prefix decoded: how much of it already reads as the whole text does."""
    ends: list[int] = []
    end = 0
    for i in range(len(token_ids)):
        prefix = decode(token_ids[: i + 1])
        if text.startswith(prefix[:end]):
            while end < min(len(prefix), len(text)) and prefix[end] == text[end]:
                end += 1
        ends.append(end)
    return ends
