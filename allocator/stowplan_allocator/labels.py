"""Labels, taints and what jobs say about them, as core/v1 has them."""

from __future__ import annotations

import enum
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


# All expressions of a term must hold; of several terms one (requiredDuringScheduling in core/v1).
AffinityTerm = tuple[LabelExpression, ...]
