"""Exit codes, and the one exception that every command ends with when it cannot do what was asked.

The codes are part of the public surface (docs/cli.md): a script must be able to tell "no" from "wrong
use" and both from "the cluster did not answer".
"""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Exit codes of every command."""

    YES = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3


class CliError(Exception):
    """What went wrong, in words; ``hint`` is what would fix it, and ``code`` how the process ends."""

    def __init__(self, message: str, *, code: Exit, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
