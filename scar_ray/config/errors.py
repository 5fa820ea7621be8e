"""The user's mistakes: each is one clear line, shown without a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user can put right: a file, a model, a cluster. The message is one line."""


class ConfigError(UserError):
    """A configuration that breaks a rule; one line for each rule, all of them at once.

    Example: `credit.alpha: must be a number from 0 to 1, got -1`.
    """

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines: tuple[str, ...] = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))
