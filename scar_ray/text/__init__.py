"""Text as players: character ranges of tokens, units of a response, and mapping between tokenizers.

`offsets.token_spans` finds the characters of every token, `units.segment` the tokens, phrases or sentences
that share a reward, `alignment.overlap_shares` moves weights from one tokenizer's tokens to another's.
"""
