"""spec.failurePolicy.rules: what the user wants done after which failure. Pure; the first rule that matches wins."""

from __future__ import annotations

from collections.abc import Sequence

from stowplan_operator import api


def first_match(
    rules: Sequence[api.FailureRule], *, reason: str, exit_code: int | None, signal: int
) -> tuple[api.FailureRule, str] | None:
    """The rule that decides, and its name for people; None where no rule speaks of this failure.

    Of each list that a rule gives one entry must match. A failure without an exit code matches no exit codes.
    """
    for index, rule in enumerate(rules):
        if (
            (not rule.reasons or reason in rule.reasons)
            and (
                not rule.exit_codes
                or (exit_code is not None and any(_holds(one, exit_code) for one in rule.exit_codes))
            )
            and (not rule.signals or signal in rule.signals)
        ):
            return rule, f"spec.failurePolicy.rules[{index}]" + (f" ({rule.name})" if rule.name else "")
    return None


def _holds(entry: int | str, exit_code: int) -> bool:
    """Whether ``64`` or ``"64-78"`` holds the exit code."""
    first, _, last = str(entry).partition("-")
    return int(first) <= exit_code <= int(last or first)
