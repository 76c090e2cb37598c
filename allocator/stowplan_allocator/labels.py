"""Labels, taints and what jobs say about them, as core/v1 has them."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass


class TaintEffect(enum.Enum):
    """Effects of a node's taint that keep a new pod away."""

    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint, as in core/v1."""

    key: str
    effect: TaintEffect
    value: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod's toleration, as in core/v1: empty key with ``Exists`` tolerates all, ``effect`` None every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: TaintEffect | None = None

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration matches the taint (core/v1 semantics)."""
        if self.effect is not None and self.effect is not taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return bool(self.key) and self.value == taint.value


class LabelOperator(enum.StrEnum):
    """Operators of a node affinity expression, as in core/v1."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


@dataclass(frozen=True, slots=True)
class LabelExpression:
    """One expression of a node affinity term, as in core/v1."""

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels satisfies the expression; without the label only the negations do."""
        value = labels.get(self.key)
        if self.operator is LabelOperator.IN:
            return value is not None and value in self.values
        if self.operator is LabelOperator.NOT_IN:
            return value not in self.values
        if self.operator is LabelOperator.EXISTS:
            return value is not None
        if self.operator is LabelOperator.DOES_NOT_EXIST:
            return value is None
        have, [limit] = integer_of(value or ""), (integer_of(one) for one in self.values)
        if have is None or limit is None:
            return False
        return have > limit if self.operator is LabelOperator.GT else have < limit

    def __str__(self) -> str:
        """Short enough for a message: ``gen Gt 3``, ``pool In a|b``, ``gpu Exists``."""
        return " ".join(part for part in (self.key, self.operator.value, "|".join(self.values)) if part)


def integer_of(text: str) -> int | None:
    """The integer that a label's text is for ``Gt`` and ``Lt``, None for any other text."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


# All expressions of a term must hold; of several terms one (requiredDuringScheduling in core/v1).
AffinityTerm = tuple[LabelExpression, ...]
