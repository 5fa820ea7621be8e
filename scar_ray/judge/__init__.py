"""Responses of policies to the same prompts: their files, and which of two a language model prefers."""
