"""What NVIDIA's XID codes are, and what each means for the node and for the gang on the GPU. A table, and no more.

Names and actions follow NVIDIA's XID catalogue (docs.nvidia.com/deploy/xid-errors). A code that is not in the table
is only recorded: new drivers bring new codes, and a guess would cost a restart.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple


class Action(enum.StrEnum):
    """What an XID asks for."""

    RESTART_APP = "RestartApp"
    """The gang on that GPU starts again, charged to its user; the node stays in use."""
    RESET_GPU = "ResetGpu"
    """No new pod on the node; the gang on that GPU saves and starts again elsewhere, not charged."""
    RESTART_NODE = "RestartNode"
    """No new pod on the node; the GPU is gone, so the gang starts again elsewhere without time to save, not charged."""
    EXCLUDE = "Exclude"
    """No new pod on the node until the code is cleared; gangs on it go on for as long as they can."""
    RECORD = "Record"
    """Nothing but to remember it."""

    @property
    def excludes(self) -> bool:
        """Whether the node gets no new pod."""
        return self in (Action.RESET_GPU, Action.RESTART_NODE, Action.EXCLUDE)


class Xid(NamedTuple):
    """One code's action, and its name in few words."""

    action: Action
    name: str


TABLE: Mapping[int, Xid] = {
    8: Xid(Action.RESTART_APP, "GPU stopped processing"),
    13: Xid(Action.RESTART_APP, "graphics engine exception"),
    31: Xid(Action.RESTART_APP, "GPU memory page fault"),
    32: Xid(Action.RESTART_APP, "invalid or corrupted push buffer stream"),
    43: Xid(Action.RECORD, "GPU stopped processing, application fault"),
    44: Xid(Action.RECORD, "graphics engine fault during context switch"),
    46: Xid(Action.RESET_GPU, "GPU stopped processing"),
    48: Xid(Action.EXCLUDE, "double-bit ECC error"),
    62: Xid(Action.RESET_GPU, "internal micro-controller halt"),
    63: Xid(Action.RECORD, "ECC page retirement or row remapping"),
    64: Xid(Action.RESET_GPU, "ECC page retirement or row remapping failed"),
    68: Xid(Action.RESTART_APP, "video decoder exception"),
    69: Xid(Action.RESTART_APP, "graphics engine class error"),
    74: Xid(Action.EXCLUDE, "NVLink error"),
    79: Xid(Action.RESTART_NODE, "GPU has fallen off the bus"),
    92: Xid(Action.RECORD, "high single-bit ECC error rate"),
    94: Xid(Action.RESTART_APP, "contained ECC error"),
    95: Xid(Action.RESET_GPU, "uncontained ECC error"),
    109: Xid(Action.RESET_GPU, "context switch timeout"),
    110: Xid(Action.RESET_GPU, "security fault"),
    119: Xid(Action.RESET_GPU, "GSP RPC timeout"),
    120: Xid(Action.RESET_GPU, "GSP error"),
    121: Xid(Action.RECORD, "C2C NVLink error, corrected"),
    136: Xid(Action.RESET_GPU, "NVLink training failed"),
    137: Xid(Action.RECORD, "NVLink access fault of a remote GPU"),
    140: Xid(Action.RESET_GPU, "unrecovered ECC error"),
    143: Xid(Action.RESET_GPU, "GPU initialization error"),
    144: Xid(Action.EXCLUDE, "NVLink SAW error"),
    145: Xid(Action.EXCLUDE, "NVLink RLW error"),
    146: Xid(Action.EXCLUDE, "NVLink TLW error"),
    147: Xid(Action.EXCLUDE, "NVLink TREX error"),
    148: Xid(Action.EXCLUDE, "NVLink NVLPW_CTRL error"),
    149: Xid(Action.EXCLUDE, "NVLink NETIR error"),
    150: Xid(Action.EXCLUDE, "NVLink MSE error"),
    155: Xid(Action.RESET_GPU, "NVLink error found by software"),
    156: Xid(Action.RESET_GPU, "resource retirement"),
    158: Xid(Action.RESET_GPU, "GPU fatal timeout"),
    160: Xid(Action.RECORD, "channel retirement"),
    161: Xid(Action.RECORD, "channel retirement failed"),
}


def action_of(code: int, overrides: Mapping[int, Action]) -> Action:
    """What the code asks for; ``overrides`` (setting ``health.xidActions``) come before the table. 0 is no code."""
    if code in overrides:
        return overrides[code]
    known = TABLE.get(code)
    return known.action if known else Action.RECORD


def describe(code: int) -> str:
    """``XID 79 (GPU has fallen off the bus)``; a code without a name stands alone."""
    known = TABLE.get(code)
    return f"XID {code} ({known.name})" if known else f"XID {code}"
