"""Text as players: character ranges of tokens, units of a response, and mapping between tokenizers.

`offsets.token_spans` finds the characters of every token. `parse.parse` gives the words, sentences and paragraphs of a
text and their constituency tree, from a parser or from `heuristic.heuristic_tree`; `units.segment` cuts that tree into
the tokens, words, phrases, sentences or paragraphs that share a reward. `alignment` maps weights and units from one
tokenizer's tokens to another's by their characters.
"""
